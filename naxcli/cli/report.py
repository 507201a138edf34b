"""`naxcli report` and `naxcli compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    app.command("report")(report)
    app.command("compare")(compare)


def report(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Run directory. Default: the newest run.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", help="Method of importance: lpi, fanova, ablation or shapley; repeatable. Default: all."
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
    bootstrap: Annotated[
        int,
        typer.Option(
            "--bootstrap", min=0, help="Number of resamples of the trials behind the intervals; 0 for no intervals."
        ),
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed of the forests and resamples.")] = 0,
    exact_model: Annotated[
        bool, typer.Option("--exact-model", help="For complete factorials: one tree of full depth and no resampling.")
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
    from naxcli.cli.output import note, print_json, stdout_console
    from naxcli.commands.report import ReportRequest, report_run, report_table
    from naxcli.errors import NaxcliError
    from naxcli.records.directory import open_run
    from naxcli.records.files import check_target, guard_disk

    if (trials is None) != (space_json is None):
        raise NaxcliError(
            "--trials and --space-json belong together", hint="a table needs the space that its columns come from"
        )
    if trials is not None and run is not None:
        raise NaxcliError("a run and --trials are two sources of one report", hint="leave one of them out")
    targets = (
        (html, False, _write_html),
        (plots, True, _write_plots),
        (csv, True, _write_csv),
        (md, False, _write_markdown),
    )
    # Before the work that they are to hold.
    for target, is_folder, _ in targets:
        if target is not None:
            check_target(Path(target), is_folder=is_folder)
    methods = tuple(method) if method else METHODS
    request = ReportRequest(methods=methods, lpi=lpi, at=at, bootstrap=bootstrap, seed=seed, is_exact=exact_model)
    with _bootstrap_progress(quiet) as progress:
        if trials is not None and space_json is not None:
            data = report_table(Path(trials), Path(space_json), request, progress)
        else:
            data = report_run(open_run(run), request, progress)
    if as_json:
        print_json(data.summary)
    elif not (quiet and (html or plots or csv or md)):
        from naxcli.report.terminal import print_report

        print_report(stdout_console(), data, methods=methods, at=at)
    for target, _, write in targets:
        if target is not None:
            with guard_disk(Path(target)):
                written = write(Path(target), data)
            if not quiet:
                note(f"wrote {written}")


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Run directory.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Run directory.")],
    bootstrap: Annotated[
        int,
        typer.Option(
            "--bootstrap", min=0, help="Number of resamples behind the intervals of importance; 0 for no intervals."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed of the forests and resamples.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Compare two runs: settings that differ, anytime curves with intervals, importance side by side, a verdict."""
    from naxcli.cli.output import print_json, stdout_console
    from naxcli.commands.report import ReportRequest, compare_run_directories
    from naxcli.records.directory import open_run
    from naxcli.report.comparison import print_comparison

    request = ReportRequest(methods=("lpi", "fanova"), bootstrap=bootstrap, seed=seed)
    found = compare_run_directories(open_run(first), open_run(second), request)
    if as_json:
        print_json(found)
    else:
        print_comparison(stdout_console(), found)


def _write_html(path: Path, data: Any) -> Path:
    from naxcli.report.html import write_html

    write_html(path, data)
    return path


def _write_plots(folder: Path, data: Any) -> Path:
    from naxcli.report.figures.files import write_plots

    write_plots(folder, data)
    return folder


def _write_csv(folder: Path, data: Any) -> Path:
    from naxcli.report.csv import write_csv

    write_csv(folder, data)
    return folder


def _write_markdown(path: Path, data: Any) -> Path:
    from naxcli.report.markdown import write_markdown

    write_markdown(path, data)
    return path


class _bootstrap_progress:
    """A progress bar of the resampling on stderr, where stderr is a terminal."""

    def __init__(self, is_quiet: bool) -> None:
        self._is_quiet = is_quiet

    def __enter__(self) -> Any:
        from rich.progress import Progress

        from naxcli.cli.output import stderr_console

        console = stderr_console()
        self._progress = Progress(console=console, transient=True, disable=self._is_quiet or not console.is_terminal)
        self._progress.start()
        self._task = self._progress.add_task("resampling trials", total=None)
        return lambda done, total: self._progress.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
