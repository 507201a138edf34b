"""FidelityRange: the epochs at which trials are evaluated, MIN:MAX:ETA."""

from __future__ import annotations

import math
from dataclasses import dataclass

from naxcli.errors import NaxcliError


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityRange:
    """Fidelities min, min·η, …, max; a single one where min equals max.

    Raises:
        NaxcliError: If max is not min·η^k, naming the nearest legal maxima.
    """

    min: float
    max: float
    eta: int = 3

    def __post_init__(self) -> None:
        if not (0 < self.min <= self.max and math.isfinite(self.max)):
            raise NaxcliError(f"fidelity {self} is not a range", why="0 < MIN <= MAX is required")
        if self.eta < 2:
            raise NaxcliError(f"fidelity {self}: ETA is {self.eta}", why="it is a whole number of at least 2")
        k = self._num_steps()
        if not math.isclose(self.min * self.eta**k, self.max, rel_tol=1e-9):
            exponent = math.floor(math.log(self.max / self.min, self.eta) + 1e-9)
            nearest = [f"{self.min:g}:{self.min * self.eta**step:g}:{self.eta}" for step in (exponent, exponent + 1)]
            raise NaxcliError(
                f"fidelity {self.min:g}:{self.max:g}:{self.eta} is not a ladder of rungs",
                why="MAX must be MIN times a power of ETA, as successive halving divides by ETA from MAX down",
                hint=f"the nearest are {' and '.join(nearest)}",
            )

    def __str__(self) -> str:
        return f"{self.max:g}" if self.is_single else f"{self.min:g}:{self.max:g}:{self.eta}"

    @property
    def is_single(self) -> bool:
        return self.min == self.max

    def rungs(self) -> tuple[float, ...]:
        """Return the fidelities max / η^i, ascending: `min` itself first, whole numbers wherever it is one."""
        num_steps = self._num_steps()
        between = (self.max / self.eta**step for step in range(num_steps - 1, 0, -1))
        return (self.min, *between, self.max) if num_steps else (self.max,)

    def _num_steps(self) -> int:
        return round(math.log(self.max / self.min, self.eta))

    @classmethod
    def parse(cls, text: str) -> FidelityRange:
        """Return the range of `MIN:MAX:ETA`, or of a single number."""
        parts = text.split(":")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if len(numbers) == 1:
            return cls(min=numbers[0], max=numbers[0])
        if len(numbers) == 3 and numbers[2].is_integer():
            return cls(min=numbers[0], max=numbers[1], eta=int(numbers[2]))
        raise NaxcliError(
            f"fidelity {text!r} is not MIN:MAX:ETA", hint="--fidelity 3:27:3 for rungs of 3, 9 and 27 epochs"
        )
