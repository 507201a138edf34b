"""`naxcli report`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from naxcli.cli import options
from naxcli.errors import NaxcliError

if TYPE_CHECKING:
    from naxcli.commands.report import ReportRequest
    from naxcli.report import ReportData

Writer = Callable[[Path, "ReportData"], None]


def register(app: typer.Typer) -> None:
    app.command("report")(report)


def report(
    run: options.RunArgument = None,
    space: options.CodeOption = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="Method of importance: lpi, fanova, ablation, shapley, ped_anova or tunability; repeatable. Default: all.",
        ),
    ] = None,
    lpi: Annotated[
        str, typer.Option("--lpi", help="Definition of local importance: naxcli, or deepcave for that of DeepCAVE.")
    ] = "naxcli",
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            help="Fidelity to analyse, in epochs, or all. Default: all, of which the terminal shows the highest.",
        ),
    ] = None,
    best: Annotated[
        str,
        typer.Option(
            "--best",
            help="What ped_anova asks: what separates the best trials from good ones, as two shares in percent.",
        ),
    ] = "10:50",
    bootstrap: Annotated[
        int,
        typer.Option(
            "--bootstrap", min=0, help="Number of draws from the posterior behind the intervals; 0 for no intervals."
        ),
    ] = 100,
    seed: options.ForestSeedOption = 0,
    exact_model: Annotated[
        bool, typer.Option("--exact-model", help="For complete factorials: one tree of full depth and no intervals.")
    ] = False,
    trials: Annotated[
        str | None, typer.Option("--trials", help="Parquet table of trials to report on instead of a run.")
    ] = None,
    space_json: Annotated[
        str | None, typer.Option("--space-json", help="ConfigSpace of --trials, as its to_json writes it.")
    ] = None,
    html: Annotated[str | None, typer.Option("--html", help="Write the report as one offline HTML file.")] = None,
    plots: Annotated[
        str | None, typer.Option("--plots", help="Write the figures as PNG and SVG into this folder.")
    ] = None,
    csv: Annotated[
        str | None, typer.Option("--csv", help="Write the exact numbers as CSV files into this folder.")
    ] = None,
    md: Annotated[
        str | None, typer.Option("--md", help="Write the report without its figures as Markdown into this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
    quiet: Annotated[
        bool,
        typer.Option("-q", "--quiet", help="No progress; where files are written, no report on the terminal either."),
    ] = False,
) -> None:
    """Say which choices mattered, how sure that is, and how good the incumbent is against the references."""
    from naxcli.analysis.methods import METHODS
    from naxcli.commands.report import ReportRequest

    if (trials is None) != (space_json is None):
        raise NaxcliError(
            "--trials and --space-json belong together", hint="a table needs the space that its columns come from"
        )
    if trials is not None and run is not None:
        raise NaxcliError("a run and --trials are two sources of one report", hint="leave one of them out")
    methods = tuple(method) if method else METHODS
    request = ReportRequest(
        methods=methods,
        lpi=lpi,
        at=at,
        bootstrap=bootstrap,
        seed=seed,
        is_exact=exact_model,
        best=_shares(best),
    )
    files = _files(html=html, plots=plots, csv=csv, md=md)
    data = _analyse(run, space, trials, space_json, request, quiet=quiet)
    # Before the report is shown, whose reader may close the pipe halfway, as `head` does.
    written, errors = _write(files, data)
    _show(data, request, as_json=as_json, is_shown=not (quiet and files))
    _tell(written, errors, quiet=quiet)


def _shares(best: str) -> tuple[float, float]:
    """Return the two shares of `--best`."""
    parts = best.split(":")
    try:
        first, second = (float(part) / 100 for part in parts)
    except ValueError:
        raise NaxcliError(f"--best {best!r} is not two percentages", hint="--best 10:50") from None
    return first, second


def _files(**targets: str | None) -> list[tuple[Path, Writer]]:
    """Return the files and folders to write, with what writes each.

    Raises:
        NaxcliError: if one cannot be written, before the work that it is to hold.
    """
    from naxcli.records.files import check_target

    files = [(Path(target), *WRITERS[name]) for name, target in targets.items() if target is not None]
    for path, _, is_folder in files:
        check_target(path, is_folder=is_folder)
    return [(path, write) for path, write, _ in files]


def _analyse(
    run: str | None,
    space: str | None,
    trials: str | None,
    space_json: str | None,
    request: ReportRequest,
    *,
    quiet: bool,
) -> ReportData:
    from naxcli.commands.report import report_run, report_table
    from naxcli.records.directory import open_run

    with _DrawProgress(quiet) as progress:
        if trials is not None and space_json is not None:
            return report_table(Path(trials), Path(space_json), request, progress)
        return report_run(open_run(run), request, progress, space=space)


def _show(data: ReportData, request: ReportRequest, *, as_json: bool, is_shown: bool) -> None:
    from naxcli.cli.output import print_json, stdout_console
    from naxcli.report.terminal import print_report

    if as_json:
        print_json(data.summary)
    elif is_shown:
        print_report(stdout_console(), data, methods=request.methods, at=request.at)


def _write(files: list[tuple[Path, Writer]], data: ReportData) -> tuple[list[Path], list[NaxcliError]]:
    """Write files and folders, and return those that were written, and why others were not."""
    from naxcli.records.files import guard_disk

    written, errors = [], []
    for path, write in files:
        try:
            with guard_disk(path):
                write(path, data)
        except NaxcliError as error:  # the others may need nothing of what this one lacks
            errors.append(error)
        else:
            written.append(path)
    return written, errors


def _tell(written: list[Path], errors: list[NaxcliError], *, quiet: bool) -> None:
    from naxcli.cli.output import note

    for path in written if not quiet else ():
        note(f"wrote {path}")
    for further in errors[1:]:
        note(further.what)
    if errors:
        raise errors[0]


def _write_html(path: Path, data: ReportData) -> None:
    from naxcli.report.html import write_html

    write_html(path, data)


def _write_plots(folder: Path, data: ReportData) -> None:
    from naxcli.report.figures.files import write_plots

    write_plots(folder, data)


def _write_csv(folder: Path, data: ReportData) -> None:
    from naxcli.report.csv import write_csv

    write_csv(folder, data)


def _write_markdown(path: Path, data: ReportData) -> None:
    from naxcli.report.markdown import write_markdown

    write_markdown(path, data)


# By the option that names the file or folder: what writes it, and whether it is a folder.
WRITERS: dict[str, tuple[Writer, bool]] = {
    "html": (_write_html, False),
    "plots": (_write_plots, True),
    "csv": (_write_csv, True),
    "md": (_write_markdown, False),
}


class _DrawProgress:
    """A progress bar of the draws on stderr, where stderr is a terminal."""

    def __init__(self, is_quiet: bool) -> None:
        self._is_quiet = is_quiet

    def __enter__(self) -> Any:
        from rich.progress import Progress

        from naxcli.cli.output import stderr_console

        console = stderr_console()
        self._progress = Progress(console=console, transient=True, disable=self._is_quiet or not console.is_terminal)
        self._progress.start()
        self._task = self._progress.add_task("drawing intervals", total=None)
        return lambda done, total: self._progress.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
