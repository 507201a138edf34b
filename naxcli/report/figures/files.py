"""The report's figures as files for a paper: Matplotlib, vector and pixel, legible in greyscale."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.files import make_folder, write_file
from naxcli.report.data import ReportData
from naxcli.report.figures import importance_numbers as importance_charts
from naxcli.report.figures import matplotlib as painting
from naxcli.report.figures import numbers as charts
from naxcli.report.figures.scales import Scale
from naxcli.report.section import figures_of
from naxcli.report.sections import sections

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

# One column and two columns of a two-column paper, inches.
COLUMN, PAGE = 3.5, 7.0
DOTS_PER_INCH = 200
FORMATS = ("png", "svg", "pdf")
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    # The same numbers give the same file.
    "svg.hashsalt": "naxcli",
    # Names of hyperparameters hold underscores and dollars, not formulas.
    "text.parse_math": False,
}

# Inches of a character, of a row of bars, of a cell of the heat map, and of the least heat map that has room for its legend.
CHARACTER, ROW, CELL, LEAST_SIDE = 0.065, 0.2, 0.22, 1.5
PANEL_HEIGHT = 1.5
# Inches of parallel axes: a character of the widest tick, and between ticks.
TICK_CHARACTER, TICK_GAP = 0.048, 0.08
SHORT_NAME = 20

Size = tuple[float, float]


def write_plots(folder: Path, data: ReportData, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write every figure of the report in every format, and return the files; figures without data are left out.

    Raises:
        NaxcliError: if Matplotlib is not installed, a format is unknown, or the folder cannot be written.
    """
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise NaxcliError(f"plots cannot be written as {', '.join(unknown)}", hint=f"formats: {', '.join(FORMATS)}")
    make_folder(folder)
    paths = []
    for name, figure in painted(data):
        for kind in formats:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=None if kind == "png" else _undated(kind))
            paths.append(folder / f"{name}.{kind}")
            write_file(paths[-1], buffer.getvalue())
    return paths


def painted(data: ReportData) -> Iterator[tuple[str, MatplotlibFigure]]:
    """Yield the name and the drawn figure of everything that the run has data for.

    Raises:
        NaxcliError: if Matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NaxcliError(
            "plots need Matplotlib, which is not installed", why=str(error), hint="pip install 'naxcli[html]'"
        ) from error
    with mpl.rc_context(STYLE):
        for described in figures_of(sections(data)):
            size, paint = PAINTERS[type(described.content)]
            found = described.content
            figure = Figure(figsize=size(found) if callable(size) else size, layout="constrained")
            paint(figure, found)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # the layout is found once, not again for each format
            yield described.file, figure


def _undated(kind: str) -> dict[str, None]:
    return {"Date": None} if kind == "svg" else {"CreationDate": None}


def _rows(scale: Scale, row: float = ROW) -> Size:
    """Return the size of a figure of rows: wider than a column where long names would leave too little of it."""
    longest = max(len(text) for _, text in scale.all_ticks)
    return COLUMN + CHARACTER * max(0, longest - SHORT_NAME), 0.9 + row * len(scale.all_ticks)


def _size_of_bars(bars: importance_charts.Bars) -> Size:
    return _rows(bars.y, max(ROW, 0.09 * len(bars.fidelities) + 0.06))


def _size_of_parallel(found: charts.Parallel) -> Size:
    return max(PAGE, (TICK_CHARACTER * found.longest_tick + TICK_GAP) * len(found.axes)), 3.2


def _size_of_pairs(found: importance_charts.PairMatrix) -> Size:
    names = CHARACTER * max(map(len, found.names))
    side = max(LEAST_SIDE, CELL * len(found.names))
    return side + names + 0.9, side + names * 0.9 + 0.2


def _size_of_panels(found: importance_charts.Panels) -> Size:
    return PAGE, PANEL_HEIGHT * -(-len(found.curves) // painting.NUM_PANELS)


# By the type of a figure's content: its size in inches, and what draws it.
PAINTERS: dict[type, tuple[Size | Callable[[Any], Size], Callable[[MatplotlibFigure, Any], None]]] = {
    charts.Progress: ((PAGE, 3.0), painting.paint_progress),
    charts.Parallel: (_size_of_parallel, painting.paint_parallel),
    charts.Pareto: ((COLUMN, 2.6), painting.paint_pareto),
    charts.Curves: ((COLUMN, 2.6), painting.paint_curves),
    charts.Correlation: ((COLUMN, 2.6), painting.paint_correlation),
    importance_charts.Bars: (_size_of_bars, painting.paint_bars),
    importance_charts.PairMatrix: (_size_of_pairs, painting.paint_pairs),
    importance_charts.Steps: (lambda found: _rows(found.y), painting.paint_steps),
    importance_charts.Panels: (_size_of_panels, painting.paint_panels),
}
