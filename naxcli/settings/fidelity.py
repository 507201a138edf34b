"""FidelityRange: the epochs at which trials are evaluated, MIN:MAX:ETA; FidelityCosts: what a trial at each of them costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from naxcli.errors import NaxcliError

MEASURED = "measured"
"""How `--cost` says that trials cost the time that they take."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityCosts:
    """What a trial at each fidelity costs, in any unit; without a number it is measured.

    Raises:
        NaxcliError: If a cost is not above 0.
    """

    costs: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        for fidelity, cost in self.costs:
            if not 0 < cost < math.inf:
                raise NaxcliError(f"the cost of fidelity {fidelity:g} is {cost:g}", why="it must be above 0 and finite")

    @property
    def is_measured(self) -> bool:
        return not self.costs

    def __str__(self) -> str:
        return MEASURED if self.is_measured else ",".join(f"{fidelity!r}={cost!r}" for fidelity, cost in self.costs)

    def of(self, fidelity: float) -> float | None:
        """Return the stated cost of a trial, in units of one at the highest fidelity; None of a fidelity that has none."""
        cost = next((cost for known, cost in self.costs if math.isclose(known, fidelity)), None)
        return None if cost is None else cost / max(self.costs)[1]

    def require_rungs(self, fidelity: FidelityRange) -> None:
        """Check that these are the costs of the rungs of a range, all of them and no other, where they are stated.

        Raises:
            NaxcliError: If not.
        """
        rungs = fidelity.rungs()
        if self.is_measured:
            return
        if len(self.costs) != len(rungs) or any(self.of(rung) is None for rung in rungs):
            raise NaxcliError(
                f"the costs {self} are not those of fidelity {fidelity}",
                why=f"its rungs are {', '.join(f'{rung:g}' for rung in rungs)}, and each needs one",
                hint=f"--cost {','.join(f'{rung:g}={rung / fidelity.max:.3g}' for rung in rungs)} is what they cost unless stated",
            )

    @classmethod
    def parse(cls, text: str) -> FidelityCosts:
        """Return the costs of `FIDELITY=COST,FIDELITY=COST`, or of `measured`."""
        if text == MEASURED:
            return cls(costs=())
        try:
            pairs = [tuple(float(number) for number in part.split("=")) for part in text.split(",")]
        except ValueError:
            pairs = []
        if not pairs or any(len(pair) != 2 for pair in pairs):
            raise NaxcliError(
                f"cost {text!r} is not FIDELITY=COST,FIDELITY=COST", hint="--cost 12=0.05,240=1, or --cost measured"
            )
        return cls(costs=tuple((fidelity, cost) for fidelity, cost in pairs))
