"""Hyperband: brackets of successive halving, asynchronous and rebuilt exactly from the records.

Paper: Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter
Optimization", JMLR 18 (2018), Algorithm 1. Fidelities are the paper's, and SMAC's, and so are the sizes of `hyperband`'s
brackets. `tapered` and `halving` repeat the first bracket, with more survivors on each rung, `tapered` on all but the highest,
whose epochs cost most: with a model of all rungs that finds better configurations for the same epochs (docs/fidelities.md).

Why not SMAC's own Hyperband class: it is a generator that starts a new batch of the lowest rung wherever it cannot
compare a rung yet, it stops short of the end of a finite space because a batch has to be full, and a restart has to
restore its tracker and its generator's position through private attributes. Here the state is the list of suggestions,
each of which carries its bracket and rung, so that a restart only has to read them.

Asynchronous: a worker never waits for a rung. A configuration is promoted as soon as it is certain to be among its rung's
best, whatever the outstanding trials will bring; where nothing is certain, the next bracket opens. The promoted set is
that of successive halving.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from naxcli.records.trial import Suggestion
from naxcli.searchers.history import Told, TrialKey, objectives, trial_key
from naxcli.searchers.schedule import Place
from naxcli.settings.choices import PROMOTIONS
from naxcli.settings.fidelity import FidelityRange

KEPT = 0.4
"""Share of a rung that `tapered` and `halving` promote, at least: measured, see docs/fidelities.md."""

KEPT_AT_LAST = 0.2
"""Share of the rung below the highest that `tapered` promotes, at least."""


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A configuration on a rung; cost None while it runs, infinite if it failed."""

    suggestion: Suggestion
    order: int  # of asking, among all entries
    cost: float | None = None
    is_promoted: bool = False

    def __lt__(self, other: _Entry) -> bool:
        """Return whether this entry goes first where entries are left over: from a higher rung, better, of an earlier bracket."""
        return self._priority < other._priority

    @property
    def _priority(self) -> tuple[int, float, int, int]:
        rung, bracket = self.suggestion.rung, self.suggestion.bracket
        assert rung is not None and bracket is not None and self.cost is not None
        return -rung, self.cost, bracket, self.order


@dataclass(slots=True, kw_only=True)
class _Bracket:
    """One bracket: `sizes` of its rungs as planned, and their entries. Its first rung is `first_rung` of the ladder."""

    first_rung: int
    sizes: tuple[int, ...]
    rungs: list[list[_Entry]] = field(default_factory=list)

    @property
    def is_filling(self) -> bool:
        return len(self.rungs[0]) < self.sizes[0]

    def truncate(self, survivors: Callable[[int, int], int]) -> None:
        """Make do with the configurations there are: no more will come."""
        num_configs = len(self.rungs[0])
        self.sizes = tuple(
            min(size, max(1, survivors(num_configs, stage))) if num_configs else 0
            for stage, size in enumerate(self.sizes)
        )

    def due(self) -> _Entry | None:
        """Return an entry that is certain to be promoted and has not been, from the highest rung that has one."""
        best: _Entry | None = None
        size = self.sizes[0]
        for entries, planned in zip(self.rungs, self.sizes[1:], strict=False):
            ranked = _ranked(entries)
            num_outstanding = max(0, size - sum(entry.cost is not None for entry in entries))
            num_certain = max(0, planned - num_outstanding)
            best = next((entry for entry in ranked[:num_certain] if not entry.is_promoted), best)
            # Failures are never promoted, so a rung may end up smaller than planned.
            size = planned if num_outstanding else min(planned, len(ranked))
        return best


