"""Schedule: at which fidelity a configuration runs, and which ones run again at a higher one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from naxcli.records.trial import Suggestion
from naxcli.searchers.history import Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a new configuration runs. `rung` is the index of the fidelity, `bracket` the running number of the bracket."""

    fidelity: float
    bracket: int | None = None
    rung: int | None = None


class Schedule(Protocol):
    """Decides about fidelities, and hears of every suggestion and result.

    Attributes:
        promotes: whether results can lead to promotions.
    """

    promotes: bool

    def place(self) -> Place:
        """Return where the next new configuration runs."""

    def promotion(self, *, is_exhausted: bool) -> Suggestion | None:
        """Return the next trial of a configuration that has run at a lower fidelity, if one is due.

        Args:
            is_exhausted: whether there are no new configurations.
        """

    def ask(self, suggestion: Suggestion) -> None:
        """Note that a suggestion was handed out."""

    def tell(self, told: Told) -> None:
        """Note a result."""


class SingleFidelity:
    """Every configuration runs once, at the same fidelity."""

    promotes = False

    def __init__(self, fidelity: float) -> None:
        self._place = Place(fidelity=fidelity)

    def place(self) -> Place:
        return self._place

    def promotion(self, *, is_exhausted: bool) -> Suggestion | None:
        return None

    def ask(self, suggestion: Suggestion) -> None:
        pass

    def tell(self, told: Told) -> None:
        pass
