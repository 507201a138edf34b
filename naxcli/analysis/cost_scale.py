"""The scale on which effects add up: the cost itself, or a logarithm of it.

Very skewed costs are modelled on several scales, logarithmic ones too (Snelson, Rasmussen, Ghahramani, NeurIPS 2003), of which the most
probable counts for half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from naxcli.analysis.encoding import Floats

# Costs more skewed than this may be modelled on a logarithmic scale, from so many distances of the median below the lowest.
MIN_SKEWNESS = 1.0
SHIFTS = (0.1, 0.5, 2.0)
# Standard deviations above the highest cost of a trial up to which a logarithmic scale predicts.
HEADROOM = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostScale:
    """The scale on which effects add up: the cost itself, or the logarithm of its distance from a value below all.

    Args:
        below: that value, None for the cost itself.
        offset: mean of the scale.
        size: its standard deviation.
        highest: standardised value above which nothing is predicted: a tail that no trial has seen would hold all the variance.
    """

    below: float | None
    offset: float
    size: float
    highest: float

    def standardise(self, costs: Floats) -> Floats:
        """Return costs on the scale, of mean 0 and variance 1."""
        values = costs if self.below is None else np.log(costs - self.below)
        standardised: Floats = (values - self.offset) / self.size
        return standardised

    def costs(self, standardised: Floats) -> Floats:
        """Return the costs of values on the scale."""
        if self.below is None:
            return self.offset + self.size * standardised
        found: Floats = self.below + np.exp(self.offset + self.size * np.minimum(standardised, self.highest))
        return found

    def slopes(self, costs: Floats) -> Floats:
        """Return the logarithm of the cost per unit of the scale at some costs."""
        slopes: Floats = np.log(self.size) + (
            np.zeros(len(costs)) if self.below is None else np.log(costs - self.below)
        )
        return slopes


def scales_of(costs: Floats) -> list[CostScale]:
    """Return the scales to choose from: logarithms only where a few costs lie far above the others."""
    centred = costs - costs.mean()
    found: list[float | None] = [None]
    if (centred**3).mean() > MIN_SKEWNESS * (centred**2).mean() ** 1.5:
        distance = float(np.median(costs) - costs.min()) or float(costs.std())
        found += [float(costs.min()) - share * distance for share in SHIFTS]
    scales = []
    for below in found:
        values = costs if below is None else np.log(costs - below)
        offset, size = float(values.mean()), float(values.std()) or 1.0
        highest = float((values.max() - offset) / size) + HEADROOM
        scales.append(CostScale(below=below, offset=offset, size=size, highest=highest))
    return scales
