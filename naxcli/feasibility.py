"""Feasibility: limits checked before training, on torch's meta device, and remembered."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from naxcli.errors import NaxcliError
from naxcli.quantities import format_count
from naxcli.searchers.neighbours import one_exchange
from naxcli.space import Limits, Space, plain_config
from naxcli.trial import Config, config_id

if TYPE_CHECKING:
    from ConfigSpace import Configuration

# Configurations sampled at the start to find at least one that is allowed, and how many of them are measured.
MAX_SAMPLES = 2_000
NUM_MEASURED = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """The sizes that the data dictate to a network."""

    num_classes: int
    in_channels: int
    image_size: int


class Feasibility:
    """Whether a configuration keeps the experiment's limits and the space's own constraints. Callable, with a memory."""

    def __init__(self, space: Space, limits: Limits, *, width: float, shape: NetworkShape | None) -> None:
        self._space = space
        self._width = width
        self._shape = shape
        self._limits = [item for item in (limits, *space.constraints) if isinstance(item, Limits) and item]
        self._predicates = [item for item in space.constraints if not isinstance(item, Limits)]
        self._known: dict[str, bool] = {}
        self._excess: dict[str, float] = {}
        self.rejections: Counter[str] = Counter()
        self.closest: dict[str, float] = {}

    def __bool__(self) -> bool:
        """Whether anything is limited before training; latency is measured by the trial itself."""
        return bool(self._predicates) or any(limit.max_params or limit.max_flops for limit in self._limits)

    def __call__(self, config: Config) -> bool:
        identity = config_id(config)
        if identity not in self._known:
            self._known[identity] = self._check(config)
        return self._known[identity]

    def _check(self, config: Config) -> bool:
        for predicate in self._predicates:
            if not predicate(config):
                self.rejections[f"the space's constraint {getattr(predicate, '__name__', 'without a name')}"] += 1
                return False
        broken = self._broken_limits(config)
        self.rejections.update(broken.keys())
        self._excess[config_id(config)] = sum(broken.values())
        return not broken

    def _broken_limits(self, config: Config) -> dict[str, float]:
        """Return for each limit that is broken by which factor, as its logarithm."""
        if not any(limit.max_params or limit.max_flops for limit in self._limits):
            return {}
        values = self._measure(config)
        broken = {}
        for limit in self._limits:
            for item in fields(Limits):
                bound, value = getattr(limit, item.name), values.get(item.name.removeprefix("max_"))
                if bound is None or value is None:
                    continue
                name = f"{item.name} = {format_count(bound)}"
                self.closest[name] = min(value, self.closest.get(name, value))
                if value > bound:
                    broken[name] = math.log(value / bound)
        return broken

    def _measure(self, config: Config) -> Mapping[str, float]:
        if self._space.build is None or self._shape is None:
            if self._space.zero_cost is None:
                raise NaxcliError(
                    f"space {self._space.name!r} has limits on its network's size, but no build= and no zero_cost= to measure it"
                )
            cheap = dict(self._space.zero_cost(config))
            return {"params": cheap.get("num_params", cheap.get("params")), "flops": cheap.get("flops")}  # type: ignore[dict-item]
        from naxcli.measure import measure_config

        counts: dict[str, Any] = measure_config(
            self._space, config, num_classes=self._shape.num_classes, in_channels=self._shape.in_channels,
            image_size=self._shape.image_size, width=self._width,
        )  # fmt: skip
        return {"params": counts["num_params"], "flops": counts["flops"]}

    def require_one(self, seed: int) -> None:
        """Check that some configuration is allowed: one of a sample, or one reached from the best of it by changing one choice at a time.

        Raises:
            NaxcliError: naming the limit that refused most of the configurations, with the closest value seen.
        """
        from ConfigSpace import Configuration

        configuration_space = self._space.configuration_space(seed)
        if self(self._space.canonicalise(self._space.default_config())):
            return
        sampled = configuration_space.sample_configuration(MAX_SAMPLES)
        for configuration in sampled:
            if self._allows(configuration):
                return
            if self._limits and len(self._excess) >= NUM_MEASURED:
                break
        best = min(sampled, key=self._excess_of)
        rng = np.random.default_rng(seed)
        while math.isfinite(self._excess_of(best)):
            around = [
                Configuration(configuration_space, vector=vector)
                for vector in one_exchange(configuration_space, best.get_array(), rng)
            ]
            if any(self._allows(configuration) for configuration in around):
                return
            if not around or min(map(self._excess_of, around)) >= self._excess_of(best):
                break
            best = min(around, key=self._excess_of)
        tightest = self.rejections.most_common(1)[0][0]
        closest = self.closest.get(tightest)
        raise NaxcliError(
            f"no configuration of space {self._space.name!r} keeps the limits",
            why=f"the tightest is {tightest}: it refused {self.rejections[tightest]} of {len(self._known)} configurations tried"
            + (f", whose smallest value is {format_count(closest)}" if closest is not None else ""),
            hint="raise this limit, or make the network smaller with --set width=0.5",
        )  # fmt: skip

    def _allows(self, configuration: Configuration) -> bool:
        return self(self._space.canonicalise(plain_config(configuration)))

    def _excess_of(self, configuration: Configuration) -> float:
        """Return how far a configuration that was checked is from keeping the limits, infinite where a predicate refused it."""
        return self._excess.get(config_id(self._space.canonicalise(plain_config(configuration))), math.inf)
