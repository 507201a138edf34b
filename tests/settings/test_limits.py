"""Limits: bands of sizes."""

from __future__ import annotations

import pytest

from naxcli.errors import NaxcliError
from naxcli.settings.limits import Limits


def test_a_band_has_two_ends_and_latency_is_not_counted_before_training() -> None:
    limits = Limits(min_flops=190e6, max_flops=230e6, max_latency_ms=5)
    assert [(bound.name, bound.quantity, bound.is_upper, bound.value) for bound in limits.before_training()] == [
        ("min_flops", "flops", False, 190e6),
        ("max_flops", "flops", True, 230e6),
    ]
    assert limits and not Limits() and [bound.name for bound in Limits(max_latency_ms=5).bounds()] == ["max_latency_ms"]


def test_a_band_whose_ends_are_the_wrong_way_round_is_refused() -> None:
    Limits(min_params=5, max_params=5)
    with pytest.raises(NaxcliError, match="min_params = 6 and max_params = 5"):
        Limits(min_params=6, max_params=5)
