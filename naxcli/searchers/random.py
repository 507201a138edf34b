"""Random search: open configurations, uniformly. The arm that every searcher is compared with.

Paper: Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13 (2012).
"""

from __future__ import annotations

import numpy as np

from naxcli.records.trial import ConfigValue
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import History


class RandomProposer:
    """Draws from the open configurations, whatever was told."""

    def propose(
        self, history: History, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        return candidates.draw(rng)

    def notice(self, history: History) -> str:
        return ""
