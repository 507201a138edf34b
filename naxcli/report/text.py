"""Numbers as people read them: costs, accuracies, intervals, counts. A missing number is `n/a`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from naxcli.errors import printable
from naxcli.settings import units as quantities

NOT_AVAILABLE = "n/a"
TIMES = " × "


def is_missing(value: Any) -> bool:
    """Return whether a value of the summary or of a table stands for "not available"."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def decimal(value: Any, digits: int = 3) -> str:
    """Return a number with a fixed number of decimals and a real minus sign, so that columns align."""
    if is_missing(value):
        return NOT_AVAILABLE
    number = float(value)
    if not math.isfinite(number):
        return str(number)
    text = f"{number:.{digits}f}" if abs(number) < 1e6 else f"{number:.3e}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−", 1) if text.startswith("-") else text


def signed(value: Any, digits: int = 3) -> str:
    """Return a difference with its sign."""
    text = decimal(value, digits)
    return text if text.startswith("−") or is_missing(value) or float(value) == 0 else f"+{text}"


def percent(value: Any, digits: int = 2) -> str:
    """Return a fraction as a percentage."""
    return NOT_AVAILABLE if is_missing(value) else f"{decimal(100 * float(value), digits)} %"


def cost_and_accuracy(cost: Any, *, is_error_rate: bool) -> str:
    """Return a cost, with the accuracy that it stands for where it is 1 - accuracy."""
    if is_missing(cost) or not is_error_rate:
        return decimal(cost, 4)
    return f"{decimal(cost, 4)} (accuracy {percent(1 - float(cost))})"


def plus_minus(mean: Any, std: Any, digits: int = 3) -> str:
    """Return `mean ± std`, or the mean alone where there is no spread."""
    return (
        decimal(mean, digits)
        if is_missing(mean) or is_missing(std)
        else f"{decimal(mean, digits)} ± {decimal(std, digits)}"
    )


def interval(low: Any, high: Any, digits: int = 3) -> str:
    """Return `[low, high]`."""
    if is_missing(low) or is_missing(high):
        return NOT_AVAILABLE
    return f"[{decimal(low, digits)}, {decimal(high, digits)}]"


def whole(value: Any) -> str:
    """Return a count with thin separators between thousands."""
    return NOT_AVAILABLE if is_missing(value) else f"{int(value):,}"


def counted(value: Any, noun: str) -> str:
    """Return a count with its noun: `1 trial`, `1,200 trials`."""
    return f"{NOT_AVAILABLE} {noun}s" if is_missing(value) else quantities.counted(value, noun)


def plain(value: Any) -> str:
    """Return a value of a configuration, a fidelity or a setting: integers without `.0`, floats in six digits."""
    return NOT_AVAILABLE if is_missing(value) else quantities.format_value(value)


def with_unit(value: Any, unit: str) -> str:
    """Return a fidelity with its unit: `27 epochs`, `1 epoch`, `fidelity 0.5`."""
    if unit == "epochs":
        return f"{plain(value)} epoch" + ("" if value == 1 else "s")
    return f"{unit} {plain(value)}"


def names_of(effect: Mapping[str, Any]) -> str:
    """Return the name of a main effect or of an interaction."""
    return TIMES.join(str(name) for name in effect["names"])


def sentence(text: str) -> str:
    """Return text with a capital at its start and a full stop at its end."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


def shorten(text: str, length: int) -> str:
    """Return text in one line of at most `length` characters."""
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def abridge(text: str, length: int) -> str:
    """Return text in one line of at most `length` characters, for a figure: cut in its middle, since names often differ at the end only.

    Control characters, which some renderers refuse, are made visible.
    """
    line = printable(" ".join(str(text).split()))
    if len(line) <= length:
        return line
    start = length // 2
    return f"{line[:start]}…{line[len(line) - (length - start - 1) :]}"
