"""Local search: to better neighbours, and from a local optimum to a random start."""

from __future__ import annotations

import itertools
import random

import numpy as np
from ConfigSpace import Categorical, ConfigurationSpace, OrdinalHyperparameter

from naxcli.records.trial import Config, Suggestion, config_id
from naxcli.search_space.contract import Space
from naxcli.searchers import Asked, Event, FidelityRange, Searcher, Told, make_searcher
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import History
from naxcli.searchers.local import LocalProposer


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    space.add(*(Categorical(name, list(range(4))) for name in "abcd"), OrdinalHyperparameter("e", [1, 2, 3, 4, 5]))
    return space


class Search:
    """A search whose results are told one at a time."""

    def __init__(self) -> None:
        space = Space(name="hills", configspace=configspace, evaluate=lambda config, **_: 0.0)
        self.history = History()
        self.candidates = Candidates(space=space, configuration_space=configspace(0))
        self.proposer = LocalProposer(seed=0)

    def ask(self) -> Suggestion:
        rng = np.random.default_rng(len(self.history.asked))
        config = self.proposer.propose(self.history, self.candidates, rng)
        assert config is not None
        suggestion = Suggestion(config=config, fidelity=1.0, seed=0)
        self.history.ask(suggestion)
        self.candidates.claim(config)
        return suggestion

    def step(self, cost: float | None) -> Config:
        suggestion = self.ask()
        self.history.tell(suggestion, cost)
        return suggestion.config


def distance(first: Config, second: Config) -> int:
    return sum(first[name] != second[name] for name in first)


def is_neighbour(first: Config, second: Config) -> bool:
    return distance(first, second) == 1 and abs(int(first["e"]) - int(second["e"])) <= 1


def test_neighbours_of_the_start_come_until_one_is_better_and_then_that_ones() -> None:
    search = Search()
    start = search.step(0.5)
    worse = [search.step(0.6), search.step(0.5), search.step(None)]
    better = search.step(0.4)
    assert all(is_neighbour(start, config) for config in (*worse, better))
    assert all(is_neighbour(better, search.step(0.9)) for _ in range(5))


def test_a_local_optimum_is_left_for_a_random_start_when_all_its_neighbours_are_known() -> None:
    search = Search()
    start = search.step(0.1)
    tried = list(itertools.takewhile(lambda config: is_neighbour(start, config), (search.step(0.5) for _ in range(30))))
    assert len(tried) == 12 + (1 if start["e"] in (1, 5) else 2)
    restart = search.history.asked[-1].config  # told a higher cost than the optimum's, and still what is climbed from
    assert distance(start, restart) > 1
    assert all(is_neighbour(restart, search.step(0.6)) for _ in range(5))


def test_workers_that_ask_at_once_start_climbs_and_go_on_with_the_best() -> None:
    search = Search()
    starts = [search.ask() for _ in range(3)]
    for suggestion, cost in zip(starts, (0.5, 0.2, 0.4), strict=True):
        search.history.tell(suggestion, cost)
    asked = [search.ask() for _ in range(6)]
    assert all(is_neighbour(starts[1].config, suggestion.config) for suggestion in asked)


def test_a_better_result_that_comes_late_is_still_moved_to() -> None:
    search = Search()
    search.step(0.5)
    first, late = search.ask(), search.ask()
    search.history.tell(first, 0.4)
    search.history.tell(late, 0.3)
    assert is_neighbour(late.config, search.step(0.9))


def test_a_resumed_search_goes_on_exactly_where_costs_are_equal_and_results_come_in_any_order() -> None:
    def small(seed: int | None = None) -> ConfigurationSpace:
        space = ConfigurationSpace(seed=seed)
        space.add(*(Categorical(name, [0, 1, 2]) for name in "abcd"))
        return space

    def searcher(history: list[Event]) -> Searcher:
        return make_searcher(
            "local",
            space=Space(name="small", configspace=small, evaluate=lambda config, **_: 0.0),
            configuration_space=small(0),
            fidelity=FidelityRange(min=1, max=1),
            seed=0,
            max_in_flight=4,
            history=history,
        )

    for seed in (0, 3, 4):
        rng, live, events = random.Random(seed), searcher([]), list[Event]()
        for number in range(45):
            resumed = searcher(events).ask() if number % 2 else None
            suggestion = live.ask()
            assert suggestion is not None
            assert resumed in (None, suggestion)
            events.append(Asked(suggestion=suggestion))
            while len(live.in_flight) == 4 or (live.in_flight and rng.random() < 0.4):
                finished = rng.choice(live.in_flight)
                cost = random.Random(f"{seed}{config_id(finished.config)}").randrange(4) / 10
                live.tell(finished, cost=cost)
                events.append(Told(suggestion=finished, cost=cost))
