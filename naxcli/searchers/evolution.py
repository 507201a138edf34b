"""Regularized evolution: the best of a sample of the youngest configurations, with one choice changed.

Paper: Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier Architecture Search" (AmoebaNet), AAAI 2019,
Algorithm 1; the oldest leaves the population, not the worst. The paper's population is 100 and its sample 25
(`naxcli.settings.evolution`).

Deviations: results come in any order, and age is counted in results; a child that was evaluated before is not trained again,
another is bred instead.
"""

from __future__ import annotations

import numpy as np

from naxcli.records.trial import ConfigValue
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import History, Told, objectives
from naxcli.searchers.neighbours import mutate

MAX_CHILDREN = 200  # bred before a configuration is drawn at random instead


class EvolutionProposer:
    """Breeds from the last `population_size` results by tournaments of `sample_size`; until as many were asked, it is random."""

    def __init__(self, *, population_size: int, sample_size: int) -> None:
        self._population_size = population_size
        self._sample_size = sample_size

    def propose(
        self, history: History, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        population = history.successes[-self._population_size :]
        if len(history.asked) < self._population_size or not population:
            return candidates.draw(rng)
        for _ in range(MAX_CHILDREN):
            sample = rng.integers(len(population), size=self._sample_size)
            parent = min((population[index] for index in sample), key=_fitness)
            child = mutate(candidates.configuration_space, candidates.vector(parent.suggestion.config), rng)
            config = None if child is None else candidates.accept(candidates.config(child))
            if config is not None:
                return config
        return candidates.draw(rng)

    def notice(self, history: History) -> str:
        if len(history.asked) >= self._population_size:
            return ""
        return (
            f"evolution draws at random until its population of {self._population_size} is full; "
            "--set evolution_population=N makes that of another run smaller"
        )


def _fitness(told: Told) -> float:
    assert told.cost is not None
    return next(iter(objectives(told.cost)))
