"""Feasibility: limits checked before training, on torch's meta device, and remembered."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config, config_id
from naxcli.search_space.contract import Space, name_of, plain_config
from naxcli.search_space.enumeration import enumerate_configurations
from naxcli.searchers.neighbours import one_exchange
from naxcli.settings.limits import Bound, Limits
from naxcli.settings.recipe import Recipe
from naxcli.settings.units import format_count

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

# Configurations sampled at the start to find at least one that is allowed, and how many of them are measured.
MAX_SAMPLES = 2_000
NUM_MEASURED = 40
MAX_SEARCH_SECONDS = 60.0

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """The sizes that the data dictate to a network."""

    num_classes: int
    in_channels: int
    image_size: int


class Feasibility:
    """Whether a configuration keeps the experiment's limits and the space's own constraints. Callable, with a memory.

    What the space's own code raises about one configuration ends no search: that configuration is left out, which is said, or
    tried, where it is its network that cannot be built: its trial crashes with the reason.
    """

    def __init__(
        self,
        space: Space,
        limits: Limits,
        *,
        width: float,
        shape: NetworkShape | None,
        recipe: Recipe | None = None,
        on_notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._space = space
        self._width = width
        self._shape = shape
        self._recipe = recipe or Recipe()
        self._on_notice = on_notice
        given = [item for item in (limits, *space.constraints) if isinstance(item, Limits)]
        self._bounds = {
            bound: f"{bound.name} = {format_count(bound.value)}" for item in given for bound in item.before_training()
        }
        self._predicates = space.predicates
        self._known: dict[str, bool] = {}
        self._excess: dict[str, float] = {}
        self.rejections: Counter[str] = Counter()
        self.closest: dict[str, float] = {}  # to each limit that was broken, of the values that broke it or kept it

    def __bool__(self) -> bool:
        """Whether anything is limited before training; latency is measured by the trial itself."""
        return bool(self._predicates or self._bounds)

    def __call__(self, config: Config) -> bool:
        identity = config_id(config)
        if identity not in self._known:
            try:
                self._known[identity] = self._check(config)
            except NaxcliError as error:
                self._known[identity] = False
                self._on_notice(f"left out {dict(config)}: {error.what}: {error.why}")
        return self._known[identity]

    def _check(self, config: Config) -> bool:
        for predicate in self._predicates:
            if not self._space.allows(predicate, config):
                self.rejections[f"the space's constraint {name_of(predicate)}"] += 1
                return False
        broken = self._broken_limits(config)
        self.rejections.update(broken.keys())
        self._excess[config_id(config)] = sum(broken.values())
        return not broken

    def _broken_limits(self, config: Config) -> dict[str, float]:
        """Return for each limit that is broken by which factor, as its logarithm."""
        if not self._bounds:
            return {}
        try:
            values = self._measure(config)
        except Exception:
            if self._space.build is None:
                raise
            return {}
        broken = {}
        for bound, name in self._bounds.items():
            value = values.get(bound.quantity)
            if value is None:
                raise NaxcliError(
                    f"space {self._space.name!r} cannot tell its {bound.quantity} before a trial",
                    why=f"its zero_cost returns {', '.join(values) or 'nothing'}",
                    hint=f"have zero_cost return {'num_params' if bound.quantity == 'params' else bound.quantity}, or drop the limit",
                )
            self.closest[name] = (min if bound.is_upper else max)(value, self.closest.get(name, value))
            if not self._keeps(bound, value):
                small, large = sorted((value, bound.value))
                broken[name] = math.log(large / small) if small > 0 else math.inf
        return broken

    def _measure(self, config: Config) -> Mapping[str, float]:
        if self._space.build is None or self._shape is None:
            if self._space.zero_cost is None:
                raise NaxcliError(
                    f"space {self._space.name!r} has limits on its network's size, but no build= and no zero_cost= to measure it"
                )
            metrics = self._space.cheap_metrics(config)
            return {("params" if name == "num_params" else name): value for name, value in metrics.items()}
        from naxcli.search_space.sizes import measure_config

        sizes: dict[str, Any] = {
            "num_classes": self._shape.num_classes,
            "in_channels": self._shape.in_channels,
            "image_size": self._recipe.with_choices(config).resolution or self._shape.image_size,
            "width": self._width,
        }
        counts = measure_config(self._space, config, **sizes)
        values = {"params": counts["num_params"], "flops": counts["flops"]}
        if any(bound.quantity.startswith("inference_") for bound in self._bounds):
            counts = measure_config(self._space, config, is_inference=True, **sizes)
            values |= {"inference_params": counts["num_params"], "inference_flops": counts["flops"]}
        return values

    def require_one(self, seed: int) -> None:
        """Check that some configuration is allowed: the default, a reference, one of a sample, or one reached from the best of it by
        changing one choice at a time.

        Raises:
            NaxcliError: naming the limit that refused most of the configurations, with the closest value seen.
        """
        from ConfigSpace import Configuration

        configuration_space = self._space.configuration_space(seed)
        # What the space's own code raises about its default, it raises about all, as a rule: it ends the search.
        default = self._space.canonicalise(self._space.default_config())
        self._known[config_id(default)] = self._check(default)
        if self._known[config_id(default)]:
            return
        references = self._space.legal_references(configuration_space)
        if any(map(self, map(self._space.canonicalise, references))):
            return
        sampled = configuration_space.sample_configuration(MAX_SAMPLES)
        for configuration in sampled:
            if self._allows(configuration):
                return
            if self._bounds and len(self._excess) >= NUM_MEASURED:
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
        if self._predicates and self._is_any_allowed(configuration_space):
            return
        # A thin band lies beside the path of small steps; where a limit refuses everything, more samples do not help.
        if self._is_each_kept() and any(map(self._allows, _in_time(sampled))):
            return
        raise self._nothing_left()

    def _is_each_kept(self) -> bool:
        """Return whether every limit alone is kept by some configuration that was measured."""
        return bool(self._bounds) and all(
            name in self.closest and self._keeps(bound, self.closest[name]) for bound, name in self._bounds.items()
        )

    @staticmethod
    def _keeps(bound: Bound, value: float) -> bool:
        return value <= bound.value if bound.is_upper else value >= bound.value

    def _nothing_left(self) -> NaxcliError:
        """Return the error that names the limit that refused most, or all where each alone is kept by some."""
        tightest, num_refused = self.rejections.most_common(1)[0]
        bound = next((bound for bound, name in self._bounds.items() if name == tightest), None)
        refused = f"it refused {num_refused:,} of {len(self._known):,} configurations tried"
        closest = self.closest.get(tightest)
        if bound is None or closest is None:
            why, hint = f"the tightest is {tightest}: {refused}", "look at the space's constraints"
        elif self._keeps(bound, closest):
            each = ", ".join(f"{name} refused {number:,}" for name, number in self.rejections.most_common())
            why, hint = (
                f"of {len(self._known):,} configurations tried, {each}",
                "each limit alone is kept by some: widen them",
            )
        else:
            extreme, change = ("smallest", "raise") if bound.is_upper else ("largest", "lower")
            why = f"the tightest is {tightest}: {refused}, whose {extreme} value is {format_count(closest)}"
            hint = f"{change} this limit"
            if self._space.build is not None:
                narrower, width = ("narrower", self._width / 2) if bound.is_upper else ("wider", self._width * 2)
                hint += f", or make the networks {narrower} with --set width={width:.2g}"
        return NaxcliError(
            f"no configuration of space {self._space.name!r} was found that keeps the limits", why=why, hint=hint
        )

    def _is_any_allowed(self, configuration_space: ConfigurationSpace) -> bool:
        """Go through the whole space, where it can be enumerated, for as long as is bearable: predicates may leave a needle in it."""
        table = enumerate_configurations(configuration_space)
        if table is None:
            return False
        return any(self(self._space.canonicalise(table.config(row))) for row in _in_time(range(len(table))))

    def _allows(self, configuration: Configuration) -> bool:
        return self(self._space.canonicalise(plain_config(configuration)))

    def _excess_of(self, configuration: Configuration) -> float:
        """Return how far a configuration that was checked is from keeping the limits, infinite where a predicate refused it."""
        return self._excess.get(config_id(self._space.canonicalise(plain_config(configuration))), math.inf)


def _in_time(items: Sequence[Item]) -> Iterator[Item]:
    """Yield items for as long as is bearable."""
    end = time.monotonic() + MAX_SEARCH_SECONDS
    for item in items:
        yield item
        if time.monotonic() > end:
            return
