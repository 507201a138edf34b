"""naxcli: a command-line runner for neural architecture search. Space files import only `Space` from here."""

from __future__ import annotations

from naxcli.space import Limits, Space

__version__ = "0.1.0"
__all__ = ["Limits", "Space", "__version__"]
