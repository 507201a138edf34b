"""Spaces made of a plain list of encodings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from naxcli import Space
from naxcli.commands.space import _definition_of, sample_suggested, validate_space
from naxcli.errors import NaxcliError
from naxcli.export import ExportRequest
from naxcli.export.python import check
from naxcli.search.feasibility import Feasibility
from naxcli.search_space.contract import space_source
from naxcli.search_space.enumeration import enumerate_configurations
from naxcli.settings.limits import Limits

LISTED = [(3, "a", 1), (1, "a", 1), (1, "b", 2), (2, "b", 1)]


def test_a_list_is_a_space_of_its_encodings_alone_beginning_with_the_first() -> None:
    space = Space.from_encodings(LISTED, evaluate=lambda encoding: float(encoding[0]), name="listed")
    table = enumerate_configurations(space.configuration_space(0))
    assert table is not None
    is_allowed = Feasibility(space, Limits(), width=1.0, shape=None)
    configs = [table.config(row) for row in range(len(table))]
    allowed = [config for config in configs if is_allowed(config)]
    assert len(configs) == 3 * 2 * 2
    assert sorted(tuple(config.values()) for config in allowed) == sorted(LISTED)
    assert space.default_config() == {"x0": 3, "x1": "a", "x2": 1}
    assert space.evaluate is not None
    assert space.evaluate({"x0": 2, "x1": "b", "x2": 1}, fidelity=1.0, seed=0) == 2.0


def test_only_what_is_listed_is_sampled_and_validated() -> None:
    def build(encoding: tuple[int, str, int], num_classes: int) -> torch.nn.Module:
        assert encoding in LISTED
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(num_classes))

    space = Space.from_encodings(LISTED, build, name="listed")
    sampled = sample_suggested(space, 30, seed=0)
    assert len(sampled) == 30 and {tuple(config.values()) for config in sampled} == set(LISTED)
    checks = list(validate_space(space, number=10, seed=0))
    assert all(check.is_good for check in checks), checks
    assert checks[-1].name == "build, forward and backward: 11 of 11 configurations"


def test_a_space_whose_constraints_allow_nothing_is_not_valid() -> None:
    space = Space(
        name="none",
        configspace=Space.from_encodings(LISTED, name="listed", evaluate=float).configspace,
        evaluate=lambda config, **_: 0.0,
        constraints=[lambda config: False],
    )
    assert sample_suggested(space, 3, seed=0) == []
    assert [check.name for check in validate_space(space, number=3, seed=0) if not check.is_good] == ["constraints"]


def test_a_builder_gets_the_encoding_as_it_was_given_and_the_sizes_that_it_asks_for() -> None:
    def build(encoding: Any, num_classes: int) -> Any:
        return encoding, num_classes

    space = Space.from_encodings(["01", "10", "00", "11"], build, name="texts", positions=("first", "second"))
    assert not space.constraints
    assert space.build is not None
    config = {"first": "1", "second": "0"}
    assert space.build(config, num_classes=7, in_channels=3, image_size=32) == ("10", 7)


@pytest.mark.parametrize(
    ("encodings", "positions", "what"),
    [
        ([], (), "are none"),
        ([(1, 2), (1,)], (), "not of one length"),
        ([(1, 2), (1, 2)], (), "same one twice"),
        ([(1, (2,))], (), "hold"),
        ([(1, [2])], (), "hold"),
        (np.zeros((2, 2, 2)), (), "hold"),
        ([1, 2], (), "not a list of sequences"),
        (3, (), "not a list of sequences"),
        ([(1, 2)], ("only",), "2 positions"),
        ([[row == column for column in range(30)] for row in range(30)], (), "30 of 1,073,741,824 combinations"),
    ],
)
def test_what_is_no_list_of_encodings_is_refused(encodings: Any, positions: Any, what: str) -> None:
    with pytest.raises(NaxcliError, match=what):
        Space.from_encodings(encodings, evaluate=lambda encoding: 0.0, name="wrong", positions=positions)


def failing(encoding: Any) -> Any:
    raise ZeroDivisionError("division by zero")


def test_errors_of_an_encodings_functions_name_the_authors_line() -> None:
    space = Space.from_encodings(LISTED, failing, evaluate=failing, zero_cost=failing, name="listed")
    line = failing.__code__.co_firstlineno
    with pytest.raises(NaxcliError, match="zero_cost of space 'listed' raised ZeroDivisionError") as error:
        space.cheap_metrics(space.default_config())
    assert error.value.hint == f"see line {line + 1} of {__file__}"
    assert space_source(space) == Path(__file__)
    for function in (space.build, space.evaluate):
        assert _definition_of(function) == f"failing is at line {line} of {__file__}"


def test_networks_of_encodings_are_not_written_as_python(tmp_path: Path) -> None:
    space = Space.from_encodings(LISTED, failing, name="listed")
    request = ExportRequest(
        space=space,
        config=space.default_config(),
        format="python",
        out=tmp_path / "out",
        num_classes=5,
        in_channels=1,
        image_size=8,
    )
    with pytest.raises(NaxcliError, match="cannot be written as Python") as error:
        check(request)
    assert "encoding" in error.value.why
