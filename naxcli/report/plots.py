"""The report's figures as files for a paper: Matplotlib, vector and pixel, legible in greyscale."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.report import charts, importance, painting
from naxcli.report.data import ReportData
from naxcli.report.files import make_folder, write_file
from naxcli.report.text import is_missing, plain

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

# Name of the file without its ending, size in inches, and what draws it.
Plot = tuple[str, tuple[float, float], "Callable[[Figure], None]"]


def write_plots(folder: Path, data: ReportData, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write every figure of the report in every format, and return the files; figures without data are left out.

    Raises:
        NaxcliError: if Matplotlib is not installed, a format is unknown, or the folder cannot be written.
    """
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise NaxcliError(f"plots cannot be written as {', '.join(unknown)}", hint=f"formats: {', '.join(FORMATS)}")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NaxcliError(
            "plots need Matplotlib, which is not installed", why=str(error), hint="pip install 'naxcli[html]'"
        ) from error
    make_folder(folder)
    paths = []
    with mpl.rc_context(STYLE):
        for name, size, paint in _plots(data):
            figure = Figure(figsize=size, layout="constrained")
            paint(figure)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # the layout is found once, not again for each format
            for kind in formats:
                buffer = io.BytesIO()
                figure.savefig(
                    buffer, format=kind, dpi=DOTS_PER_INCH, metadata=None if kind == "png" else _undated(kind)
                )
                paths.append(folder / f"{name}.{kind}")
                write_file(paths[-1], buffer.getvalue())
    return paths


def _undated(kind: str) -> dict[str, None]:
    return {"Date": None} if kind == "svg" else {"CreationDate": None}


def _plots(data: ReportData) -> Iterator[Plot]:
    yield from _run_plots(data)
    for method, title in (("lpi", "LPI"), ("fanova", "fANOVA, main effects")):
        for by_group in (False, True):
            bars = charts.importance_bars(data, method, by_group=by_group)
            if bars is not None and (not by_group or any(entry.get("groups") for entry in data.importance)):
                height = 0.8 + len(bars.names) * max(0.2, 0.09 * len(bars.fidelities) + 0.06)
                name = f"{method}_{'groups' if by_group else 'hyperparameters'}"
                yield name, (COLUMN, height), partial(painting.paint_bars, bars=bars, title=title, data=data)
    for entry in data.importance:
        yield from _fidelity_plots(data, entry, plain(float(entry["fidelity"])))


def _run_plots(data: ReportData) -> Iterator[Plot]:
    for clock in ("elapsed", "spent"):
        progress = charts.progress(data, clock)
        if progress is not None:
            yield (
                f"cost_over_{clock}_time",
                (PAGE, 3.0),
                partial(painting.paint_cost_over, progress=progress, clock=clock, data=data),
            )
    parallel = charts.parallel(data)
    if parallel is not None:
        yield "parallel_coordinates", (PAGE, 3.2), partial(painting.paint_parallel, found=parallel)
    size = charts.size_column(data)
    if size is not None:
        yield "pareto_front", (COLUMN, 2.6), partial(painting.paint_pareto, data=data, size=size)
    curves = charts.learning_curves(data)
    if curves is not None:
        yield "learning_curves", (COLUMN, 2.6), partial(painting.paint_curves, found=curves)
    pairs = charts.fidelity_pairs(data)
    if pairs:
        yield "fidelity_correlation", (COLUMN, 2.6), partial(painting.paint_correlation, pairs=pairs, data=data)


def _fidelity_plots(data: ReportData, entry: Mapping[str, Any], fidelity: str) -> Iterator[Plot]:
    matrix = charts.pair_matrix(entry)
    if matrix is not None:
        side = 1.4 + 0.2 * len(matrix[0])
        yield f"pairs_{fidelity}", (side + 0.6, side), partial(painting.paint_pairs, names=matrix[0], matrix=matrix[1])
    steps = [step for step in entry.get("ablation") or [] if not is_missing(step.get("cost"))]
    if len(steps) > 1:
        yield f"ablation_{fidelity}", (COLUMN, 0.8 + 0.2 * len(steps)), partial(painting.paint_ablation, steps=steps)
    values = list(importance.shapley(entry).rows)
    if values:
        yield f"shapley_{fidelity}", (COLUMN, 0.8 + 0.2 * len(values)), partial(painting.paint_shapley, rows=values)
    curves = charts.dependence_order(entry)
    if curves:
        rows = -(-len(curves) // 4)
        config = (data.incumbent or {}).get("config") or {}
        yield (
            f"partial_dependence_{fidelity}",
            (PAGE, 1.4 * rows),
            partial(painting.paint_dependence, curves=curves, config=config, num_rows=rows),
        )
