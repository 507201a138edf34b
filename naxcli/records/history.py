"""What a search has asked and been told, as searchers and the loop see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from naxcli.records.trial import Status, Trial

# Of `--objective`, and the columns that hold them.
OBJECTIVE_COLUMNS = {"params": "num_params", "flops": "flops", "latency_ms": "latency_ms"}


def objective_costs(cost: float | None, measured: Sequence[float | None]) -> float | tuple[float, ...] | None:
    """Return what a searcher is told: the cost, a tuple with further objectives, or None where one is missing."""
    if cost is None or any(value is None for value in measured):
        return None
    return (cost, *(float(value) for value in measured if value is not None)) if measured else cost


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent:
    """An ask, or the result of an earlier ask; `cost` is a tuple for several objectives, None for a failure."""

    trial: Trial
    is_result: bool
    cost: float | tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTrial:
    """A trial with the part of its result that the search loop needs."""

    trial: Trial
    status: Status
    cost: float | None
    seconds: float
    worker: str | None = None
    grad_accum_steps: int | None = None
    predicted_cost: float | None = None
    stopped_after: float | None = None

    @property
    def told_cost(self) -> float | None:
        """What a searcher learns: the cost, that which a stopped trial was expected to reach, None of a failure."""
        return self.predicted_cost if self.status == Status.STOPPED else self.cost

    @property
    def is_cut(self) -> bool:
        """Whether its batches were cut for lack of memory, so that batch normalization saw fewer images than the recipe says."""
        return (self.grad_accum_steps or 1) > 1
