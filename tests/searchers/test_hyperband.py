"""Fidelities and Hyperband: brackets of the paper, promotions of successive halving, no idle worker."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from ConfigSpace import Categorical, ConfigurationSpace
from hypothesis import given, settings
from hypothesis import strategies as st

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config, Suggestion, config_id
from naxcli.search_space.contract import Space
from naxcli.searchers import FidelityRange, make_searcher
from naxcli.searchers.history import Told
from naxcli.searchers.hyperband import Hyperband


def large_space(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    space.add(*(Categorical(name, [0, 1, 2, 3]) for name in "abcdef"))
    return space


def cost_of(config: Config, fidelity: float) -> float:
    return (
        sum(int(value) for value in config.values()) / 20
        + random.Random(config_id(config)).random() / 10
        + 1 / fidelity
    )


class Driver:
    """A Hyperband schedule fed with numbered configurations, and the trials it starts."""

    def __init__(self, text: str, promotion: str = "hyperband") -> None:
        self.schedule = Hyperband(FidelityRange.parse(text), promotion)
        self.asked: list[Suggestion] = []
        self.running: list[Suggestion] = []

    def ask(self, *, is_exhausted: bool = False) -> Suggestion | None:
        suggestion = self.schedule.promotion(is_exhausted=is_exhausted)
        if suggestion is None and not is_exhausted:
            place = self.schedule.place()
            suggestion = Suggestion(
                config={"number": len(self.asked)},
                fidelity=place.fidelity,
                seed=0,
                bracket=place.bracket,
                rung=place.rung,
            )
        if suggestion is not None:
            self.schedule.ask(suggestion)
            self.asked.append(suggestion)
            self.running.append(suggestion)
        return suggestion

    def tell(self, suggestion: Suggestion, cost: float | None) -> None:
        self.running.remove(suggestion)
        self.schedule.tell(Told(suggestion=suggestion, cost=cost))

    def sizes(self) -> dict[int, dict[float, int]]:
        """Number of trials per bracket and fidelity."""
        sizes: dict[int, Counter[float]] = defaultdict(Counter)
        for suggestion in self.asked:
            assert suggestion.bracket is not None
            sizes[suggestion.bracket][suggestion.fidelity] += 1
        return {bracket: dict(counts) for bracket, counts in sizes.items()}


# Fidelities


@pytest.mark.parametrize(
    ("text", "rungs"),
    [
        ("3:27:3", (3.0, 9.0, 27.0)),
        ("1:81:3", (1.0, 3.0, 9.0, 27.0, 81.0)),
        ("1:1024:4", (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)),
        ("9", (9.0,)),
        ("5:5:3", (5.0,)),
        ("0.5:4:2", (0.5, 1.0, 2.0, 4.0)),
    ],
)
def test_rungs_are_exact(text: str, rungs: tuple[float, ...]) -> None:
    assert FidelityRange.parse(text).rungs() == rungs


@given(minimum=st.integers(1, 50), eta=st.integers(2, 5), steps=st.integers(0, 5))
def test_whole_epochs_stay_whole_on_every_rung(minimum: int, eta: int, steps: int) -> None:
    rungs = FidelityRange(min=minimum, max=minimum * eta**steps, eta=eta).rungs()
    assert rungs == tuple(minimum * eta**step for step in range(steps + 1))


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("3:20:3", ["3:9:3", "3:27:3"]), ("2:100:3", ["2:54:3", "2:162:3"]), ("1:2:3", ["1:1:3", "1:3:3"])],
)
def test_a_maximum_that_is_no_power_away_is_refused_with_the_nearest_legal_ones(text: str, nearest: list[str]) -> None:
    with pytest.raises(NaxcliError) as error:
        FidelityRange.parse(text)
    assert all(legal in error.value.hint for legal in nearest)
    assert all(FidelityRange.parse(legal) for legal in nearest)


@pytest.mark.parametrize(
    "text", ["27:3:3", "0:9:3", "-1:9:3", "1:9:1", "1:9", "a:b:c", "", "1:9:3:1", "nan", "1:inf:3", "1:9:2.5"]
)
def test_what_is_not_a_range_is_refused(text: str) -> None:
    with pytest.raises(NaxcliError):
        FidelityRange.parse(text)


# Brackets


def test_bracket_sizes_are_those_of_the_papers_algorithm() -> None:
    """R = 81, η = 3: n = ceil((s_max + 1) / (s + 1) · η^s) configurations, then n·η^-i."""
    driver = Driver("1:81:3")
    while len(driver.sizes()) < 6:
        suggestion = driver.ask()
        assert suggestion is not None
        driver.tell(suggestion, suggestion.config["number"])  # type: ignore[arg-type]
    sizes = driver.sizes()
    assert [sizes[bracket] for bracket in range(5)] == [
        {1: 81, 3: 27, 9: 9, 27: 3, 81: 1},
        {3: 34, 9: 11, 27: 3, 81: 1},
        {9: 15, 27: 5, 81: 1},
        {27: 8, 81: 2},
        {81: 5},
    ]
    assert list(sizes[5]) == [1], "and then from the start again"


@pytest.mark.parametrize(
    ("promotion", "text", "sizes"),
    [
        ("tapered", "2:50:5", {2: 25, 10: 10, 50: 2}),
        ("tapered", "1:9:3", {1: 9, 3: 4, 9: 1}),
        ("tapered", "1:27:3", {1: 27, 3: 11, 9: 4, 27: 1}),
        ("tapered", "1:8:2", {1: 8, 2: 4, 4: 2, 8: 1}),
        ("tapered", "1:27:27", {1: 27, 27: 5}),
        ("tapered", "9", {9: 1}),
        ("halving", "2:50:5", {2: 25, 10: 10, 50: 4}),
        ("halving", "1:9:3", {1: 9, 3: 4, 9: 1}),
        ("halving", "1:27:3", {1: 27, 3: 11, 9: 4, 27: 2}),
        ("halving", "1:8:2", {1: 8, 2: 4, 4: 2, 8: 1}),
        ("halving", "1:27:27", {1: 27, 27: 11}),
    ],
)
def test_two_fifths_of_a_rung_go_on_or_half_where_eta_is_two_and_a_fifth_to_the_highest_where_tapered(
    promotion: str, text: str, sizes: dict[float, int]
) -> None:
    driver = Driver(text, promotion)
    while len(driver.sizes()) < 3:
        suggestion = driver.ask()
        assert suggestion is not None
        driver.tell(suggestion, suggestion.config["number"])  # type: ignore[arg-type]
    assert [driver.sizes()[bracket] for bracket in range(2)] == [sizes, sizes]


@pytest.mark.parametrize("promotion", ["tapered", "halving"])
def test_a_bracket_makes_do_with_the_configurations_there_are(promotion: str) -> None:
    driver = Driver("2:50:5", promotion)
    for _ in range(6):
        suggestion = driver.ask()
        assert suggestion is not None
        driver.tell(suggestion, suggestion.config["number"])  # type: ignore[arg-type]
    order = []
    while len(order) < 3 and (suggestion := driver.ask(is_exhausted=True)) is not None:
        order.append((suggestion.config["number"], suggestion.fidelity))
        driver.tell(suggestion, suggestion.config["number"])  # type: ignore[arg-type]
    assert order == [(0, 10.0), (1, 10.0), (0, 50.0)]


def test_suggestions_carry_their_bracket_and_the_index_of_their_fidelity() -> None:
    driver = Driver("3:27:3")
    for _ in range(60):
        suggestion = driver.ask()
        assert suggestion is not None
        assert suggestion.fidelity == (3.0, 9.0, 27.0)[suggestion.rung or 0]
        driver.tell(suggestion, random.Random(str(suggestion.config)).random())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), num_workers=st.integers(1, 20), failure_rate=st.sampled_from([0.0, 0.0, 0.2, 0.9]))
def test_the_promoted_are_the_best_of_their_rung_whatever_the_order_of_results(
    seed: int, num_workers: int, failure_rate: float
) -> None:
    rng = random.Random(seed)
    driver = Driver("1:9:3")
    costs: dict[tuple[int, float], float | None] = {}
    for _ in range(150):
        while len(driver.running) < num_workers:
            assert driver.ask() is not None, "never idle while a trial could run"
        finished = rng.choice(driver.running)
        cost = None if rng.random() < failure_rate else rng.random()
        costs[finished.config["number"], finished.fidelity] = cost  # type: ignore[index]
        driver.tell(finished, cost)
    for bracket in range(max(suggestion.bracket or 0 for suggestion in driver.asked) - 20):
        members = [suggestion for suggestion in driver.asked if suggestion.bracket == bracket]
        for lower, higher in ((1.0, 3.0), (3.0, 9.0)):
            on_lower = [costs.get((s.config["number"], lower)) for s in members if s.fidelity == lower]  # type: ignore[arg-type]
            promoted = [
                costs[s.config["number"], lower]
                for s in members
                if s.fidelity == higher and s in driver.asked and (s.config["number"], lower) in costs
            ]  # type: ignore[index]
            finite = sorted(cost for cost in on_lower if cost is not None)
            assert sorted(promoted) == finite[: len(promoted)]  # type: ignore[type-var]


def test_a_promotion_does_not_wait_for_results_that_cannot_change_it() -> None:
    """Of nine the best three go up: seven results are in, so the best one is among them whatever the other two are."""
    driver = Driver("1:9:3")
    first_rung = [driver.ask() for _ in range(9)]
    for number, suggestion in enumerate(first_rung[:6]):
        assert suggestion is not None
        driver.tell(suggestion, 0.1 * number)
    assert driver.schedule.promotion(is_exhausted=False) is None
    assert first_rung[6] is not None
    driver.tell(first_rung[6], 0.9)
    promoted = driver.ask()
    assert promoted is not None and first_rung[0] is not None
    assert (promoted.config, promoted.fidelity) == (first_rung[0].config, 3.0)
    following = driver.ask()
    assert following is not None and following.bracket == 1, "the second best may still be overtaken by two"


def test_a_failed_configuration_is_not_promoted_even_if_places_stay_empty() -> None:
    driver = Driver("1:9:3")
    for suggestion in [driver.ask() for _ in range(9)]:
        assert suggestion is not None
        driver.tell(suggestion, 0.5 if suggestion.config["number"] == 4 else None)
    promoted = driver.ask()
    assert promoted is not None and promoted.config == {"number": 4}
    following = driver.ask()
    assert following is not None and following.bracket == 1
    driver.tell(promoted, 0.4)
    final = driver.ask()
    assert final is not None and (final.config, final.fidelity) == ({"number": 4}, 9.0)


def test_a_promotion_has_the_configuration_and_the_seed_of_the_rung_below() -> None:
    space = Space(name="large", configspace=large_space, evaluate=cost_of)
    searcher = make_searcher(
        "smac",
        space=space,
        configuration_space=large_space(0),
        fidelity=FidelityRange.parse("3:27:3"),
        seed=4,
        max_in_flight=8,
        promotion="hyperband",
    )
    seen: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for _ in range(60):
        while (suggestion := searcher.ask()) is not None:
            seen[config_id(suggestion.config)].append((suggestion.fidelity, suggestion.seed))
        finished = searcher.in_flight[3]
        searcher.tell(finished, cost=cost_of(finished.config, finished.fidelity))
    ladders = {tuple(fidelity for fidelity, _ in trials) for trials in seen.values()}
    assert {(3.0,), (3.0, 9.0), (3.0, 9.0, 27.0), (9.0,), (9.0, 27.0), (27.0,)} == ladders
    assert {seed for trials in seen.values() for _, seed in trials} == {4}


def test_when_configurations_run_out_the_best_of_what_was_left_behind_get_more() -> None:
    driver = Driver("1:3:3")
    for number in range(2):
        suggestion = driver.ask()
        assert suggestion is not None
        driver.tell(suggestion, [0.9, 0.2][number])
    order = []
    while (suggestion := driver.ask(is_exhausted=True)) is not None:
        order.append((suggestion.config["number"], suggestion.fidelity))
        driver.tell(suggestion, 0.5)
    assert order == [(1, 3.0), (0, 3.0)]


@pytest.mark.parametrize("is_misleading", [True, False])
def test_the_model_learns_from_the_highest_fidelity_with_enough_results(is_misleading: bool) -> None:
    """Where the fidelities disagree, proposals follow the highest."""

    def cost(config: Config, fidelity: float) -> float:
        wanted = 3 if fidelity == 9 or not is_misleading else 0
        return (
            sum(abs(int(value) - wanted) for value in config.values()) / 20
            + random.Random(config_id(config)).random() / 50
        )

    space = Space(name="large", configspace=large_space, evaluate=cost)
    told = [
        Told(suggestion=Suggestion(config=config, fidelity=fidelity, seed=0), cost=cost(config, fidelity))
        for fidelity in (1.0, 3.0, 9.0)
        for config in sampled(60 if fidelity < 9 else 40)
    ]
    searcher = make_searcher(
        "smac",
        space=space,
        configuration_space=large_space(0),
        fidelity=FidelityRange.parse("1:9:3"),
        seed=0,
        max_in_flight=100,
        history=told,
    )
    suggestions = [searcher.ask() for _ in range(30)]
    by_model = [sum(int(value) for value in s.config.values()) for s in suggestions[10:] if s is not None]
    assert sum(total > 10 for total in by_model) > 12


def sampled(number: int) -> list[Config]:
    from naxcli.search_space.enumeration import sample_configs

    return list(sample_configs(large_space(0), number, seed=number))


def test_several_objectives_over_several_fidelities_are_refused_with_the_reason() -> None:
    space = Space(name="large", configspace=large_space, evaluate=cost_of)
    with pytest.raises(NaxcliError, match="several objectives") as error:
        make_searcher(
            "smac",
            space=space,
            configuration_space=large_space(0),
            fidelity=FidelityRange.parse("3:27:3"),
            seed=0,
            num_objectives=2,
        )
    assert "rung" in error.value.why


def test_several_objectives_spread_over_the_front() -> None:
    """One objective wants zeros, the other threes: proposals reach both ends, which one weighting would not."""

    def costs(config: Config) -> tuple[float, float]:
        total = sum(int(value) for value in config.values())
        return total / 18, 1000 * (1 - total / 18)

    space = Space(name="large", configspace=large_space, evaluate=cost_of)
    searcher = make_searcher(
        "smac",
        space=space,
        configuration_space=large_space(0),
        fidelity=FidelityRange.parse("5"),
        seed=0,
        num_objectives=2,
    )
    totals = []
    for number in range(70):
        suggestion = searcher.ask()
        assert suggestion is not None
        totals.append(sum(int(value) for value in suggestion.config.values()))
        searcher.tell(suggestion, cost=None if number % 10 == 3 else costs(suggestion.config))
    assert min(sum(total <= 4 for total in totals), sum(total >= 14 for total in totals)) >= 5, "3 of 70 at random"
    assert sum(abs(total - 9) >= 5 for total in totals) >= 15
