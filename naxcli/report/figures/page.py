"""What draws which figure on the HTML page."""

from __future__ import annotations

from naxcli.report.figures import plotly_importance, plotly_run
from naxcli.report.figures.plotly_style import Drawers

DRAWERS: Drawers = plotly_run.DRAWERS | plotly_importance.DRAWERS
