"""Which function draws which figure on the HTML page, by the type of its content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from naxcli.report.figures import importance_numbers as importance_charts
from naxcli.report.figures import numbers as charts
from naxcli.report.figures import plotly_importance, plotly_run
from naxcli.report.figures.plotly_style import Drawing

DRAWERS: dict[type, Callable[[Any], Drawing]] = {
    charts.Progress: plotly_run.draw_progress,
    charts.Parallel: plotly_run.draw_parallel,
    charts.Pareto: plotly_run.draw_pareto,
    charts.Curves: plotly_run.draw_curves,
    charts.Correlation: plotly_run.draw_correlation,
    importance_charts.Bars: plotly_importance.draw_bars,
    importance_charts.PairMatrix: plotly_importance.draw_pairs,
    importance_charts.Steps: plotly_importance.draw_steps,
    importance_charts.Dependence: plotly_importance.draw_dependence,
}
