"""The contract of every searcher."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    Integer,
    OrdinalHyperparameter,
)

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config, Suggestion, config_id
from naxcli.search_space.contract import Space, to_configuration
from naxcli.search_space.enumeration import enumerate_configurations
from naxcli.searchers import Asked, Event, FidelityRange, Searcher, Told, make_searcher
from naxcli.settings.choices import SEARCHERS

OWN = f"{Path(__file__).with_name('annealing.py')}:Annealing"
SINGLE = FidelityRange(min=9, max=9)
LADDER = FidelityRange(min=1, max=9, eta=3)
EVERY_SEARCHER = [pytest.param(name, SINGLE, id=name) for name in SEARCHERS] + [
    pytest.param(OWN, SINGLE, id="own"),
    pytest.param("smac", LADDER, id="hyperband"),
    pytest.param("ensemble", LADDER, id="ensemble-of-a-ladder"),
    pytest.param("random", LADDER, id="random-of-a-ladder"),
]
every_searcher = pytest.mark.parametrize(("name", "fidelity"), EVERY_SEARCHER)


@pytest.fixture(autouse=True)
def quick_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small forest and few samples: the contract does not depend on how good the model is."""
    monkeypatch.setattr("naxcli.searchers.smac.NUM_TREES", 4)
    for name, value in {"NUM_MEMBERS": 3, "NUM_UNITS": 16, "FITTING_STEPS": 15}.items():
        monkeypatch.setattr(f"naxcli.searchers.ensemble.{name}", value)
    monkeypatch.setattr("naxcli.searchers.acquisition.NUM_SAMPLES", 300)
    monkeypatch.setattr("naxcli.searchers.candidates.SAMPLES", 1000)


def conditional_space(seed: int | None = None) -> ConfigurationSpace:
    """588 configurations: two switches with children of their own, and a forbidden pair."""
    space = ConfigurationSpace(seed=seed)
    block, kernel = Categorical("block", ["conv", "attention"]), OrdinalHyperparameter("kernel", [3, 5, 7])
    heads, depth = Integer("heads", (1, 4)), OrdinalHyperparameter("depth", [1, 2, 3, 4, 5, 6])
    norm, se = Categorical("norm", ["batch", "layer"]), Categorical("se", [False, True])
    ratio, stem = Categorical("ratio", [4, 8, 16]), Categorical("stem", ["conv", "patch"])
    space.add(block, kernel, heads, depth, norm, se, ratio, stem)
    space.add(EqualsCondition(kernel, block, "conv"), EqualsCondition(heads, block, "attention"))
    space.add(EqualsCondition(ratio, se, True))
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(stem, "patch"), ForbiddenEqualsClause(depth, 1)))
    return space


def mixed_space(seed: int | None = None) -> ConfigurationSpace:
    """Continuous, so that nothing can be enumerated."""
    space = ConfigurationSpace(seed=seed)
    rate, width = Float("rate", (1e-4, 1e-1), log=True), Integer("width", (8, 4096))
    kind, dropout = Categorical("kind", ["a", "b"]), Float("dropout", (0.0, 0.5))
    space.add(rate, width, kind, dropout)
    space.add(EqualsCondition(dropout, kind, "b"))
    return space


def tiny_space(seed: int | None = None) -> ConfigurationSpace:
    """24 configurations."""
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("a", [0, 1, 2]), Categorical("b", ["x", "y"]), OrdinalHyperparameter("c", [1, 2, 3, 4]))
    return space


def cost_of(config: Config, fidelity: float) -> float:
    """A cost with a best configuration, better at a higher fidelity, from nothing but the configuration."""
    noise = random.Random(config_id(config)).random()
    numbers = [value for value in config.values() if isinstance(value, int | float)]
    return 0.2 + 0.05 * noise + 0.1 * ("conv" in config.values()) + 0.01 * abs(sum(numbers) - 6) + 0.3 / fidelity


def space_of(configspace: Callable[[int | None], ConfigurationSpace], **options: object) -> Space:
    return Space(name="contract", configspace=configspace, evaluate=cost_of, **options)  # type: ignore[arg-type]


