"""Incumbent: the best configuration of a search so far, the one definition that search, status and export share."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from naxcli.records.history import FinishedTrial
from naxcli.records.trial import Config, Status, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """The best configuration so far: lowest mean cost at the highest fidelity, among those with the most seeds there."""

    trial: Trial
    cost: float
    num_seeds: int

    @property
    def config(self) -> Config:
        return self.trial.config

    @property
    def fidelity(self) -> float:
        return self.trial.fidelity

    def to_json(self) -> dict[str, Any]:
        return {
            "config": dict(self.config),
            "cost": self.cost,
            "fidelity": self.fidelity,
            "num_seeds": self.num_seeds,
            "config_id": self.trial.config_id,
            "trial_id": self.trial.trial_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """The results of one configuration; of configurations with equal means the one that was finished first leads."""

    order: int
    results: list[FinishedTrial]

    @property
    def mean_cost(self) -> float:
        return statistics.fmean(item.cost for item in self.results if item.cost is not None)

    def is_ahead_of(self, other: _Entry) -> bool:
        if len(self.results) != len(other.results):
            return len(self.results) > len(other.results)
        return (self.mean_cost, self.order) < (other.mean_cost, other.order)


class Leaderboard:
    """The results at the highest fidelity by configuration; finds the incumbent anew with each, however many came before."""

    def __init__(self, finished: Iterable[FinishedTrial] = ()) -> None:
        self._fidelity = 0.0
        self._entries: dict[str, _Entry] = {}
        self._best: _Entry | None = None
        for item in finished:
            self.add(item)

    def add(self, item: FinishedTrial) -> None:
        """Take one more result into account."""
        if item.status != Status.SUCCESS or item.cost is None or item.trial.fidelity < self._fidelity:
            return
        if item.trial.fidelity > self._fidelity:
            self._fidelity, self._entries, self._best = item.trial.fidelity, {}, None
        fresh = _Entry(order=len(self._entries), results=[])
        entry = self._entries.setdefault(item.trial.config_id, fresh)
        entry.results.append(item)
        if self._best is None or entry.is_ahead_of(self._best):
            self._best = entry

    @property
    def incumbent(self) -> Incumbent | None:
        """The best configuration, None without a success."""
        if self._best is None:
            return None
        results = self._best.results
        first = min(results, key=lambda item: item.cost or 0.0)
        num_seeds = len({item.trial.seed for item in results})
        return Incumbent(trial=first.trial, cost=self._best.mean_cost, num_seeds=num_seeds)


def find_incumbent(finished: Iterable[FinishedTrial]) -> Incumbent | None:
    """Return the best configuration among finished trials, or None without a success."""
    return Leaderboard(finished).incumbent
