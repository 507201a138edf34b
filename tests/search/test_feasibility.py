"""Bands of sizes, on a space whose sizes are its hyperparameters."""

from __future__ import annotations

import re

import pytest
from ConfigSpace import ConfigurationSpace, Integer

from naxcli.errors import NaxcliError
from naxcli.search.feasibility import Feasibility
from naxcli.search_space.contract import Space
from naxcli.settings.limits import Limits


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    space.add(Integer("params", (0, 1_000)), Integer("flops", (0, 1_000)))
    return space


def feasibility(limits: Limits) -> Feasibility:
    space = Space(
        name="sizes",
        configspace=configspace,
        evaluate=lambda config, *, fidelity, seed: 0.0,
        # What costs few multiply-adds has many parameters.
        zero_cost=lambda config: {"num_params": config["params"], "flops": 1_000 - config["params"]},
    )
    return Feasibility(space, limits, width=1.0, shape=None)


def test_a_band_refuses_what_is_below_and_above_it() -> None:
    allows = feasibility(Limits(min_params=300, max_params=400))
    assert [allows({"params": n, "flops": 0}) for n in (0, 299, 300, 400, 401)] == [False, False, True, True, False]


def test_a_narrow_band_is_found_from_its_neighbours() -> None:
    feasibility(Limits(min_params=321, max_params=323)).require_one(seed=0)


@pytest.mark.parametrize(
    ("limits", "why", "hint"),
    [
        (Limits(min_params=2_000), "min_params = 2k: it refused .* whose largest value is", "lower this limit"),
        (
            Limits(min_params=700, min_flops=400),
            "min_(params|flops) = .* refused .*, min_(params|flops) = .* refused",
            "widen",
        ),
    ],
)
def test_limits_that_leave_nothing_are_named_with_the_way_out(limits: Limits, why: str, hint: str) -> None:
    with pytest.raises(NaxcliError) as caught:
        feasibility(limits).require_one(seed=0)
    assert re.search(why, caught.value.why), caught.value.why
    assert hint in caught.value.hint


def test_each_configuration_that_is_refused_counts_once() -> None:
    def three(seed: int | None = None) -> ConfigurationSpace:
        space = ConfigurationSpace(seed=seed)
        space.add(Integer("params", (1, 3)))
        return space

    space = Space(
        name="three",
        configspace=three,
        evaluate=lambda config, *, fidelity, seed: 0.0,
        zero_cost=lambda config: {"num_params": config["params"]},
    )
    with pytest.raises(NaxcliError) as caught:
        Feasibility(space, Limits(min_params=9), width=1.0, shape=None).require_one(seed=0)
    assert "it refused 3 of 3 configurations tried" in caught.value.why
