from __future__ import annotations

import pytest

from naxcli.errors import NaxcliError
from naxcli.settings.units import format_count, format_duration, parse_count, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("3d", 259_200),
        ("2d12h", 216_000),
        ("1.5h", 5_400),
        ("3-00:00:00", 259_200),
        ("01:30:00", 5_400),
        ("10:30", 630),
        ("1-12:30", 131_400),
        ("2D12H", 216_000),
        ("2d 12h", 216_000),
    ],
)
def test_durations_are_read_as_users_and_slurm_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "3x", "d3", "12h2d", "1h1h", "-3d", "0s", "three days", "nan", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(NaxcliError):
        parse_duration(text)


def test_a_plain_number_is_refused_with_its_units_as_hint() -> None:
    with pytest.raises(NaxcliError) as refused:
        parse_duration("90")
    assert "90s" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "number"), [("5M", 5e6), ("600M", 6e8), ("4.5G", 4.5e9), ("12", 12), ("2k", 2e3), ("1e6", 1e6)]
)
def test_counts_are_read_with_their_suffix(text: str, number: float) -> None:
    assert parse_count(text, what="n") == number


@pytest.mark.parametrize("text", ["", "M", "5X", "-5M", "0"])
def test_what_is_no_count_is_refused_by_name(text: str) -> None:
    with pytest.raises(NaxcliError, match="max_params"):
        parse_count(text, what="max_params")


def test_formats_are_short() -> None:
    assert format_duration(3 * 86_400 + 3_600) == "3d 1h"
    assert format_duration(61) == "1m 1s"
    assert format_duration(3_600) == "1h"
    assert format_duration(None) == "–"
    assert format_count(14_600_000) == "14.6M"
