"""Candidates: the configurations that may still be suggested, each once: legal, canonical, feasible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config, ConfigValue, config_id
from naxcli.search_space.contract import Space, plain_config, to_configuration
from naxcli.search_space.enumeration import Enumeration, enumerate_configurations, sample_configs
from naxcli.settings.units import counted

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

IsFeasible = Callable[[Config], bool]

DRAWS = 200  # uniform draws that may hit closed configurations before all are gone through
SAMPLES = 10_000  # the same for spaces that cannot be enumerated
BEST_AT_ONCE = 256


class Candidates:
    """The open configurations of a space: not yet claimed, and feasible.

    What is random takes its generator as an argument and depends on nothing but that and the claimed configurations.
    Feasibility is asked only where a configuration is about to be suggested, and its answer is remembered.

    Args:
        space: merges configurations that are the same network (`Space.canonicalise`).
        configuration_space: of the search.
        is_feasible: whether a configuration keeps all limits; milliseconds are fine.
    """

    def __init__(
        self, *, space: Space, configuration_space: ConfigurationSpace, is_feasible: IsFeasible | None = None
    ) -> None:
        self._space = space
        self.configuration_space = configuration_space
        self._is_feasible = is_feasible
        self._feasible: dict[str, bool] = {}
        self._claimed: set[str] = set()
        self._sampling_failed = False
        self._num_passed = 0  # rows of `_checking_order` known to be closed

    @cached_property
    def table(self) -> Enumeration | None:
        """All configurations, None where they cannot be enumerated."""
        return enumerate_configurations(self.configuration_space)

    @cached_property
    def _closed(self) -> npt.NDArray[np.bool_]:
        """Rows of the table known not to be open: claimed, another name of one that is, or infeasible."""
        return np.zeros(0 if self.table is None else len(self.table), dtype=np.bool_)

    @cached_property
    def _checking_order(self) -> npt.NDArray[np.intp]:
        # In the table's own order thousands of neighbours may be infeasible together, such as all of the largest kernel.
        return np.random.default_rng(0).permutation(len(self._closed))

    @property
    def is_exhausted(self) -> bool:
        """Whether no open configuration is left; of a space that cannot be enumerated, whether sampling found none."""
        if self.table is None:
            return self._sampling_failed
        while self._num_passed < len(self._checking_order):
            if self._open_row(int(self._checking_order[self._num_passed])) is not None:
                return False
            self._num_passed += 1
        return True

    def require_any(self) -> None:
        """Raise NaxcliError if no configuration at all is feasible."""
        if not self._claimed and self.is_exhausted:
            sampled = counted(SAMPLES, "sampled configuration")
            tried = sampled if self.table is None else f"all of {counted(len(self.table), 'configuration')}"
            raise NaxcliError(
                f"no configuration of space {self._space.name!r} is feasible",
                why=f"{tried} broke a limit or a constraint of the space",
                hint="loosen the limits, or look at the space's constraints",
            )

    def claim(self, config: Config) -> None:
        """Close a configuration that was suggested."""
        self._claimed.add(config_id(self.canonical(config)))

    def accept(self, config: Config) -> dict[str, ConfigValue] | None:
        """Return the canonical form of a legal configuration if that is open."""
        canonical = self.canonical(config)
        identity = config_id(canonical)
        return None if identity in self._claimed or not self.keeps_limits(canonical) else canonical

    def keeps_limits(self, canonical: Config) -> bool:
        """Return whether a canonical configuration is feasible, claimed or not."""
        identity = config_id(canonical)
        if identity not in self._feasible:
            self._feasible[identity] = self._is_feasible is None or self._is_feasible(canonical)
        return self._feasible[identity]

    def first_open(self, configs: Iterable[Config]) -> dict[str, ConfigValue] | None:
        """Return the canonical form of the first of some legal configurations that is open."""
        return next((config for config in map(self.accept, configs) if config is not None), None)

    def draw(self, rng: np.random.Generator) -> dict[str, ConfigValue] | None:
        """Return an open configuration at random, None if none is left.

        Uniform over all configurations where they can be enumerated, else uniform per hyperparameter.
        """
        for config in self._drawn(rng):
            if config is not None:
                return config
        self._sampling_failed = True
        return None

    def best(self, scores: npt.NDArray[np.float64], rng: np.random.Generator) -> dict[str, ConfigValue] | None:
        """Return the open configuration of the table with the highest score, ties broken at random; None if none is left.

        Args:
            scores: (num_configurations,), one per row of the table.
            rng: generator of the ties.
        """
        ties = rng.random(len(scores))
        open_rows = np.flatnonzero(~self._closed)
        num_best = BEST_AT_ONCE
        while len(open_rows):
            if num_best < len(open_rows):
                threshold = np.partition(scores[open_rows], -num_best)[-num_best]
                leaders = open_rows[scores[open_rows] >= threshold]
            else:
                leaders = open_rows
            for row in leaders[np.lexsort((ties[leaders], scores[leaders]))[::-1]]:
                config = self._open_row(int(row))
                if config is not None:
                    return config
            open_rows = open_rows[~self._closed[open_rows]]
            num_best *= 8
        return None

    def vector(self, config: Config) -> npt.NDArray[np.float64]:
        """Return ConfigSpace's vector of a configuration, NaN where inactive."""
        vector = np.full(len(self.configuration_space), np.nan)
        for name, value in config.items():
            vector[self.configuration_space.index_of[name]] = self.configuration_space[name].to_vector(value)
        return vector

    def config(self, vector: npt.NDArray[np.float64]) -> dict[str, ConfigValue]:
        """Return the configuration of a legal vector as plain values."""
        from ConfigSpace import Configuration

        return plain_config(Configuration(self.configuration_space, vector=vector))

    def _drawn(self, rng: np.random.Generator) -> Iterator[dict[str, ConfigValue] | None]:
        if self.table is None:
            num_sampled = 0
            while num_sampled < SAMPLES:
                batch = sample_configs(self.configuration_space, 1 + num_sampled, seed=int(rng.integers(2**31)))
                num_sampled += len(batch)
                yield from map(self.accept, batch)
            return
        for _ in range(DRAWS if len(self.table) else 0):
            yield self._open_row(int(rng.integers(len(self.table))))
        order = rng.permutation(len(self.table))
        for row in order[~self._closed[order]]:
            yield self._open_row(int(row))

    def _open_row(self, row: int) -> dict[str, ConfigValue] | None:
        """Return the canonical configuration of a row of the table if it is open; note if it is not."""
        assert self.table is not None
        if self._closed[row]:
            return None
        config = self.accept(self.table.config(row))
        self._closed[row] = config is None
        return config

    def canonical(self, config: Config) -> dict[str, ConfigValue]:
        """Return the configuration that stands for all names of the same network."""
        canonical = self._space.canonicalise(config)
        if canonical == dict(config):
            return canonical
        if self.table is None or self.table.row_of(canonical) is None:
            to_configuration(self.configuration_space, canonical, what=f"canonical form of {dict(config)}")
        return canonical
