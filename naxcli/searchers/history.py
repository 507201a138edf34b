"""What a searcher was asked and told: the events that its state is rebuilt from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from naxcli.records.trial import Suggestion

Cost = float | tuple[float, ...]  # several for several objectives, all minimised
TrialKey = tuple[str, float, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A suggestion was handed out."""

    suggestion: Suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A suggestion's trial has ended; cost None is a failure of any kind."""

    suggestion: Suggestion
    cost: Cost | None


Event = Asked | Told


def trial_key(suggestion: Suggestion) -> TrialKey:
    """Return what makes two suggestions the same trial: configuration, fidelity and seed."""
    return suggestion.config_id, suggestion.fidelity, suggestion.seed


class History:
    """Suggestions and results in the order in which they came: `events` are both, `successes` the results that have a cost."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.asked: list[Suggestion] = []
        self.told: list[Told] = []
        self.successes: list[Told] = []
        self._running: dict[TrialKey, Suggestion] = {}

    @property
    def running(self) -> tuple[Suggestion, ...]:
        """Suggestions that were asked and not yet told, oldest first."""
        return tuple(self._running.values())

    @property
    def num_running(self) -> int:
        return len(self._running)

    def is_running(self, suggestion: Suggestion) -> bool:
        return trial_key(suggestion) in self._running

    def ask(self, suggestion: Suggestion) -> None:
        self.events.append(Asked(suggestion=suggestion))
        self.asked.append(suggestion)
        self._running[trial_key(suggestion)] = suggestion

    def tell(self, suggestion: Suggestion, cost: Cost | None) -> Told:
        """Note a result and return it; a cost that is not finite is a failure."""
        self._running.pop(trial_key(suggestion), None)
        if cost is not None and not all(map(math.isfinite, objectives(cost))):
            cost = None
        told = Told(suggestion=suggestion, cost=cost)
        self.events.append(told)
        self.told.append(told)
        if cost is not None:
            self.successes.append(told)
        return told


def objectives(cost: Cost) -> Iterable[float]:
    """Return the costs of one trial, one per objective."""
    return cost if isinstance(cost, tuple) else (cost,)
