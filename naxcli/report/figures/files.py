"""The report's figures as files for a paper: Matplotlib, vector and pixel, legible in greyscale."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.files import make_folder, write_file
from naxcli.report.data import ReportData
from naxcli.report.figures import importance_numbers as importance_charts
from naxcli.report.figures import matplotlib as painting
from naxcli.report.figures import numbers as charts
from naxcli.report.figures.scales import Scale
from naxcli.report.text import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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

# Name of the file without its ending, size in inches, and what draws it.
Plot = tuple[str, tuple[float, float], "Callable[[Figure], None]"]


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


def painted(data: ReportData) -> Iterator[tuple[str, Figure]]:
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
        for name, size, paint in _plots(data):
            figure = Figure(figsize=size, layout="constrained")
            paint(figure)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # the layout is found once, not again for each format
            yield name, figure


def _undated(kind: str) -> dict[str, None]:
    return {"Date": None} if kind == "svg" else {"CreationDate": None}


def _plots(data: ReportData) -> Iterator[Plot]:
    yield from _run_plots(data)
    for method in importance_charts.METHODS:
        for by_group in (False, True):
            bars = importance_charts.importance_bars(data, method, by_group=by_group)
            if bars is not None and (not by_group or any(entry.get("groups") for entry in data.importance)):
                row = max(ROW, 0.09 * len(bars.fidelities) + 0.06)
                name = f"{method}_{'groups' if by_group else 'hyperparameters'}"
                yield name, _rows(bars.y, row), partial(painting.paint_bars, bars=bars, data=data)
    for entry in data.importance:
        yield from _fidelity_plots(data, entry, plain(float(entry["fidelity"])))


def _run_plots(data: ReportData) -> Iterator[Plot]:
    for clock in ("elapsed", "spent"):
        progress = charts.progress(data, clock)
        if progress is not None:
            paint = partial(painting.paint_cost_over, found=progress, data=data)
            yield f"cost_over_{clock}_time", (PAGE, 3.0), paint
    parallel = charts.parallel(data)
    if parallel is not None:
        width = max(PAGE, (TICK_CHARACTER * parallel.longest_tick + TICK_GAP) * len(parallel.axes))
        yield "parallel_coordinates", (width, 3.2), partial(painting.paint_parallel, found=parallel)
    pareto = charts.pareto(data)
    if pareto is not None:
        yield "pareto_front", (COLUMN, 2.6), partial(painting.paint_pareto, found=pareto)
    curves = charts.learning_curves(data)
    if curves is not None:
        yield "learning_curves", (COLUMN, 2.6), partial(painting.paint_curves, found=curves)
    correlation = charts.correlation(data)
    if correlation is not None:
        yield "fidelity_correlation", (COLUMN, 2.6), partial(painting.paint_correlation, found=correlation)


def _fidelity_plots(data: ReportData, entry: Mapping[str, Any], fidelity: str) -> Iterator[Plot]:
    matrix = importance_charts.pair_matrix(entry)
    if matrix is not None:
        names = CHARACTER * min(max(map(len, matrix[0])), charts.LABEL_LENGTH)
        side = max(LEAST_SIDE, CELL * len(matrix[0]))
        size = (side + names + 0.9, side + names * 0.9 + 0.2)
        yield f"pairs_{fidelity}", size, partial(painting.paint_pairs, names=matrix[0], matrix=matrix[1])
    path = importance_charts.ablation(entry)
    if path is not None:
        yield f"ablation_{fidelity}", _rows(path.y), partial(painting.paint_ablation, found=path)
    shapley = importance_charts.shapley(data, entry)
    if shapley is not None:
        yield f"shapley_{fidelity}", _rows(shapley.y), partial(painting.paint_shapley, found=shapley)
    curves = importance_charts.dependences(data, entry)
    if curves:
        size = (PAGE, PANEL_HEIGHT * -(-len(curves) // painting.NUM_PANELS))
        yield f"partial_dependence_{fidelity}", size, partial(painting.paint_dependences, found=curves)


def _rows(scale: Scale, row: float = ROW) -> tuple[float, float]:
    """Return the size of a figure of rows: wider than a column where long names would leave too little of it."""
    longest = max(len(text) for _, text in scale.all_ticks)
    return COLUMN + CHARACTER * max(0, longest - SHORT_NAME), 0.9 + row * len(scale.all_ticks)
