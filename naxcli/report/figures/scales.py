"""Scale: one axis of a figure, with its range and ticks, whichever library draws it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from naxcli.report.text import abridge

# Values closer together than this fraction of their size are one value: costs are shown in four digits.
RESOLUTION = 1e-4
# Width of the axis around one value, as a fraction of its size on each side, and in decades where it is logarithmic.
AROUND_ONE, DECADES_AROUND_ONE = 0.05, 0.5
PADDING = 0.04
MOST_TICKS = 7
# A small panel: characters side by side, characters of a slanted label, and slanted labels.
PANEL_CHARACTERS, SLANTED_CHARACTERS, MOST_NAMES = 24, 12, 14
SLANT = -45

Tick = tuple[float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One axis of a figure.

    Args:
        title: What the axis shows, with its unit.
        low: Value at its beginning; above `high` on an axis of rows that starts at the top.
        high: Value at its end.
        is_log: Whether it is logarithmic.
        is_count: Whether its numbers are counts, written as 2.5M.
        ticks: Values and texts; round numbers if None.
        slant: Angle of the ticks' texts in degrees.
    """

    title: str = ""
    low: float
    high: float
    is_log: bool = False
    is_count: bool = False
    ticks: Sequence[Tick] | None = None
    slant: int = 0

    @property
    def all_ticks(self) -> Sequence[Tick]:
        """The given ticks, or those at round numbers."""
        if self.ticks is not None:
            return self.ticks
        return round_ticks(self.low, self.high, MOST_TICKS, is_log=self.is_log, is_count=self.is_count)


def scale_of(
    title: str,
    values: Iterable[float],
    *,
    is_log: bool = False,
    is_count: bool = False,
    is_whole: bool = False,
    from_zero: bool = False,
    magnitude: float = 0.0,
) -> Scale:
    """Return an axis that holds all finite values, and never zooms into differences that mean nothing.

    Args:
        title: Title of the axis.
        values: All values to be shown, error bars included.
        is_log: Whether the axis is logarithmic; the values are positive then.
        is_count: Whether the values are counts, written as 2.5M.
        is_whole: Whether only whole numbers have a meaning.
        from_zero: Whether the axis starts at zero.
        magnitude: If the values are differences, the size of the quantity that they are differences of.
    """
    given = np.array(list(values), dtype=float)
    given = given[np.isfinite(given)]
    if is_log:
        given = np.log10(given[given > 0])
    if not len(given):
        given = np.zeros(1)
    low, high = float(given.min()), float(given.max())
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    size = max(abs(low), abs(high), magnitude)
    around = DECADES_AROUND_ONE if is_log else AROUND_ONE * size or 0.5
    if is_whole:
        around = max(around, 0.5)
    is_one_value = high - low <= (RESOLUTION if is_log else RESOLUTION * size)
    is_positive = not is_log and low >= 0
    if is_one_value:
        low, high = (low + high) / 2 - around, (low + high) / 2 + around
    pad = PADDING * (high - low)
    low, high = low - pad, high + pad
    # No empty room below zero where nothing can be.
    if is_positive and (from_zero or low < 0):
        low = 0.0
    if is_log:
        low, high = 10.0**low, 10.0**high
    ticks = _linear_ticks(low, high, MOST_TICKS, is_count=is_count, is_whole=True) if is_whole else None
    return Scale(title=title, low=low, high=high, is_log=is_log, is_count=is_count, ticks=ticks)


def rows(names: Sequence[str]) -> Scale:
    """Return an axis with one row per name, the first at the top.

    Rows are numbers: names that are shortened alike stay apart.
    """
    return Scale(low=len(names) - 0.5, high=-0.5, ticks=list(enumerate(names)))


def panel_numbers(values: Sequence[float], *, is_log: bool) -> Scale:
    """Return the horizontal axis of a small panel of numbers, with as many ticks as fit side by side."""
    plain = scale_of("", values, is_log=is_log)
    choices = [round_ticks(plain.low, plain.high, most, is_log=is_log) for most in (5, 4, 3)]
    found = next((ticks for ticks in choices if len(ticks) > 1 and _is_fitting(ticks)), choices[0])
    while len(found) > 2 and not _is_fitting(found):
        found = found[::2]
    return Scale(low=plain.low, high=plain.high, is_log=is_log, ticks=found)


def _is_fitting(ticks: Sequence[Tick]) -> bool:
    return sum(len(text) + 2 for _, text in ticks) <= PANEL_CHARACTERS + 2


def panel_names(names: Sequence[str]) -> Scale:
    """Return the horizontal axis of a small panel of names: side by side where they fit, slanted and shortened where not."""
    is_flat = sum(len(name) + 2 for name in names) <= PANEL_CHARACTERS + 2
    step = 1 if is_flat else math.ceil(len(names) / MOST_NAMES)
    ticks = [
        (float(place), name if is_flat else abridge(name, SLANTED_CHARACTERS))
        for place, name in list(enumerate(names))[::step]
    ]
    return Scale(low=-0.5, high=len(names) - 0.5, ticks=ticks, slant=0 if is_flat else SLANT)


def round_ticks(low: float, high: float, most: int, *, is_log: bool, is_count: bool = False) -> list[Tick]:
    """Return at most about `most` ticks at round numbers between low and high."""
    if is_log:
        for chosen in _decades(low, high):
            if 2 <= len(chosen) <= most:
                return [(value, number_text(value, is_count=is_count)) for value in chosen]
    return _linear_ticks(low, high, most, is_count=is_count, is_whole=False)


def _decades(low: float, high: float) -> Iterator[list[float]]:
    """Yield powers of ten between low and high with fewer and fewer of their multiples, then fewer of the powers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples, step in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), step) for step in range(1, len(powers) + 1))):
        # Through text: 10.0**-5 is 1.0000000000000001e-05.
        values = [float(f"{multiple}e{power}") for power in powers if power % step == 0 for multiple in multiples]
        yield [value for value in values if low <= value <= high]


def _linear_ticks(low: float, high: float, most: int, *, is_count: bool, is_whole: bool) -> list[Tick]:
    rough = (high - low) / max(most - 1, 1)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * size >= rough * (1 - 1e-9))
    if is_whole:
        step = float(max(math.ceil(step), 1))
    places = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step
    return [(float(place), number_text(place, is_count=is_count)) for place in places]


def number_text(value: float, *, is_count: bool = False) -> str:
    """Return a tick's number as people write it: 0.001, 1e-5, and 2.5M where it is a count."""
    number = float(f"{value:.6g}")
    if is_count:
        for suffix, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if abs(number) >= unit:
                return f"{number / unit:.4g}{suffix}".replace("-", "−")
    mantissa, exponent, power = f"{number:.6g}".partition("e")
    return mantissa.replace("-", "−") + (f"e{int(power)}" if exponent else "")
