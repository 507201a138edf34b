"""Incumbent: the best configuration of a search so far, by the one rule that search, status, export and report share."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

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


T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Standing(Generic[T]):
    """The results of one configuration at the highest fidelity, each as (cost, what was told), and their different seeds."""

    order: int
    results: list[tuple[float, T]] = field(default_factory=list)
    seeds: set[int] = field(default_factory=set)

    @property
    def mean_cost(self) -> float:
        return statistics.fmean(cost for cost, _ in self.results)

    @property
    def best_result(self) -> T:
        """The result of the lowest cost, the first of equal ones."""
        return min(self.results, key=lambda result: result[0])[1]

    def rank(self) -> tuple[int, float, int]:
        """Return what tells which of two configurations is ahead: the lower one."""
        return -len(self.seeds), self.mean_cost, self.order


class Ranking(Generic[T]):
    """The one rule of who leads: the most different seeds at the highest fidelity, then the lowest mean cost, then the first.

    Seeds are counted and not trials: the searcher and its random baseline may evaluate one configuration with the same seed,
    which says nothing new of it. Results come in the order in which they were recorded; each takes the same time, however
    many came before.
    """

    def __init__(self) -> None:
        self._fidelity = 0.0
        self._standings: dict[Hashable, Standing[T]] = {}
        self.leader: Standing[T] | None = None

    def add(self, result: T, *, config: Hashable, fidelity: float, seed: int, cost: float) -> None:
        """Take one more success into account.

        Args:
            result: What stands for it, for instance its trial.
            config: Identity of the configuration.
            fidelity: Fidelity of the trial.
            seed: Training seed of the trial.
            cost: Cost of the trial.
        """
        if fidelity < self._fidelity:
            return
        if fidelity > self._fidelity:
            self._fidelity, self._standings, self.leader = fidelity, {}, None
        standing = self._standings.setdefault(config, Standing(order=len(self._standings)))
        standing.results.append((cost, result))
        standing.seeds.add(seed)
        if standing is self.leader:
            # A result that raised the leader's mean may have put another one ahead.
            self.leader = min(self._standings.values(), key=Standing.rank)
        elif self.leader is None or standing.rank() < self.leader.rank():
            self.leader = standing

    def standings(self) -> list[Standing[T]]:
        """Return all configurations at the highest fidelity, the leader first."""
        return sorted(self._standings.values(), key=Standing.rank)


def ranked(finished: Iterable[FinishedTrial]) -> list[Standing[FinishedTrial]]:
    """Return the configurations that succeeded at the highest fidelity, the incumbent first."""
    ranking = Ranking[FinishedTrial]()
    for item in finished:
        _add(ranking, item)
    return ranking.standings()


def _add(ranking: Ranking[FinishedTrial], item: FinishedTrial) -> None:
    if item.status == Status.SUCCESS and item.cost is not None:
        trial = item.trial
        ranking.add(item, config=trial.config_id, fidelity=trial.fidelity, seed=trial.seed, cost=item.cost)


class Leaderboard:
    """The incumbent among finished trials, found anew with each."""

    def __init__(self, finished: Iterable[FinishedTrial] = ()) -> None:
        self._ranking = Ranking[FinishedTrial]()
        for item in finished:
            self.add(item)

    def add(self, item: FinishedTrial) -> None:
        """Take one more result into account."""
        _add(self._ranking, item)

    @property
    def incumbent(self) -> Incumbent | None:
        """The best configuration, None without a success."""
        leader = self._ranking.leader
        if leader is None:
            return None
        return Incumbent(trial=leader.best_result.trial, cost=leader.mean_cost, num_seeds=len(leader.seeds))


def find_incumbent(finished: Iterable[FinishedTrial]) -> Incumbent | None:
    """Return the best configuration among finished trials, or None without a success."""
    return Leaderboard(finished).incumbent