@dataclass(kw_only=True)
class Run:
    """A search with several trials in flight, whose results come in a shuffled order."""

    searcher: Searcher
    num_workers: int = 1
    cost: Callable[[Config, float], float | None] = cost_of
    events: list[Event] = field(default_factory=list)
    state: str | None = None
    order: random.Random = field(default_factory=lambda: random.Random(0))

    @property
    def suggestions(self) -> list[Suggestion]:
        return [event.suggestion for event in self.events if isinstance(event, Asked)]

    def step(self) -> bool:
        """Start what can be started, then finish one trial; False where nothing runs any more."""
        while len(self.searcher.in_flight) < self.num_workers and (suggestion := self.searcher.ask()) is not None:
            self.events.append(Asked(suggestion=suggestion))
            self.state = self.searcher.state()
        if not self.searcher.in_flight:
            return False
        finished = self.order.choice(self.searcher.in_flight)
        self.tell(finished)
        return True

    def tell(self, suggestion: Suggestion) -> None:
        cost = self.cost(suggestion.config, suggestion.fidelity)
        self.events.append(Told(suggestion=suggestion, cost=cost))
        self.searcher.tell(suggestion, cost=cost)

    def until(self, num_trials: int) -> Run:
        while len(self.suggestions) < num_trials and self.step():
            pass
        return self


def run(
    name: str,
    fidelity: FidelityRange = SINGLE,
    configspace: Callable[[int | None], ConfigurationSpace] = conditional_space,
    *,
    seed: int = 1,
    num_workers: int = 1,
    cost: Callable[[Config, float], float | None] = cost_of,
    is_feasible: Callable[[Config], bool] | None = None,
    history: Sequence[Event] = (),
    state: str | None = None,
    **options: object,
) -> Run:
    space = space_of(configspace, **options)
    searcher = make_searcher(
        name,
        space=space,
        configuration_space=space.configuration_space(seed),
        fidelity=fidelity,
        seed=seed,
        max_in_flight=num_workers,
        is_feasible=is_feasible,
        population=20,
        sample=5,
        history=history,
        state=state,
    )
    return Run(searcher=searcher, num_workers=num_workers, cost=cost, events=list(history), state=state)


def trials(suggestions: Sequence[Suggestion]) -> list[tuple[str, float, int]]:
    return [(config_id(suggestion.config), suggestion.fidelity, suggestion.seed) for suggestion in suggestions]


@every_searcher
def test_the_same_seed_gives_the_same_trials_and_another_seed_others(name: str, fidelity: FidelityRange) -> None:
    first = run(name, fidelity, num_workers=3).until(25).suggestions
    assert first == run(name, fidelity, num_workers=3).until(25).suggestions
    assert first != run(name, fidelity, num_workers=3, seed=2).until(25).suggestions


@every_searcher
@pytest.mark.parametrize("configspace", [conditional_space, mixed_space])
def test_suggestions_are_legal_plain_and_never_repeated(
    name: str, fidelity: FidelityRange, configspace: Callable[[int | None], ConfigurationSpace]
) -> None:
    suggestions = run(name, fidelity, configspace, num_workers=4).until(35).suggestions
    assert len(suggestions) == 35
    assert max(Counter(trials(suggestions)).values()) == 1
    space = configspace(0)
    for suggestion in suggestions:
        to_configuration(space, suggestion.config)
        assert all(type(value) in {str, int, float, bool} for value in suggestion.config.values())
        assert json.loads(json.dumps(suggestion.config)) == suggestion.config
        assert suggestion.fidelity in fidelity.rungs()


@every_searcher
def test_a_finite_space_runs_out_after_exactly_all_its_configurations(name: str, fidelity: FidelityRange) -> None:
    search = run(name, fidelity, tiny_space, num_workers=3)
    while search.step():
        pass
    assert search.searcher.is_exhausted
    assert search.searcher.ask() is None
    everything = enumerate_configurations(tiny_space(0))
    assert everything is not None
    expected = {config_id(everything.config(row)) for row in range(len(everything))}
    at_maximum = [suggestion for suggestion in search.suggestions if suggestion.fidelity == fidelity.max]
    assert Counter(config_id(suggestion.config) for suggestion in at_maximum) == Counter(expected)


@every_searcher
def test_a_space_with_open_configurations_is_not_exhausted(name: str, fidelity: FidelityRange) -> None:
    search = run(name, fidelity, tiny_space).until(20)
    assert not search.searcher.is_exhausted


