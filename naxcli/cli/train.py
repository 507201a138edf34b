"""`naxcli train`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from naxcli.errors import NaxcliError

if TYPE_CHECKING:
    from naxcli.commands.train_settings import TrainCommand, TrainingPlan
    from naxcli.records.trial import EpochRecord

NETWORK_PANEL, DATA_PANEL, MACHINE_PANEL = "Network", "Data and training", "Machine and output"


RunOption = Annotated[
    str | None,
    typer.Option("--run", help="Run whose trial is trained. Default: the newest.", rich_help_panel=NETWORK_PANEL),
]
TrialOption = Annotated[str, typer.Option("--trial", help="best, or a trial's number.", rich_help_panel=NETWORK_PANEL)]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="Configuration file, weights export, Python export (a .py file is code, and runs), or SPACE:REFERENCE, instead.",
        rich_help_panel=NETWORK_PANEL,
    ),
]
SpaceOption = Annotated[
    str | None,
    typer.Option("--space", help="The space, where it does not ship: its file is code.", rich_help_panel=NETWORK_PANEL),
]
VariantOption = Annotated[
    str | None,
    typer.Option("--variant", help="reduced, or a full-size variant such as T.", rich_help_panel=NETWORK_PANEL),
]
WidthOption = Annotated[
    float | None, typer.Option("--width", help="Factor on the channels.", rich_help_panel=NETWORK_PANEL)
]
PretrainedOption = Annotated[
    bool | None,
    typer.Option(
        "--pretrained/--from-scratch",
        help="Start from the weights of the run or export. Default: only of a weights export.",
        rich_help_panel=NETWORK_PANEL,
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option("--data", help="cifar100, cifar10, digits, folder:DIR or hf:NAME.", rich_help_panel=DATA_PANEL),
]
DataRootOption = Annotated[
    str | None,
    typer.Option("--data-root", help="Folder that holds or receives data sets.", rich_help_panel=DATA_PANEL),
]
ImageSizeOption = Annotated[
    int | None,
    typer.Option(
        "--image-size", min=1, help="In pixels. Default: the variant's, or the data's.", rich_help_panel=DATA_PANEL
    ),
]
EpochsOption = Annotated[
    int, typer.Option("--epochs", min=1, help="Length of the training.", rich_help_panel=DATA_PANEL)
]
OnTestOption = Annotated[
    bool,
    typer.Option(
        "--on-test/--validate",
        help="Train on all training images and measure on the test set, or keep the search's split.",
        rich_help_panel=DATA_PANEL,
    ),
]
TestCropOption = Annotated[
    float | None,
    typer.Option(
        "--test-crop",
        help="Share of a test image's side that is looked at. Default: 0.95 above 64 pixels, else 1.",
        rich_help_panel=DATA_PANEL,
    ),
]
SkipCorruptOption = Annotated[
    bool, typer.Option("--skip-corrupt", help="Leave unreadable image files out.", rich_help_panel=DATA_PANEL)
]
ExperimentOption = Annotated[
    str | None,
    typer.Option("--experiment", help="Experiment file whose recipe is taken.", rich_help_panel=DATA_PANEL),
]
AssignmentsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting that trains a network: recipe.ema_decay=0.9999, recipe.augmentation_repeats=3.",
        rich_help_panel=DATA_PANEL,
    ),
]
GradAccumStepsOption = Annotated[
    int,
    typer.Option(
        "--grad-accum-steps",
        "--accumulate",
        min=1,
        help="Gradient accumulation: parts that each batch is cut into, to need less memory.",
        rich_help_panel=DATA_PANEL,
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Default: 0.", rich_help_panel=DATA_PANEL)]
OutOption = Annotated[
    str | None,
    typer.Option("--out", help="Folder. Default: trained/<network>-<data>.", rich_help_panel=MACHINE_PANEL),
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Delete the training there and start anew.", rich_help_panel=MACHINE_PANEL),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.", rich_help_panel=MACHINE_PANEL)]
CompileOption = Annotated[
    bool,
    typer.Option("--compile", help="Compile the network, which pays in long trainings.", rich_help_panel=MACHINE_PANEL),
]
TrackerOption = Annotated[
    str | None,
    typer.Option("--tracker", help="tensorboard, mlflow or wandb, beside log.csv.", rich_help_panel=MACHINE_PANEL),
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="No progress.", rich_help_panel=MACHINE_PANEL)]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=MACHINE_PANEL)
]


def register(app: typer.Typer) -> None:
    app.command("train")(train)


def train(
    run: RunOption = None,
    trial: TrialOption = "best",
    config: ConfigOption = None,
    space: SpaceOption = None,
    variant: VariantOption = None,
    width: WidthOption = None,
    pretrained: PretrainedOption = None,
    data: DataOption = None,
    data_root: DataRootOption = None,
    image_size: ImageSizeOption = None,
    epochs: EpochsOption = 300,
    on_test: OnTestOption = True,
    test_crop: TestCropOption = None,
    skip_corrupt: SkipCorruptOption = False,
    experiment: ExperimentOption = None,
    assignments: AssignmentsOption = None,
    grad_accum_steps: GradAccumStepsOption = 1,
    seed: SeedOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    compile: CompileOption = False,
    tracker: TrackerOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train one configuration with the full recipe, and leave its weights in a folder that `naxcli export` reads.

    Killed or interrupted, the same command resumes to the same curve. On several GPUs: torchrun --nproc-per-node N -m
    naxcli train …
    """
    from naxcli.commands.train_settings import TrainCommand

    command = TrainCommand(
        run=run,
        trial=trial,
        config=config,
        space=space,
        flags={"data": data, "data_root": data_root, "image_size": image_size, "width": width, "seed": seed},
        assignments=assignments or (),
        experiment_file=experiment,
        variant=variant,
        epochs=epochs,
        out=out,
        on_test=on_test,
        test_crop=test_crop,
        grad_accum_steps=grad_accum_steps,
        pretrained=pretrained,
        skip_corrupt=skip_corrupt,
        tracker=tracker,
        device=device,
        compile=compile,
        overwrite=overwrite,
    )
    _train(command, quiet=quiet, as_json=as_json)


