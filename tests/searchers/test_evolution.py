"""Regularized evolution: children of good and young parents."""

from __future__ import annotations

import numpy as np
from ConfigSpace import Categorical, ConfigurationSpace

from naxcli.records.trial import Config, Suggestion
from naxcli.search_space.contract import Space
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.evolution import EvolutionProposer
from naxcli.searchers.history import History


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    space.add(*(Categorical(name, list(range(5))) for name in "abcdef"))
    return space


def grown(proposer: EvolutionProposer, costs: list[float | None]) -> tuple[History, Candidates]:
    """A history of proposals with these costs, in turn."""
    space = Space(name="bred", configspace=configspace, evaluate=lambda config, **_: 0.0)
    history, candidates = History(), Candidates(space=space, configuration_space=configspace(0))
    for number, cost in enumerate(costs):
        config = proposer.propose(history, candidates, np.random.default_rng(number))
        assert config is not None
        suggestion = Suggestion(config=config, fidelity=1.0, seed=0)
        history.ask(suggestion)
        candidates.claim(config)
        history.tell(suggestion, cost)
    return history, candidates


def distance(first: Config, second: Config) -> int:
    return sum(first[name] != second[name] for name in first)


def children(proposer: EvolutionProposer, history: History, candidates: Candidates, number: int = 20) -> list[Config]:
    proposed = [proposer.propose(history, candidates, np.random.default_rng(1000 + seed)) for seed in range(number)]
    return [config for config in proposed if config is not None]


def test_a_child_differs_from_the_best_of_a_whole_sample_in_one_choice() -> None:
    proposer = EvolutionProposer(population_size=10, sample_size=200)
    history, candidates = grown(proposer, [0.5, 0.6, 0.1, 0.7, 0.8, 0.9, 0.5, 0.6, 0.7, 0.8])
    best = history.told[2].suggestion.config
    assert all(distance(child, best) == 1 for child in children(proposer, history, candidates))


def test_the_oldest_leaves_the_population_however_good_it_is() -> None:
    proposer = EvolutionProposer(population_size=10, sample_size=200)
    history, candidates = grown(proposer, [0.0, 0.2, *[0.9] * 9])
    assert len(history.told) == 11
    second_best = history.told[1].suggestion.config
    assert all(distance(child, second_best) == 1 for child in children(proposer, history, candidates))


def test_failures_are_no_parents() -> None:
    proposer = EvolutionProposer(population_size=4, sample_size=100)
    history, candidates = grown(proposer, [0.5, None, None, None, None, None])
    parent = history.told[0].suggestion.config
    assert all(distance(child, parent) == 1 for child in children(proposer, history, candidates))


def test_a_small_sample_lets_worse_parents_breed() -> None:
    proposer = EvolutionProposer(population_size=10, sample_size=1)
    history, candidates = grown(proposer, [number / 10 for number in range(10)])
    bred = children(proposer, history, candidates, 60)
    parents = [min(history.told, key=lambda told: distance(child, told.suggestion.config)) for child in bred]
    assert len({parent.cost for parent in parents}) > 5


def test_the_first_population_is_random() -> None:
    history, _ = grown(EvolutionProposer(population_size=30, sample_size=5), [0.5] * 30)
    configs = [told.suggestion.config for told in history.told]
    distances = [distance(first, second) for first in configs for second in configs]
    assert np.mean(distances) > 4
