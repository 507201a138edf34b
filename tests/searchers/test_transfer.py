"""Earlier results: what they weigh, what of them is tried first, and that a misleading table does no lasting harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from naxcli.records.trial import Config, Suggestion
from naxcli.search_space.contract import Space, plain_config
from naxcli.search_space.earlier import EarlierResult, EarlierResults
from naxcli.search_space.enumeration import sample_configs
from naxcli.searchers import Asked, Event, FidelityRange, Told
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import History
from naxcli.searchers.process_model import ProcessModel
from naxcli.searchers.transfer import best_configs, ranking_weights
from tests.searchers.test_smac import LADDER, discrete_cost, discrete_space, search, smac


def table(
    cost: Callable[[Config], float], number: int = 60, *, source: str = "earlier", fidelities: Sequence[float] = (3.0,)
) -> EarlierResults:
    configs = sample_configs(discrete_space(0), number, seed=7)
    results = [
        EarlierResult(config=config, fidelity=fidelity, cost=cost(config) + 1 / fidelity)
        for fidelity in fidelities
        for config in configs
    ]
    return EarlierResults(source=source, results=tuple(results))


def misleading(config: Config) -> float:
    return 3 - discrete_cost(config)


def test_a_model_has_the_weight_of_how_well_it_ranks_the_new_results() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=30)
    own = rng.normal(size=30)  # has learned nothing yet
    same = np.ones(30)
    weights = ranking_weights([2 * targets + 5, -targets], own, targets=targets, fidelities=same)
    assert weights.tolist() == [1.0, 0.0], "only the order counts"
    assert ranking_weights([targets], targets, targets=targets, fidelities=same).tolist() == [0.0], (
        "ties are the new one's"
    )
    assert ranking_weights([-targets], -targets, targets=targets, fidelities=same).tolist() == [0.0], (
        "no worse than a coin"
    )
    two = ranking_weights(
        [targets + rng.normal(size=30), targets + rng.normal(size=30)], own, targets=targets, fidelities=same
    )
    assert (two > 0.05).all() and two.sum() > 0.9


def test_only_results_of_one_fidelity_are_pairs() -> None:
    targets = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
    between = np.array([3.0, 4.0, 5.0, 0.0, 1.0, 2.0])  # right within each half
    fidelities = np.repeat([1.0, 9.0], 3)
    own = np.zeros(6)
    assert ranking_weights([between], own, targets=targets, fidelities=fidelities)[0] > 0.9
    assert ranking_weights([between], own, targets=targets, fidelities=np.ones(6))[0] < 0.8
    assert ranking_weights([between], own, targets=targets, fidelities=np.arange(6.0)).tolist() == [0.0], "no pair"


def test_the_best_different_configurations_of_every_table_take_turns() -> None:
    def results(costs: dict[int, float], fidelity: float) -> list[EarlierResult]:
        return [EarlierResult(config={"a": a}, fidelity=fidelity, cost=cost) for a, cost in costs.items()]

    first = EarlierResults(source="1", results=(*results({9: 0.0}, 1.0), *results({1: 0.3, 2: 0.1, 3: 0.2}, 27.0)))
    second = EarlierResults(source="2", results=tuple(results({2: 5.0, 4: 6.0}, 1.0)))
    assert [config["a"] for config in best_configs([first, second], 9)] == [2, 3, 4, 1]
    assert [config["a"] for config in best_configs([first, second], 2)] == [2, 3]
    assert [config["a"] for config in best_configs([first, second], 2, known=best_configs([first], 1))] == [3, 4]


def test_the_best_of_before_follows_the_references() -> None:
    earlier = [table(discrete_cost)]
    reference: Config = {"switch": "off", **dict.fromkeys("abcde", 2)}
    configs = search(smac(discrete_space, references=[reference], earlier=earlier), discrete_cost, 6)
    assert configs[:2] == [plain_config(discrete_space().get_default_configuration()), reference]
    assert configs[2:6] == best_configs(earlier, 4, known=configs[:2])


def test_over_several_fidelities_a_quarter_of_the_lowest_rung_is_the_best_of_before() -> None:
    """A misleading table, whose model has no say soon, would cost the first bracket, which is all that a short search has."""
    earlier = [table(discrete_cost)]

    def lowest_rung(cost: Callable[[Config], float]) -> list[Config]:
        searcher = smac(discrete_space, fidelity=FidelityRange(min=1, max=25, eta=5), earlier=earlier)
        configs: list[Config] = []
        for _ in range(15):  # none of the 25 is certain to be promoted before
            suggestion = searcher.ask()
            assert suggestion is not None and suggestion.rung == 0
            configs.append(suggestion.config)
            searcher.tell(suggestion, cost=cost(suggestion.config))
        return configs

    rung = lowest_rung(discrete_cost)
    assert rung[1:7] == best_configs(earlier, 6, known=rung[:1])
    assert lowest_rung(misleading) == rung, "what fills it does not look at results"


@pytest.mark.parametrize("seed", [0, 1])
def test_results_that_agree_lead_to_the_best_at_once(seed: int) -> None:
    """None of the earlier configurations is among the best ten of 2,430; their model is."""
    earlier = table(lambda config: 2 * discrete_cost(config) ** 2)
    assert min(discrete_cost(result.config) for result in earlier.results) > 0.25
    found = search(smac(discrete_space, seed=seed, earlier=[earlier]), discrete_cost, 16)
    assert min(map(discrete_cost, found)) < 0.25


def test_a_misleading_table_has_no_say_after_some_results_and_one_that_agrees_has() -> None:
    space = Space(name="own", configspace=discrete_space, evaluate=discrete_cost)
    candidates, history = Candidates(space=space, configuration_space=discrete_space(0)), History()
    for config in sample_configs(discrete_space(0), 25, seed=4):
        history.tell(Suggestion(config=config, fidelity=3.0, seed=0), discrete_cost(config))

    def next_best(*earlier: EarlierResults) -> Config:
        model = ProcessModel(discrete_space(0), earlier)
        surrogate = model.surrogate(history, candidates, np.random.default_rng(0))
        assert surrogate is not None
        notices.append(model.notice())
        config = surrogate.highest(candidates, np.random.default_rng(0))
        assert config is not None
        return config

    notices: list[str] = []
    assert next_best(table(misleading, source="another task")) == next_best()
    assert discrete_cost(next_best(table(discrete_cost))) < discrete_cost(next_best())
    assert notices[0].endswith("another task") and not any(notices[1:])


def test_a_resumed_search_with_earlier_results_of_several_rungs_goes_on_exactly() -> None:
    earlier = [table(discrete_cost, 30, fidelities=(1.0, 9.0)), table(misleading, 20, source="another")]
    searcher = smac(discrete_space, fidelity=LADDER, seed=3, earlier=earlier)
    events: list[Event] = []

    def step() -> Config:
        suggestion = searcher.ask()
        assert suggestion is not None
        events.append(Asked(suggestion=suggestion))
        cost = discrete_cost(suggestion.config) + 0.3 / suggestion.fidelity
        searcher.tell(suggestion, cost=cost)
        events.append(Told(suggestion=suggestion, cost=cost))
        return suggestion.config

    for _ in range(18):
        step()
    state, past = searcher.state(), list(events)
    expected = [step() for _ in range(4)]
    again = [EarlierResults.from_json(item.to_json()) for item in earlier]
    searcher = smac(discrete_space, fidelity=LADDER, seed=3, earlier=again, history=past, state=state)
    assert [step() for _ in range(4)] == expected