def _train(command: TrainCommand, *, quiet: bool, as_json: bool) -> None:
    from naxcli.cli.output import print_json
    from naxcli.commands.train import is_main_process, run_training
    from naxcli.commands.train_settings import plan_training
    from naxcli.workers.streams import outlive_reader

    is_main = is_main_process()
    outlive_reader("stdout")
    try:
        with _make_display(is_quiet=quiet or not is_main) as display:
            end = run_training(plan_training(command), display)
    except NaxcliError as error:
        if is_main:
            raise
        raise typer.Exit(error.exit_code) from None  # the main process says it
    if is_main:
        display.summarise(end.facts)
        if as_json:
            print_json(end.facts)
    raise typer.Exit(end.exit_code)


def _make_display(*, is_quiet: bool) -> PlainDisplay:
    from naxcli.cli.output import stderr_console

    if is_quiet:
        return PlainDisplay(is_quiet=True)
    return BarDisplay() if stderr_console().is_terminal else PlainDisplay()


class PlainDisplay:
    """Lines on stderr: what is trained, then one per epoch."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def started(self, plan: TrainingPlan, facts: Mapping[str, Any], done: Sequence[EpochRecord]) -> None:
        from naxcli.search_space.contract import shipped_spaces
        from naxcli.settings.units import counted, format_count

        self._epochs, self._measured_on = facts["epochs"], facts["measured_on"]
        code, origin = plan.selection.code, plan.selection.space.origin
        own_space = [] if origin in shipped_spaces() else ["--space", origin]
        self._next_flags = own_space if code is None else ["--space", str(code), "--format", "onnx"]
        verb = f"resuming after epoch {len(done)} of" if done else "training"
        self.notice(
            f"{verb} {facts['space']} {facts['variant']}, width {facts['width']:g} "
            f"({format_count(facts['num_params'])} parameters, {format_count(facts['flops'])} multiply-adds) in {plan.folder}"
        )
        self.notice(
            f"{counted(facts['num_train_images'], 'image')} of {facts['data']} at {facts['image_size']} pixels, measured on "
            f"{counted(facts['num_measured_images'], f'{self._measured_on} image')}, {counted(self._epochs, 'epoch')}, {facts['device']}"
            + (f", {facts['num_processes']} processes" if facts["num_processes"] > 1 else "")
        )

    def notice(self, text: str) -> None:
        from naxcli.cli.output import note

        if not self._is_quiet:
            note(text)

    def step(self, epochs_done: float) -> None:
        pass

    def epoch(self, record: EpochRecord) -> None:
        self.notice(self._describe(record))

    def summarise(self, facts: Mapping[str, Any]) -> None:
        """Print how the training ended, and what to do next."""
        if facts["status"] == "interrupted":
            self.notice(f"interrupted after epoch {facts['epochs_done']}; the same command resumes it")
        elif facts["status"] == "diverged":
            self.notice("the loss is not finite any more: a lower recipe.learning_rate may help")
        else:
            best = facts["best"]
            self.notice(
                f"{facts['measured_on']} accuracy {100 * facts['accuracy']:.2f} % after the last epoch "
                f"(highest {100 * best['accuracy']:.2f} %, epoch {best['epoch']})"
            )
            command = ["naxcli", "export", "--config", str(facts["folder"]), *self._next_flags]
            self.notice(f"next: {shlex.join(command)}")

    def _describe(self, record: EpochRecord) -> str:
        from naxcli.settings.units import format_duration

        accuracy = "–" if record.val_accuracy is None else f"{100 * record.val_accuracy:.2f} %"
        return (
            f"epoch {record.epoch:>4}/{self._epochs}  loss {record.train_loss:.4f}  {self._measured_on} {accuracy}  "
            f"{format_duration(record.seconds)}"
        )


class BarDisplay(PlainDisplay):
    """A bar over the whole training, with the last epoch's numbers and the time left."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        from naxcli.cli.output import stderr_console

        super().__init__()
        self._progress = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=stderr_console(),
        )
        self._task: Any = None

    def __enter__(self) -> BarDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, plan: TrainingPlan, facts: Mapping[str, Any], done: Sequence[EpochRecord]) -> None:
        super().started(plan, facts, done)
        self._task = self._progress.add_task("", total=facts["epochs"], completed=len(done), last="")
        self._progress.start()

    def step(self, epochs_done: float) -> None:
        self._progress.update(self._task, completed=epochs_done)

    def epoch(self, record: EpochRecord) -> None:
        self._progress.update(self._task, completed=record.epoch, last=self._describe(record).partition("  ")[2])
