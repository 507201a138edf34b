"""A prior's density is what its file says, and a file that cannot be meant is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer, OrdinalHyperparameter

from naxcli.errors import NaxcliError
from naxcli.search_space.contract import Space, to_configuration
from naxcli.search_space.prior import Prior
from naxcli.settings.prior import parse_prior


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    kind, se = Categorical("kind", ["x", "y", "z"]), Categorical("se", [False, True])
    size, ratio = OrdinalHyperparameter("size", [3, 5, 7]), Categorical("ratio", [0.25, 0.5])
    space.add(kind, se, size, ratio, Float("rate", (1e-4, 1.0), log=True), Integer("depth", (0, 10)))
    space.add(EqualsCondition(ratio, se, True))
    return space


BASE: dict[str, Any] = {"kind": "x", "se": False, "size": 3, "rate": 0.01, "depth": 5}
SPACE = Space(
    name="own",
    configspace=configspace,
    evaluate=lambda config, *, fidelity, seed: 0.0,
    reference={"best": {**BASE, "kind": "z", "depth": 8}},
)


def density(value: Any, **changes: Any) -> float:
    prior = Prior(parse_prior(value), space=SPACE, configuration_space=configspace())
    vector = to_configuration(configspace(), {**BASE, **changes}).get_array()
    return math.exp(prior.log_density(vector[None])[0])


def test_weights_are_relative_and_a_choice_that_is_left_out_weighs_one(tmp_path: Path) -> None:
    file = tmp_path / "prior.toml"
    file.write_text(
        '[hyperparameters]\nkind = { z = 4 }\nsize = { 3 = 0, 7 = 5 }\nratio = { "0.5" = 3 }\nse = { true = 2 }'
    )
    prior = str(file)
    assert density(prior, kind="z") == pytest.approx(4 * density(prior, kind="y"))
    assert density(prior, size=7) == pytest.approx(5 * density(prior, size=5))
    assert 0 < density(prior, size=3) < 0.003 * density(prior, size=5), "results can speak for what has no weight"
    active = [density(prior, se=True, ratio=ratio) for ratio in (0.25, 0.5)]
    assert active[1] == pytest.approx(3 * active[0])
    assert np.mean(active) == pytest.approx(2 * density(prior)), "an inactive hyperparameter is neither good nor bad"


def test_numbers_have_a_normal_density_on_their_own_scale() -> None:
    prior = {"hyperparameters": {"rate": {"centre": 0.01, "width": 10}, "depth": {"centre": 4, "width": 2}}}
    at_centre = density(prior, depth=4)
    assert density(prior, depth=6) == pytest.approx(at_centre * math.exp(-0.5), rel=1e-3)
    for rate in (0.001, 0.1):
        assert density(prior, depth=4, rate=rate) == pytest.approx(at_centre * math.exp(-0.5), rel=1e-3)
    alone = Prior(
        parse_prior({"hyperparameters": {"rate": prior["hyperparameters"]["rate"]}}),
        space=SPACE,
        configuration_space=configspace(),
    )
    vectors = np.tile(to_configuration(configspace(), BASE).get_array(), (401, 1))
    vectors[:, configspace().index_of["rate"]] = np.linspace(0, 1, 401)
    assert np.exp(alone.log_density(vectors)).mean() == pytest.approx(1, rel=0.01), "relative to the uniform density"


def test_a_reference_stands_for_configurations_near_it_unless_the_table_says_otherwise() -> None:
    prior: dict[str, Any] = {"reference": "best"}
    assert density(prior, kind="z") == pytest.approx(6 * density(prior, kind="y")), "0.75 against 0.125"
    assert density(prior, depth=8) > 2 * density(prior, depth=4)
    prior["hyperparameters"] = {"kind": {"y": 2}}
    assert density(prior, kind="y") == pytest.approx(2 * density(prior, kind="z"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "says nothing"),
        ({"confidence": "total", "reference": "best"}, "low, medium or high"),
        ({"reference": "beast"}, "did you mean best"),
        ({"reference": 3}, "reference is 3"),
        ({"kind": {"x": 1}}, "unknown setting kind"),
        ({"hyperparameters": 3}, "they are a table"),
        ({"hyperparameters": {"kinds": {"x": 1}}}, "did you mean kind"),
        ({"hyperparameters": {"kind": "x"}}, "table of numbers"),
        ({"hyperparameters": {"kind": {"x": "much"}}}, "table of numbers"),
        ({"hyperparameters": {"kind": {"w": 1}}}, "weight for w"),
        ({"hyperparameters": {"kind": {"x": -1}}}, "x = -1"),
        ({"hyperparameters": {"kind": {"x": math.nan}}}, "x = nan"),
        ({"hyperparameters": {"kind": {"x": 0, "y": 0, "z": 0}}}, "zero for each"),
        ({"hyperparameters": {"rate": {"centre": 0.01}}}, "centre and width"),
        ({"hyperparameters": {"rate": {"centre": 2, "width": 3}}}, "centre at 2"),
        ({"hyperparameters": {"rate": {"centre": 0.01, "width": 1}}}, "a factor above 1"),
        ({"hyperparameters": {"depth": {"centre": 1, "width": 0}}}, "standard deviation"),
        (3, "setting prior is 3"),
        ("missing.toml", "cannot be read"),
    ],
)
def test_a_prior_that_cannot_be_meant_is_refused(value: Any, message: str) -> None:
    with pytest.raises(NaxcliError) as error:
        Prior(parse_prior(value), space=SPACE, configuration_space=configspace())
    assert message in str(error.value)