class Hyperband:
    """The schedule of brackets. `Suggestion.bracket` counts brackets from 0; `rung` is the index of the fidelity.

    Args:
        fidelity: the ladder.
        promotion: `tapered`, every bracket starts at the lowest rung and promotes two fifths of each, but a fifth of the rung
            below the highest, or one in ETA where that is more; `halving`, two fifths of that rung as well; or `hyperband`,
            bracket 0 starts at the lowest rung, the next one rung higher, and so on in turns, and one in ETA is promoted.
    """

    promotes = True

    def __init__(self, fidelity: FidelityRange, promotion: str = PROMOTIONS[0]) -> None:
        self._eta = fidelity.eta
        self._promotion = promotion
        self._ladder = fidelity.rungs()
        self._brackets: list[_Bracket] = []
        self._entries: dict[TrialKey, _Entry] = {}
        # Of all brackets there ever were, an ask looks only at those that changed, and at the best entry that is left over.
        self._changed: set[int] = set()
        self._due: dict[int, _Entry] = {}
        self._left_over: list[_Entry] = []  # a heap; those promoted since are dropped when they come up

    @property
    def first_rung_size(self) -> int:
        """Configurations on the lowest rung of the first bracket."""
        return self._sizes(0)[0]

    def place(self) -> Place:
        is_filling = bool(self._brackets) and self._brackets[-1].is_filling
        number = len(self._brackets) - is_filling
        rung = self._first_rung(number)
        return Place(fidelity=self._ladder[rung], bracket=number, rung=rung)

    def promotion(self, *, is_exhausted: bool) -> Suggestion | None:
        if is_exhausted and self._brackets and self._brackets[-1].is_filling:
            self._brackets[-1].truncate(self._survivors)
            self._changed.add(len(self._brackets) - 1)
        for number in self._changed:
            self._due.pop(number, None)
            if (entry := self._brackets[number].due()) is not None:
                self._due[number] = entry
        self._changed.clear()
        if self._due:
            return self._promoted(self._due[min(self._due)])
        while self._left_over and self._left_over[0].is_promoted:
            heapq.heappop(self._left_over)
        if is_exhausted and self._left_over:  # rather than idle, give the best of what was left behind more
            return self._promoted(self._left_over[0])
        return None

    def ask(self, suggestion: Suggestion) -> None:
        if suggestion.bracket is None or suggestion.rung is None:
            return
        while suggestion.bracket >= len(self._brackets):
            self._open_bracket()
        bracket = self._brackets[suggestion.bracket]
        stage = suggestion.rung - bracket.first_rung
        entry = _Entry(suggestion=suggestion, order=len(self._entries))
        bracket.rungs[stage].append(entry)
        self._changed.add(suggestion.bracket)
        self._entries[trial_key(suggestion)] = entry
        if stage:
            lower = self._ladder[suggestion.rung - 1]
            self._entries[trial_key(suggestion)[0], lower, suggestion.seed].is_promoted = True

    def tell(self, told: Told) -> None:
        entry = self._entries.get(trial_key(told.suggestion))
        if entry is None or entry.suggestion.bracket is None or entry.suggestion.rung is None:
            return
        is_news = entry.cost is None
        entry.cost = math.inf if told.cost is None else next(iter(objectives(told.cost)))
        self._changed.add(entry.suggestion.bracket)
        if is_news and math.isfinite(entry.cost) and entry.suggestion.rung < len(self._ladder) - 1:
            heapq.heappush(self._left_over, entry)

    def _promoted(self, entry: _Entry) -> Suggestion:
        assert entry.suggestion.rung is not None
        rung = entry.suggestion.rung + 1
        return Suggestion(
            config=entry.suggestion.config,
            seed=entry.suggestion.seed,
            fidelity=self._ladder[rung],
            bracket=entry.suggestion.bracket,
            rung=rung,
        )

    def _open_bracket(self) -> None:
        number = len(self._brackets)
        sizes = self._sizes(number)
        self._brackets.append(_Bracket(first_rung=self._first_rung(number), sizes=sizes, rungs=[[] for _ in sizes]))

    def _first_rung(self, number: int) -> int:
        return number % len(self._ladder) if self._promotion == "hyperband" else 0

    def _sizes(self, number: int) -> tuple[int, ...]:
        """Return the configurations on each rung of a bracket.

        Hyperband's are n = ceil((s_max + 1) / (s + 1) · η^s), then n·η^-i.
        """
        s_max = len(self._ladder) - 1
        s = s_max - self._first_rung(number)
        num_configs = math.ceil((s_max + 1) * self._eta**s / (s + 1))
        return tuple(max(1, self._survivors(num_configs, stage)) for stage in range(s + 1))

    def _survivors(self, num_configs: int, stage: int) -> int:
        """Return how many of a bracket's configurations reach its rung number `stage`, counted from 0."""
        if self._promotion == "hyperband":
            divisor: int = self._eta**stage
            return num_configs // divisor
        shares = [max(KEPT, 1 / self._eta)] * stage
        if self._promotion == "tapered" and 0 < stage == len(self._ladder) - 1:
            shares[-1] = max(KEPT_AT_LAST, 1 / self._eta)
        return round(num_configs * math.prod(shares))


def _ranked(entries: list[_Entry]) -> list[_Entry]:
    """Return the entries with a cost, best first, in the order of their asking where costs are equal."""
    finished = [entry for entry in entries if entry.cost is not None and math.isfinite(entry.cost)]
    return sorted(finished, key=lambda entry: entry.cost or 0.0)
