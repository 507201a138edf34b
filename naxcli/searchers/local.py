"""Local search: to the first better neighbour, again and again, and from a local optimum to a new random configuration.

Paper: White, Nolen, Savani, "Exploring the Loss Landscape in Neural Architecture Search", UAI 2021 (arXiv 2005.02960), Algorithm 1.
As in the code that its authors released (naszilla, `query_full_nbhd=False`), a climb moves as soon as a neighbour is better, and not
only when the whole neighbourhood is known.

Deviations: trials in flight at once belong to several climbs, of which the one at the lowest cost goes on first; a configuration that
another climb has evaluated is not evaluated again. The authors' code starts from the best of ten random configurations, this from
one, as Algorithm 1. Of an ordered choice the two adjacent values are neighbours, of a number four nearby ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from naxcli.records.trial import Config, ConfigValue, config_id
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import Asked, History, Told, objectives
from naxcli.searchers.neighbours import one_exchange


@dataclass(slots=True, kw_only=True, eq=False)
class _Climb:
    """A walk from one start: the best configuration that it has come to, and that one's neighbours that were not asked for.

    `around` is None where the neighbours were not looked up yet.
    """

    best: Config | None = None
    cost: float = math.inf
    identity: str = ""  # of the best
    around: dict[str, Config] | None = field(default_factory=dict)

    def rank(self) -> tuple[float, str]:
        """Return what is lower of the climb that goes on first: no two are equal, whatever the order of results."""
        return self.cost, self.identity


class LocalProposer:
    """Proposes the neighbours of where the best open climb stands, one after another, and where none is left a random start.

    Args:
        seed: of the order of a configuration's neighbours.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._num_read = 0
        self._climbs: list[_Climb] = []  # that may go on
        self._climb_of: dict[str, _Climb] = {}  # by configuration

    def propose(
        self, history: History, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        self._read(history, candidates)
        for climb in sorted(self._climbs, key=_Climb.rank):
            around = self._around(climb, candidates)
            for identity, neighbour in list(around.items()):
                config = candidates.accept(neighbour)
                if config is not None:
                    return config
                del around[identity]
            self._climbs.remove(climb)
        return candidates.draw(rng)

    def notice(self, history: History) -> str:
        return ""

    def _read(self, history: History, candidates: Candidates) -> None:
        """Follow what was asked and told since the last proposal."""
        for event in history.events[self._num_read :]:
            identity = config_id(candidates.canonical(event.suggestion.config))
            if isinstance(event, Asked):
                self._climb_of[identity] = self._climb_asking(identity, candidates)
            else:
                self._move(self._climb_of.setdefault(identity, _Climb()), identity, event)
        self._num_read = len(history.events)

    def _climb_asking(self, identity: str, candidates: Candidates) -> _Climb:
        """Return the climb that asked for a configuration: the best one that has it around, else one that starts there."""
        owners = [climb for climb in self._climbs if identity in self._around(climb, candidates)]
        if not owners:
            return _Climb()
        owner = min(owners, key=_Climb.rank)
        del self._around(owner, candidates)[identity]
        return owner

    def _move(self, climb: _Climb, identity: str, told: Told) -> None:
        """Let a climb go to a result of it that is better than where it stands."""
        if told.cost is None:
            return
        cost = next(iter(objectives(told.cost)))
        if climb.best is None or cost < climb.cost:
            climb.best, climb.cost, climb.identity, climb.around = told.suggestion.config, cost, identity, None
            if climb not in self._climbs:
                self._climbs.append(climb)

    def _around(self, climb: _Climb, candidates: Candidates) -> dict[str, Config]:
        """Return the neighbours of where a climb stands that it did not ask for, in random order, by identity."""
        if climb.around is None:
            assert climb.best is not None
            best = candidates.canonical(climb.best)
            # Of the configuration, not of the moment: a search that goes on finds the same neighbours in the same order.
            rng = np.random.default_rng([self._seed, int(config_id(best), 16)])
            vectors = one_exchange(candidates.configuration_space, candidates.vector(best), rng)
            neighbours = [candidates.canonical(candidates.config(vector)) for vector in vectors]
            climb.around = {config_id(neighbour): neighbour for neighbour in neighbours}
        return climb.around
