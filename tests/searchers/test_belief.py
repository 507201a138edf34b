"""A prior in a search: what it draws, that it leads where it is right, and that it is dropped where it is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

from naxcli.records.trial import Config, Suggestion
from naxcli.search_space.contract import Space
from naxcli.search_space.prior import Prior
from naxcli.searchers import Asked, Event, Searcher, Told
from naxcli.searchers.belief import Belief
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import History
from naxcli.settings.choices import SEARCHER_MODELS
from naxcli.settings.prior import parse_prior
from tests.searchers.test_smac import (
    LADDER,
    continuous_space,
    discrete_cost,
    discrete_space,
    search,
    smac,
)

ONES = {name: {"1": 20.0} for name in "abcde"}  # the best value of each
TWOS = {name: {"2": 20.0} for name in "abcde"}
NEAR = {"x": {"centre": 0.3, "width": 0.05}, "y": {"centre": 0.01, "width": 1.5}}


def prior(
    hyperparameters: dict[str, Any],
    configspace: Callable[[int | None], ConfigurationSpace] = discrete_space,
    confidence: str = "medium",
) -> Prior:
    settings = parse_prior({"confidence": confidence, "hyperparameters": hyperparameters})
    space = Space(name="own", configspace=configspace, evaluate=discrete_cost)
    return Prior(settings, space=space, configuration_space=configspace(0))


def candidates_of(configspace: Callable[[int | None], ConfigurationSpace]) -> Candidates:
    space = Space(name="own", configspace=configspace, evaluate=discrete_cost)
    return Candidates(space=space, configuration_space=configspace(0))


def test_draws_are_different_and_as_often_as_the_prior_says() -> None:
    drawn = Belief(prior({"a": {"1": 6.0}}), seed=0).draws(candidates_of(discrete_space), 200)
    assert len({tuple(sorted(config.items())) for config in drawn}) == 200
    share = np.mean([config["a"] == 1 for config in drawn])
    assert 0.65 < share < 0.85, "6 of 8"


def test_draws_of_a_continuous_space_are_where_the_prior_is() -> None:
    drawn = Belief(prior(NEAR, continuous_space), seed=0).draws(candidates_of(continuous_space), 30)
    assert np.mean([float(config["x"]) for config in drawn]) == pytest.approx(0.3, abs=0.05)
    assert np.std([float(config["x"]) for config in drawn]) == pytest.approx(0.05, abs=0.03)
    assert np.std([np.log(float(config["y"])) for config in drawn]) == pytest.approx(np.log(1.5), abs=0.25)


@pytest.mark.parametrize("model", SEARCHER_MODELS)
def test_a_right_prior_draws_half_of_the_design_and_leads_from_there(model: str) -> None:
    searcher = smac(discrete_space, seed=4, model=model, prior=prior(ONES))
    configs = search(searcher, discrete_cost, 20)
    num_ones = [sum(config[name] == 1 for name in "abcde") for config in configs]
    assert np.mean(num_ones[1:10:2]) > 3.5, "drawn"
    assert np.mean(num_ones[2:10:2]) < 3, "space-filling"
    assert min(map(discrete_cost, configs)) < 0.25
    assert searcher.notice() == ""


def test_a_wrong_prior_is_dropped_with_a_notice_and_the_search_goes_on_without() -> None:
    def cost(config: Config) -> float:
        return sum(int(config[name]) for name in "abcde") / 10

    searcher = smac(discrete_space, seed=1, prior=prior(TWOS, confidence="high"))
    search(searcher, cost, 9)
    assert searcher.notice() == "", "the design has one more"
    search(searcher, cost, 1)
    assert "prior is dropped" in searcher.notice()
    assert min(map(cost, search(searcher, cost, 15))) == 0


def judged(drawn: list[float | None], others: list[float | None], *, missing: int = 0) -> bool:
    """Return the verdict on results of an initial design."""
    belief, history = Belief(prior(ONES), seed=0), History()
    candidates = candidates_of(discrete_space)
    assert candidates.table is not None
    configs = [candidates.table.config(row) for row in range(len(drawn) + len(others))]
    belief.judge_by(configs[: len(drawn)], configs[len(drawn) :], candidates, num_initial=len(configs))
    suggestions = [Suggestion(config=config, fidelity=1.0, seed=0) for config in configs]
    for suggestion in suggestions:
        history.ask(suggestion)
    told = list(zip(suggestions, [*drawn, *others], strict=True))[: len(configs) - missing]
    for suggestion, cost in told:
        history.tell(suggestion, cost)
    for suggestion, _ in told:  # at the next rung all is different, which does not count
        history.tell(Suggestion(config=suggestion.config, fidelity=3.0, seed=0), 1.0)
    factor = belief.factor(history)
    assert (factor is None) == belief.is_refuted(history)
    return belief.is_refuted(history)


@pytest.mark.parametrize(
    ("drawn", "others", "missing", "expected"),
    [
        ([0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4], 0, True),
        ([0.5, None, 0.7, None], [0.1, 0.2, 0.3, 0.4], 0, True),
        ([0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4], 1, False),  # not all is known
        ([0.35, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4], 0, True),  # p = 0.03
        ([0.1, 0.25, 0.7, 0.8], [0.05, 0.2, 0.3, 0.4], 0, False),  # p = 0.24
        ([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8], 0, False),
        ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], 0, False),
        ([None, None, None, None], [None, None, None, None], 0, False),
        ([0.5, 0.6], [0.1, 0.2], 0, False),  # too few to tell
    ],
)
def test_the_verdict_is_that_of_the_rank_test(
    drawn: list[float | None], others: list[float | None], missing: int, expected: bool
) -> None:
    assert judged(drawn, others, missing=missing) is expected


def test_the_factor_fades_with_the_number_of_results() -> None:
    belief, history, candidates = Belief(prior(ONES), seed=0), History(), candidates_of(discrete_space)
    assert candidates.table is not None
    vectors = candidates.table.vectors()

    def contrast() -> float:
        factor = belief.factor(history)
        assert factor is not None
        return float(np.log(factor(vectors).max() / factor(vectors).min()))

    at_first = contrast()
    for row in range(100):
        history.tell(Suggestion(config=candidates.table.config(row), fidelity=1.0, seed=0), 0.5)
    assert contrast() == pytest.approx(at_first / 10)


@pytest.mark.parametrize("hyperparameters", [ONES, TWOS])
def test_a_resumed_search_with_a_prior_goes_on_exactly(hyperparameters: dict[str, Any]) -> None:
    def made(**options: Any) -> Searcher:
        return smac(discrete_space, fidelity=LADDER, seed=3, prior=prior(hyperparameters), **options)

    events: list[Event] = []

    def step(searcher: Searcher) -> Config:
        suggestion = searcher.ask()
        assert suggestion is not None
        cost = discrete_cost(suggestion.config) + 0.3 / suggestion.fidelity
        searcher.tell(suggestion, cost=cost)
        events.extend([Asked(suggestion=suggestion), Told(suggestion=suggestion, cost=cost)])
        return suggestion.config

    searcher = made()
    for _ in range(20):
        step(searcher)
    state, past = searcher.state(), list(events)
    expected = [step(searcher) for _ in range(4)]
    again = made(history=past, state=state)
    assert [step(again) for _ in range(4)] == expected
    assert re.sub(r"\d", "", again.notice()) == re.sub(r"\d", "", searcher.notice())
