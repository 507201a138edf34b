"""Durations (`3d`, `2d12h`, `90m`, SLURM's `3-00:00:00`), counts (`5M`, `4.5G`) and values as users write and read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from naxcli.errors import NaxcliError

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}


def parse_duration(text: str) -> float:
    """Return seconds of a duration such as `90s`, `10m`, `2d12h` or `3-00:00:00`.

    Raises:
        NaxcliError: For anything else; a plain number is refused because its unit is a guess.
    """
    cleaned = text.strip().lower()
    if slurm := re.fullmatch(r"(?:(\d+)-)?(\d{1,2}):(\d{2})(?::(\d{2}))?", cleaned):
        days, first, second, third = (int(part or 0) for part in slurm.groups())
        # SLURM reads `10:30` as minutes and seconds, but `1-10:30` as hours and minutes.
        has_hours = slurm.group(1) is not None or slurm.group(4) is not None
        hours, minutes, seconds = (first, second, third) if has_hours else (0, first, second)
        return _positive(days * 86_400.0 + hours * 3_600 + minutes * 60 + seconds, text)
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", cleaned)
    if parts and "".join(number + unit for number, unit in parts) == cleaned.replace(" ", ""):
        units = [unit for _, unit in parts]
        if units == sorted(set(units), key="dhms".index):
            return _positive(sum(float(number) * _SECONDS[unit] for number, unit in parts), text)
    if re.fullmatch(r"\d+(\.\d+)?", cleaned):
        raise NaxcliError(f"{text!r} has no unit", hint=f"write {text}s, {text}m, {text}h or {text}d")
    raise NaxcliError(f"{text!r} is not a duration", hint="write 90s, 10m, 3d, 2d12h or 3-00:00:00")


def _positive(seconds: float, text: str) -> float:
    if seconds <= 0:
        raise NaxcliError(f"the duration {text!r} is not longer than zero", hint="write 90s, 10m, 3d or 2d12h")
    return seconds


def format_duration(seconds: float | None) -> str:
    """Return seconds in words of two units at most: `2d 4h`, `3m 20s`, `0.4s`."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f}s"
    total = round(seconds)
    parts: list[str] = []
    for unit, size in _SECONDS.items():
        count, total = divmod(total, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0")) or "0s"


def parse_count(text: str | float, *, what: str) -> float:
    """Return the number in `5M`, `600M`, `4.5G` or a plain number.

    Raises:
        NaxcliError: Naming `what` the number was for.
    """
    if isinstance(text, int | float):
        number = float(text)
    else:
        match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)([kmgbt]?)", text.strip().lower())
        if not match:
            raise NaxcliError(f"{what}: {text!r} is not a count", hint="write 5M, 600M, 4.5G or a plain number")
        number = float(match.group(1)) * _FACTORS[match.group(2)]
    if not number > 0 or not math.isfinite(number):
        raise NaxcliError(f"{what}: {text!r} is not above zero")
    return number


def format_count(number: float | None) -> str:
    """Return a count in three digits: `14.6M`, `1.42G`, `812`."""
    if number is None or not math.isfinite(number):
        return "–"
    for suffix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= factor:
            return f"{number / factor:.3g}{suffix}"
    return f"{number:.3g}"


def counted(number: float, noun: str) -> str:
    """Return a whole number with its noun: `1 trial`, `1,200 trials`."""
    return f"{int(number):,} {noun}" + ("" if number == 1 else "s")


def format_value(value: Any) -> str:
    """Return a value of a configuration, a fidelity or a setting: integers without `.0`, floats in six digits."""
    if hasattr(value, "item"):  # of a table, and NumPy's bool is none
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return str(value)


def format_config(config: Mapping[str, Any]) -> str:
    """Return a configuration on one line."""
    return " ".join(f"{name}={format_value(value)}" for name, value in config.items())