@every_searcher
@pytest.mark.parametrize("num_workers", [1, 8])
def test_a_resumed_run_asks_the_next_sixty_as_if_never_interrupted(
    name: str, fidelity: FidelityRange, num_workers: int
) -> None:
    uninterrupted = run(name, fidelity, num_workers=num_workers).until(45)
    resumed = run(
        name, fidelity, num_workers=num_workers, history=tuple(uninterrupted.events), state=uninterrupted.state
    )
    assert resumed.searcher.in_flight == uninterrupted.searcher.in_flight
    resumed.order.setstate(uninterrupted.order.getstate())
    assert resumed.until(105).suggestions[45:] == uninterrupted.until(105).suggestions[45:]
    assert len(resumed.suggestions) == 105


@every_searcher
def test_a_resume_at_every_point_of_a_small_space_changes_nothing(name: str, fidelity: FidelityRange) -> None:
    """To the very end, where the space runs out."""
    whole = run(name, fidelity, tiny_space, num_workers=3)
    interrupted = run(name, fidelity, tiny_space, num_workers=3)
    while whole.step():
        assert interrupted.step()
        order = interrupted.order
        interrupted = run(
            name, fidelity, tiny_space, num_workers=3, history=tuple(interrupted.events), state=interrupted.state
        )
        interrupted.order = order
    assert not interrupted.step()
    assert interrupted.events == whole.events


@every_searcher
def test_a_continuous_space_resumes_as_well(name: str, fidelity: FidelityRange) -> None:
    uninterrupted = run(name, fidelity, mixed_space, num_workers=2).until(16)
    resumed = run(name, fidelity, mixed_space, num_workers=2, history=uninterrupted.events, state=uninterrupted.state)
    resumed.order.setstate(uninterrupted.order.getstate())
    assert resumed.until(22).suggestions == uninterrupted.until(22).suggestions


@every_searcher
def test_failures_neither_stop_the_search_nor_come_back(name: str, fidelity: FidelityRange) -> None:
    """A third fails, in all ways a failure can be told."""

    def cost(config: Config, at: float) -> float | None:
        failures = {0: None, 1: float("nan"), 2: float("inf")}
        return failures.get(int(config_id(config), 16) % 9, cost_of(config, at))

    search = run(name, fidelity, num_workers=4, cost=cost).until(40)
    assert len(search.suggestions) == 40
    assert max(Counter(trials(search.suggestions)).values()) == 1
    failed = {
        config_id(event.suggestion.config) for event in search.events if isinstance(event, Told) and event.cost is None
    }
    assert failed
    rungs = Counter(config_id(suggestion.config) for suggestion in search.suggestions)
    assert all(rungs[identity] == 1 for identity in failed)


@every_searcher
def test_a_search_in_which_everything_fails_goes_on(name: str, fidelity: FidelityRange) -> None:
    search = run(name, fidelity, num_workers=2, cost=lambda config, at: None).until(40)
    assert len({config_id(suggestion.config) for suggestion in search.suggestions}) == 40


@every_searcher
def test_equal_costs_do_not_break_the_search(name: str, fidelity: FidelityRange) -> None:
    assert len(run(name, fidelity, cost=lambda config, at: 0.25).until(25).suggestions) == 25
    assert len(run(name, fidelity, cost=lambda config, at: 1e9).until(25).suggestions) == 25


@every_searcher
def test_nothing_infeasible_is_ever_suggested(name: str, fidelity: FidelityRange) -> None:
    """Initial design and random configurations included; the default itself breaks the limit."""
    seen: Counter[str] = Counter()

    def is_feasible(config: Config) -> bool:
        seen[config_id(config)] += 1
        return config["depth"] == 5 and not config["se"]

    suggestions = run(name, fidelity, is_feasible=is_feasible, num_workers=2).until(50).suggestions
    assert suggestions
    assert all(suggestion.config["depth"] == 5 and not suggestion.config["se"] for suggestion in suggestions)
    assert len({config_id(suggestion.config) for suggestion in suggestions}) <= 28
    assert max(seen.values()) == 1, "the answer is remembered"


@every_searcher
def test_feasible_configurations_run_out_too(name: str, fidelity: FidelityRange) -> None:
    search = run(name, fidelity, tiny_space, is_feasible=lambda config: config["a"] == 2)
    while search.step():
        pass
    assert search.searcher.is_exhausted
    assert len({config_id(suggestion.config) for suggestion in search.suggestions}) == 8


