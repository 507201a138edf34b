"""How large the population and the sample of regularized evolution are where nobody says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

PAPERS_POPULATION, PAPERS_SAMPLE = 100, 25
"""Those of Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019."""
FORMER_DEFAULTS = {"evolution_population": 50, "evolution_sample": 12}
"""Those of runs that do not record theirs."""
_RANDOM_SHARE = 0.25  # of the trials, which the first population may take
_SMALLEST_POPULATION = 10
_SAMPLE_SHARE = PAPERS_SAMPLE / PAPERS_POPULATION


def evolution_defaults(settings: Mapping[str, Any]) -> dict[str, int]:
    """Return `evolution_population` and `evolution_sample` of a new run.

    The population is the paper's, but at most a quarter of the trials where the settings limit those, as the first population is
    random; 10 at least, and no fewer than a given sample. How many trials a duration allows is not known beforehand. The sample keeps
    the paper's share of the population.
    """
    limits = [settings.get(name) for name in ("trials", "budget_evaluations")]
    num_trials = min((float(limit) for limit in limits if limit is not None), default=math.inf)
    population, sample = settings.get("evolution_population"), settings.get("evolution_sample")
    if population is None:
        population = int(max(_SMALLEST_POPULATION, min(PAPERS_POPULATION, _RANDOM_SHARE * num_trials), sample or 0))
    return {
        "evolution_population": population,
        "evolution_sample": max(1, round(_SAMPLE_SHARE * population)) if sample is None else sample,
    }
