"""Repeats: several seeds of a configuration are one result to its searcher, also after a resume."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from naxcli.records.trial import Config, Suggestion
from naxcli.searchers import Asked, Event, Searcher, Told, make_searcher
from naxcli.settings.fidelity import FidelityRange
from tests.searchers.test_searchers import Run, cost_of, space_of, tiny_space


def repeating(name: str = "random", *, history: list[Event] | None = None, **more: Any) -> Searcher:
    return make_searcher(
        name,
        space=space_of(tiny_space),
        configuration_space=tiny_space(3),
        fidelity=FidelityRange(min=9, max=9),
        seed=3,
        max_in_flight=8,
        repeats=3,
        history=history or [],
        **more,
    )


def asked(searcher: Searcher) -> Suggestion:
    suggestion = searcher.ask()
    assert suggestion is not None
    return suggestion


def told_to(searcher: Any) -> list[Told]:
    """Return what the searcher within was told."""
    told: list[Told] = searcher._searcher._history.told
    return told


def test_the_searcher_is_told_the_mean_when_the_last_repeat_ends_in_whatever_order() -> None:
    searcher = repeating()
    first, second, third, other = (asked(searcher) for _ in range(4))
    assert first.config == second.config == third.config != other.config
    assert first.seed == 3 == other.seed and len({first.seed, second.seed, third.seed}) == 3
    searcher.tell(third, cost=0.9)
    searcher.tell(first, cost=0.1)
    assert not told_to(searcher)
    searcher.tell(second, cost=0.2)
    assert told_to(searcher) == [Told(suggestion=first, cost=statistics.fmean([0.1, 0.2, 0.9]))]
    assert (
        asked(searcher).seed == second.seed
    )  # the same seeds for all configurations, so that they are compared in pairs


def test_a_configuration_fails_with_its_first_repeat_that_does_and_no_further_one_starts() -> None:
    searcher = repeating()
    first, second = asked(searcher), asked(searcher)
    searcher.tell(first, cost=None)
    assert not told_to(searcher)  # the second still runs
    assert asked(searcher).config != first.config
    searcher.tell(second, cost=0.1)
    assert told_to(searcher) == [Told(suggestion=first, cost=None)]


def test_several_objectives_have_a_mean_each() -> None:
    searcher = repeating(num_objectives=2)
    for cost in ((0.1, 30.0), (0.2, 30.0), (0.6, 60.0)):
        searcher.tell(asked(searcher), cost=cost)
    assert told_to(searcher)[0].cost == pytest.approx((0.3, 40.0))


def sometimes_failing(config: Config, fidelity: float) -> float | None:
    cost = cost_of(config, fidelity)
    return None if config["a"] == 1 and config["b"] == "y" else cost


@pytest.mark.parametrize("num_workers", [1, 4])
def test_a_search_resumed_at_any_event_goes_on_as_if_it_had_not_stopped(num_workers: int) -> None:
    run = Run(searcher=repeating("evolution"), num_workers=num_workers, cost=sometimes_failing)
    while run.step():
        pass
    num_configs = len({suggestion.config_id for suggestion in run.suggestions})
    assert num_configs == 24 and 3 * 24 > len(run.suggestions) > 3 * 20  # four of them fail
    for number in range(len(run.events)):
        if isinstance(event := run.events[number], Asked):
            resumed = repeating("evolution", history=run.events[:number])
            assert resumed.ask() == event.suggestion


def test_a_space_is_exhausted_only_after_its_last_repeat() -> None:
    searcher = repeating()
    suggestions = []
    while not searcher.is_exhausted:
        suggestions.append(asked(searcher))
        searcher.tell(suggestions[-1], cost=0.5)
    assert len(suggestions) == 3 * 24 and searcher.ask() is None
