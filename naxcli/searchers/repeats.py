"""Repeats: every configuration of a searcher evaluated with several seeds, of which the searcher is told one result, their mean.

What was asked and told decides alone, as in `AskTell`, so a search that is killed between two repeats goes on with the next.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from naxcli.records.trial import Suggestion
from naxcli.searchers.asktell import AskTell
from naxcli.searchers.history import Asked, Cost, Event

MAX_SEED = 1 << 30
REPEAT_STREAM = (
    2  # third number of a seed; also of a prior's draws, whose second number is 0, where a repeat's is 1 or more
)


def repeat_seed(seed: int, number: int) -> int:
    """Return the training seed of a repeat, the same for all configurations; that of the first, number 0, is `seed` itself."""
    return seed if number == 0 else int(np.random.default_rng([seed, number, REPEAT_STREAM]).integers(MAX_SEED))


@dataclass(slots=True, kw_only=True)
class _Group:
    """A configuration whose repeats have not all ended: those that run, and the costs of those that ended, by seed."""

    first: Suggestion
    running: dict[int, Suggestion] = field(default_factory=dict)
    costs: dict[int, Cost | None] = field(default_factory=dict)


class Repeats:
    """A searcher that asks for each configuration of another one `num` times; see `naxcli.searchers.Searcher` for its methods' meaning.

    A configuration fails with its first repeat that does: no further one starts, and the searcher is told of a failure.

    Args:
        searcher: of one fidelity; it decides what is tried.
        num: repeats of each configuration.
        max_in_flight: `ask` returns None while as many suggestions are untold.
    """

    learns = True  # whether a repeat is asked for depends on those before

    def __init__(self, searcher: AskTell, *, num: int, max_in_flight: int) -> None:
        self.name = searcher.name
        self._searcher = searcher
        self._num = num
        self._max_in_flight = max_in_flight
        self._groups: dict[str, _Group] = {}  # by configuration
        self._due: list[Suggestion] = []  # repeats of the last configuration that were not asked for yet

    @property
    def in_flight(self) -> tuple[Suggestion, ...]:
        """Suggestions asked and not yet told; after a resume they are to be run again."""
        return tuple(suggestion for group in self._groups.values() for suggestion in group.running.values())

    @property
    def is_exhausted(self) -> bool:
        return not self._due and self._searcher.is_exhausted

    def ask(self) -> Suggestion | None:
        if len(self.in_flight) >= self._max_in_flight:
            return None
        if self._due:
            suggestion = self._due[0]
            self.note_asked(suggestion)
            return suggestion
        first = self._searcher.ask()
        if first is not None:
            self._open(first)
        return first

    def note_asked(self, suggestion: Suggestion) -> None:
        """Note a suggestion: a repeat that was due, or the first of a configuration."""
        if suggestion in self._due:
            self._due.remove(suggestion)
            self._groups[suggestion.config_id].running[suggestion.seed] = suggestion
        else:
            self._searcher.note_asked(suggestion)
            self._open(suggestion)

    def tell(self, suggestion: Suggestion, *, cost: Cost | None) -> None:
        group = self._groups.get(suggestion.config_id)
        if group is None or suggestion.seed not in group.running:  # of another searcher
            self._searcher.tell(suggestion, cost=cost)
            return
        del group.running[suggestion.seed]
        group.costs[suggestion.seed] = cost
        is_last = not self._due or self._due[0].config_id != suggestion.config_id
        if cost is None and not is_last:
            self._due, is_last = [], True
        if is_last and not group.running:
            del self._groups[suggestion.config_id]
            self._searcher.tell(group.first, cost=_mean(list(group.costs.values())))

    def notice(self) -> str:
        return self._searcher.notice()

    def state(self) -> str:
        return self._searcher.state()

    def restore(self, history: Iterable[Event], state: str | None) -> None:
        """Read the events of an interrupted run; see `AskTell.restore`."""
        for event in history:
            if isinstance(event, Asked):
                self.note_asked(event.suggestion)
            else:
                self.tell(event.suggestion, cost=event.cost)
        self._searcher.restore((), state)

    def _open(self, first: Suggestion) -> None:
        self._groups[first.config_id] = _Group(first=first, running={first.seed: first})
        seeds = (repeat_seed(first.seed, number) for number in range(1, self._num))
        self._due = [dataclasses.replace(first, seed=seed) for seed in seeds]


def _mean(costs: Sequence[Cost | None]) -> Cost | None:
    """Return the mean of the costs, one per objective where there are several; None where one of them is."""
    rows = [cost if isinstance(cost, tuple) else (cost,) for cost in costs if cost is not None]
    if len(rows) < len(costs):
        return None
    means = tuple(statistics.fmean(values) for values in zip(*rows, strict=True))
    return means if len(means) > 1 else means[0]