@every_searcher
@pytest.mark.parametrize("configspace", [tiny_space, mixed_space])
def test_an_empty_feasible_set_is_an_error_of_the_user(
    name: str, fidelity: FidelityRange, configspace: Callable[[int | None], ConfigurationSpace]
) -> None:
    with pytest.raises(NaxcliError, match="no configuration of space 'contract' is feasible"):
        run(name, fidelity, configspace, is_feasible=lambda config: False).searcher.ask()


@every_searcher
def test_equivalent_configurations_are_asked_once_and_in_their_canonical_form(
    name: str, fidelity: FidelityRange
) -> None:
    def canonical(config: Config) -> Config:
        return {**config, "c": 1} if config["b"] == "x" else config  # c does nothing there

    search = run(name, fidelity, tiny_space, canonical=canonical, num_workers=2)
    while search.step():
        pass
    at_maximum = [suggestion.config for suggestion in search.suggestions if suggestion.fidelity == fidelity.max]
    assert len(at_maximum) == 3 * 4 + 3
    assert all(config["c"] == 1 for config in at_maximum if config["b"] == "x")


def test_a_canonical_form_outside_the_space_is_an_error_that_shows_it() -> None:
    search = run("random", SINGLE, tiny_space, canonical=lambda config: {**config, "c": 9})
    with pytest.raises(NaxcliError, match="9 is not a value of c"):
        search.searcher.ask()


@every_searcher
def test_no_more_are_in_flight_than_allowed(name: str, fidelity: FidelityRange) -> None:
    search = run(name, fidelity, num_workers=3)
    asked = [search.searcher.ask() for _ in range(5)]
    assert [suggestion is None for suggestion in asked] == [False, False, False, True, True]
    assert not search.searcher.is_exhausted
    assert asked[1] is not None
    search.tell(asked[1])
    assert search.searcher.ask() is not None


@every_searcher
def test_results_of_trials_from_elsewhere_are_learned_and_not_repeated(name: str, fidelity: FidelityRange) -> None:
    search = run(name, fidelity, tiny_space)
    everything = enumerate_configurations(tiny_space(0))
    assert everything is not None
    foreign = [Suggestion(config=everything.config(row), fidelity=fidelity.max, seed=7) for row in range(12)]
    search.searcher.note_asked(foreign[0])
    for suggestion in foreign:
        search.tell(suggestion)
    while search.step():
        pass
    own = {config_id(suggestion.config) for suggestion in search.suggestions}
    assert len(own) == 12
    assert not own & {config_id(suggestion.config) for suggestion in foreign}


@every_searcher
def test_the_state_stays_small(name: str, fidelity: FidelityRange) -> None:
    search = run(name, fidelity, num_workers=4).until(20)
    assert len(search.searcher.state()) < 1000
    assert json.loads(search.searcher.state())["num_asked"] == 20


@every_searcher
def test_records_that_do_not_match_the_state_are_refused(name: str, fidelity: FidelityRange) -> None:
    search = run(name, fidelity).until(12)
    with pytest.raises(NaxcliError, match="records are incomplete"):
        run(name, fidelity, history=search.events[:10], state=search.state)
    with pytest.raises(NaxcliError, match="seed 1, not 5"):
        run(name, fidelity, history=search.events, state=search.state, seed=5)


def test_an_unknown_searcher_is_refused_with_the_names_of_the_known_ones() -> None:
    with pytest.raises(NaxcliError, match="no searcher 'grid'") as error:
        run("grid")
    assert "smac, random, evolution" in error.value.why


def test_a_space_of_one_configuration_is_searched_once() -> None:
    def one(seed: int | None = None) -> ConfigurationSpace:
        space = ConfigurationSpace(seed=seed)
        space.add(Categorical("only", ["choice"]))
        return space

    for name in (*SEARCHERS, OWN):
        search = run(name, SINGLE, one)
        while search.step():
            pass
        assert [dict(suggestion.config) for suggestion in search.suggestions] == [{"only": "choice"}]
        assert search.searcher.is_exhausted


@pytest.mark.parametrize("name", ["smac", "evolution", "local", "ensemble"])
def test_learning_searchers_find_better_configurations_than_random_search(name: str) -> None:
    def best(searcher: str, seed: int) -> float:
        events = run(searcher, seed=seed).until(80).events
        return min(event.cost for event in events if isinstance(event, Told) and isinstance(event.cost, float))

    gains = [best("random", seed) - best(name, seed) for seed in range(2)]
    assert sum(gains) > 0
