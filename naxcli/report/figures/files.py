"""The report's figures as files for a paper: Matplotlib, vector and pixel, legible in greyscale."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.files import make_folder, write_file
from naxcli.report.data import ReportData
from naxcli.report.figures.matplotlib import PAINTERS
from naxcli.report.section import Section, figures_of
from naxcli.report.sections import sections

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

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


def write_plots(folder: Path, data: ReportData, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write every figure of the report in every format, as `write_figures`."""
    return write_figures(folder, sections(data), formats)


def write_figures(folder: Path, listed: Sequence[Section], formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write every figure of sections in every format, and return the files; figures without data are left out.

    Raises:
        NaxcliError: if Matplotlib is not installed, a format is unknown, or the folder cannot be written.
    """
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise NaxcliError(f"plots cannot be written as {', '.join(unknown)}", hint=f"formats: {', '.join(FORMATS)}")
    make_folder(folder)
    paths = []
    for name, figure in painted_sections(listed):
        for kind in formats:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=None if kind == "png" else _undated(kind))
            paths.append(folder / f"{name}.{kind}")
            write_file(paths[-1], buffer.getvalue())
    return paths


def painted(data: ReportData) -> Iterator[tuple[str, MatplotlibFigure]]:
    """Yield the name and the drawn figure of everything that the run has data for, as `painted_sections`."""
    return painted_sections(sections(data))


def painted_sections(listed: Sequence[Section]) -> Iterator[tuple[str, MatplotlibFigure]]:
    """Yield the name and the drawn figure of everything in sections that there is data for.

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
        for described in figures_of(listed):
            size, paint = PAINTERS[type(described.content)]
            found = described.content
            figure = Figure(figsize=size(found) if callable(size) else size, layout="constrained")
            paint(figure, found)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # the layout is found once, not again for each format
            yield described.file, figure


def _undated(kind: str) -> dict[str, None]:
    return {"Date": None} if kind == "svg" else {"CreationDate": None}
