"""`naxcli study landscape|lesion|path`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from naxcli.cli import options
from naxcli.cli.study_progress import StudyProgress

if TYPE_CHECKING:
    from naxcli.records.studies import Study

app = typer.Typer(no_args_is_help=True, help="Observational studies of networks.", rich_markup_mode="rich")

ImagesOption = Annotated[
    int, typer.Option("--images", min=0, help="Most training and most validation images to measure on; 0 for all.")
]
DataRootOption = Annotated[str | None, typer.Option("--data-root", help="Default: the run's.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Random seed of the images and of what else is drawn.")]
SkipCorruptOption = Annotated[
    bool, typer.Option("--skip-corrupt", help="Leave out image files that cannot be read, as the run may do.")
]
PlotsOption = Annotated[str | None, typer.Option("--plots", help="Write the figures as PNG and SVG into this folder.")]
CsvOption = Annotated[str | None, typer.Option("--csv", help="Write the exact numbers as CSV into this folder.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")]


@app.command()
def landscape(
    run: options.RunArgument = None,
    trial: options.TrialOption = "best",
    directions: Annotated[int, typer.Option("--directions", min=1, max=2, help="1 for a line, 2 for a plane.")] = 1,
    points: Annotated[
        int | None,
        typer.Option("--points", help="Odd number of points along each direction. Default: 51, or 25 on a plane."),
    ] = None,
    radius: Annotated[
        float, typer.Option("--radius", help="Largest step; at 1, each filter is changed by its own length.")
    ] = 1.0,
    recompute_batch_norm: Annotated[
        bool,
        typer.Option("--recompute-batch-norm", help="Compute batch statistics anew at each point. Default: keep them."),
    ] = False,
    images: ImagesOption = 2048,
    space: options.CodeOption = None,
    data_root: DataRootOption = None,
    skip_corrupt: SkipCorruptOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    plots: PlotsOption = None,
    csv: CsvOption = None,
    as_json: options.JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure the loss around a trained network, along filter-normalised random directions (Li et al., 2018).

    The study is kept in the run, where the report shows it. Interrupted, the same command goes on.
    """
    from naxcli.commands.study_landscape import LandscapeRequest, study_landscape
    from naxcli.records.directory import open_run

    request = LandscapeRequest(
        trial=trial,
        num_directions=directions,
        num_points=points,
        radius=radius,
        recomputes_batch_norm=recompute_batch_norm,
        num_images=images,
        space=space,
        data_root=data_root,
        skip_corrupt=skip_corrupt,
        device=device,
        seed=seed,
    )
    _check_targets(plots, csv)
    with StudyProgress("points", is_quiet=quiet, keeps_stdout=as_json) as progress:
        study = study_landscape(open_run(run), request, progress.update)
    _show(study, plots=plots, csv=csv, as_json=as_json)


@app.command()
def lesion(
    run: options.RunArgument = None,
    trial: options.TrialOption = "best",
    images: ImagesOption = 2048,
    space: options.CodeOption = None,
    data_root: DataRootOption = None,
    skip_corrupt: SkipCorruptOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    plots: PlotsOption = None,
    csv: CsvOption = None,
    as_json: options.JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a trained network without each of its blocks in turn, its shortcut left (Veit et al., 2016).

    The study is kept in the run, where the report shows it. Interrupted, the same command goes on.
    """
    from naxcli.commands.study_lesion import LesionRequest, study_lesion
    from naxcli.records.directory import open_run

    request = LesionRequest(
        trial=trial,
        num_images=images,
        space=space,
        data_root=data_root,
        skip_corrupt=skip_corrupt,
        device=device,
        seed=seed,
    )
    _check_targets(plots, csv)
    with StudyProgress("networks", is_quiet=quiet, keeps_stdout=as_json) as progress:
        study = study_lesion(open_run(run), request, progress.update)
    _show(study, plots=plots, csv=csv, as_json=as_json)


@app.command()
def path(
    run: options.RunArgument = None,
    trial: Annotated[
        list[str] | None,
        typer.Option("--trial", help="A trial, twice. Default: two networks of naxcli confirm --keep-checkpoints."),
    ] = None,
    confirmed: Annotated[
        str | None,
        typer.Option("--confirmed", help="Which confirmed configuration, such as 'top 1'. Default: the winner."),
    ] = None,
    cycles: Annotated[int, typer.Option("--cycles", help="Number of times that pivots are added.")] = 14,
    steps: Annotated[int, typer.Option("--steps", help="Steps of each cycle: a gradient at every pivot.")] = 1000,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Of the first cycles; it falls to a tenth twice.")
    ] = 0.1,
    images: ImagesOption = 2048,
    space: options.CodeOption = None,
    data_root: DataRootOption = None,
    skip_corrupt: SkipCorruptOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    plots: PlotsOption = None,
    csv: CsvOption = None,
    as_json: options.JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find a path of low loss between two seeds of one configuration (AutoNEB; Draxler et al., 2018).

    The study is kept in the run, where the report shows it. Interrupted, the same command goes on after the last whole cycle.
    """
    from naxcli.commands.study_path import PathRequest, study_path
    from naxcli.records.directory import open_run

    request = PathRequest(
        trials=tuple(trial or ()),
        confirmed=confirmed,
        num_cycles=cycles,
        num_steps=steps,
        learning_rate=learning_rate,
        num_images=images,
        space=space,
        data_root=data_root,
        skip_corrupt=skip_corrupt,
        device=device,
        seed=seed,
    )
    _check_targets(plots, csv)
    with StudyProgress("steps", is_quiet=quiet, keeps_stdout=as_json) as progress:
        study = study_path(open_run(run), request, progress.update, progress.note)
    _show(study, plots=plots, csv=csv, as_json=as_json)


def _check_targets(*folders: str | None) -> None:
    """Refuse folders that cannot be written, before the work that they are to hold."""
    from naxcli.records.files import check_target

    for folder in folders:
        if folder is not None:
            check_target(Path(folder), is_folder=True)


def _show(study: Study, *, plots: str | None, csv: str | None, as_json: bool) -> None:
    from naxcli.cli.output import note, print_json, stdout_console
    from naxcli.records.files import guard_disk
    from naxcli.report.csv import write_sheets
    from naxcli.report.figures.files import write_figures
    from naxcli.report.studies import section_of, sheets
    from naxcli.report.terminal import print_sections

    section = section_of(study)
    if as_json:
        print_json(study.to_json())
    else:
        print_sections(stdout_console(), [section])
    written: list[Path] = []
    if csv is not None:
        with guard_disk(Path(csv)):
            written += write_sheets(Path(csv), sheets([study]))
    if plots is not None:
        with guard_disk(Path(plots)):
            written += write_figures(Path(plots), [section])
    for file in written:
        note(f"wrote {file}")
