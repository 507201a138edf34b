"""Plan of a final training: which network, by which settings, in which folder; refuses a folder with other settings.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from naxcli.commands.select import Selection, select
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.directory import FileState, file_state
from naxcli.records.trial import config_id
from naxcli.search_space.contract import LARGE_TEST_CROP, bare_code, space_text
from naxcli.search_space.networks import REDUCED, usual_image_size, variant_names
from naxcli.settings.experiment import Experiment
from naxcli.settings.former_names import with_present_names
from naxcli.settings.recipe import CHOICE_PREFIX, FULL_TRAINING_EPOCHS, Recipe
from naxcli.settings.sources import resolve
from naxcli.settings.toml import flat_settings, read_toml
from naxcli.training.trackers import require_tracker

# Of test images above this size, which are photographs resized, the middle is looked at; smaller ones are seen whole.
LARGE_IMAGE_SIZE = 64
MAX_DIFFERENCES_SHOWN = 8
TRAINING_SETTINGS = frozenset(
    {
        "data",
        "data_root",
        "data_in_memory",
        "kernels",
        "skip_corrupt",
        "image_size",
        "width",
        "validation_fraction",
        "recipe",
        "seed",
    }
)
# By which `training.toml` is known as naxcli's.
_SETTINGS_OF_ALL = {"space", "space_code", "variant", "epochs", "seed", "config", "recipe"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainCommand:
    """What a user asked for; None is left to the selection, the experiment file and the defaults.

    Args:
        run: directory of the search whose `trial` is trained; None with `config` None is the newest.
        config: file, or `SPACE:REFERENCE`.
        flags: settings of an Experiment: data, data_root, image_size, width, seed, validation_fraction.
        assignments: `a.b=c` texts of `--set`.
        experiment_file: whose recipe and data are taken.
        on_test: train on training and validation images and measure on the test split, rather than on the validation split.
        test_crop: share of the side of test images that their middle square keeps.
        grad_accum_steps: Number of parts that each batch is cut into, to need less memory.
        pretrained: whether to start from the selection's weights; None does where the user named a weights export.
        device: `auto`, `cpu` or `cuda`.
    """

    run: str | None = None
    trial: str = "best"
    config: str | None = None
    space: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    assignments: Sequence[str] = ()
    experiment_file: str | None = None
    variant: str | None = None
    epochs: int = FULL_TRAINING_EPOCHS
    out: str | None = None
    on_test: bool = True
    test_crop: float | None = None
    grad_accum_steps: int = 1
    pretrained: bool | None = None
    skip_corrupt: bool = False
    tracker: str | None = None
    device: str = "auto"
    compile: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """A resolved command: the network, its settings, and the folder.

    Args:
        experiment: data, recipe, seed and width.
        image_size: of training and test images, in pixels.
        test_crop: share of the side of test images that is seen.
        is_new: whether a training is begun, in the place of one that is there, if so.
        found: what tells the state of the training in the folder from an earlier and a later one.
        initial_weights: to start from; None starts from random ones.
    """

    command: TrainCommand
    selection: Selection
    experiment: Experiment
    variant: str
    image_size: int
    test_crop: float
    folder: Path
    is_new: bool
    found: tuple[FileState | None, ...]
    initial_weights: Path | None

    @property
    def settings_file(self) -> Path:
        return self.folder / "training.toml"

    @property
    def log_file(self) -> Path:
        return self.folder / "log.csv"

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        return self.folder / "checkpoints" / "best.pt"

    @property
    def measured_on(self) -> str:
        return "test" if self.command.on_test else "validation"

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the result, as `training.toml` holds it."""
        command, space, experiment = self.command, self.selection.space, self.experiment
        settings = {
            "space": space.name,
            "space_version": space.version,
            "space_code": hashlib.sha256(bare_code(space_text(space)).encode()).hexdigest()[:16],
            "variant": self.variant,
            "width": experiment.width,
            "data": experiment.data,
            "image_size": self.image_size,
            "on_test": command.on_test,
            "epochs": command.epochs,
            "seed": experiment.seed,
            "grad_accum_steps": command.grad_accum_steps,
            "config": dict(self.selection.config),
            "recipe": dataclasses.asdict(experiment.recipe),
        }
        if command.on_test:
            settings["test_crop"] = self.test_crop
        else:
            settings["validation_fraction"] = experiment.validation_fraction
        if self.initial_weights is not None:
            settings["pretrained"] = str(self.initial_weights)
        return settings


def plan_training(command: TrainCommand) -> TrainingPlan:
    """Return the plan of a command, writing nothing.

    Raises:
        NaxcliError: if something it names does not exist, or the folder holds another training.
    """
    selection = select(run=command.run, trial=command.trial, config=command.config, space=command.space)
    space = selection.space
    variant = command.variant or selection.variant or REDUCED
    if space.build is None:
        raise NaxcliError(f"space {space.name!r} makes no networks", why="there is nothing to train")
    if variant not in variant_names(space):
        raise NaxcliError(
            f"space {space.name!r} has no variant {variant!r}", hint=f"one of {', '.join(variant_names(space))}"
        )
    if command.pretrained and selection.weights is None:
        raise NaxcliError(
            "there are no weights to start from", hint="name a `weights` export, or leave out --pretrained"
        )
    if command.test_crop is not None and not (command.on_test and 0 < command.test_crop <= 1):
        raise NaxcliError(
            f"--test-crop {command.test_crop:g} is not possible", why="it is a share of test images, at most 1"
        )
    if command.tracker is not None:
        require_tracker(command.tracker)
    experiment = _resolve(command, selection, variant)
    is_same = variant == selection.variant and experiment.width == selection.width
    starts_trained = selection.starts_trained and is_same if command.pretrained is None else command.pretrained
    image_size = _image_size(experiment, selection, variant)
    large_test_crop = LARGE_TEST_CROP if variant == REDUCED else space.variant(variant).test_crop
    test_crop = command.test_crop or (large_test_crop if image_size > LARGE_IMAGE_SIZE else 1.0)
    data = "".join(c if c.isalnum() else "-" for c in str(experiment.data)).strip("-")
    default = Path("trained") / f"{space.name}-{variant}-{data}-{config_id(selection.config)[:6]}"
    folder = Path(command.out) if command.out else default
    plan = TrainingPlan(
        command=command,
        selection=selection,
        experiment=experiment,
        variant=variant,
        image_size=image_size,
        test_crop=test_crop,
        folder=folder,
        is_new=True,
        found=(),
        initial_weights=selection.weights if starts_trained else None,
    )
    return _checked_against_folder(plan)


def decided_again(plan: TrainingPlan) -> TrainingPlan:
    """Return the plan as it stands now that no other process can change the folder.

    Raises:
        NaxcliError: if another process trained there after the plan was made.
    """
    now = _checked_against_folder(plan)
    if now.is_new != plan.is_new or (now.is_new and now.found != plan.found):
        raise NaxcliError(
            f"another process trained in {plan.folder} while this one was starting",
            why="what it left is kept",
            hint="the same command again goes on from there, or with --overwrite replaces it",
            exit_code=ExitCode.FAILED,
        )
    return now


def _resolve(command: TrainCommand, selection: Selection, variant: str) -> Experiment:
    """Return the settings: flags over the run's, or over those of the data source's experiment file; and the configuration's choices."""
    flags = {**command.flags, "space": selection.space.origin, "epochs": command.epochs}
    names_sizes = selection.run is not None or selection.num_classes is not None
    if flags.get("width") is None and variant != REDUCED:
        flags["width"] = selection.width if selection.variant == variant else 1.0
    elif flags.get("width") is None and names_sizes:
        flags["width"] = selection.width if selection.variant in (None, variant) else None
    stored = None
    if selection.run is not None and command.experiment_file is None:
        # Its limits and fidelities are the search's.
        recorded = with_present_names(selection.run.settings())
        stored = {name: value for name, value in recorded.items() if name in TRAINING_SETTINGS - {"seed"}}
    experiment = resolve(
        flags=flags,
        assignments=command.assignments,
        experiment_file=command.experiment_file,
        stored=stored,
        has_networks=True,
        chosen=[name for name in selection.config if name.startswith(CHOICE_PREFIX)],
        variant_recipe={} if variant == REDUCED else selection.space.variant(variant).recipe,
    )
    given = [re.split(r"[.=]", assignment, maxsplit=1)[0] for assignment in command.assignments]
    known = {field.name for field in dataclasses.fields(Experiment)}
    if ignored := [name for name in given if name in known - TRAINING_SETTINGS]:
        raise NaxcliError(
            f"setting {ignored[0]} does not count in a full training",
            why="it is a search's",
            hint=f"leave it out: what counts here is {', '.join(sorted(TRAINING_SETTINGS))}",
        )
    recipe = experiment.recipe.with_choices(selection.config)
    if variant != REDUCED:
        recipe = dataclasses.replace(recipe, resolution=0)
    return dataclasses.replace(experiment, recipe=recipe)


def _image_size(experiment: Experiment, selection: Selection, variant: str) -> int:
    from naxcli.data.sources import describe_dataset

    usual = usual_image_size(selection.space, variant, selection.config)
    wanted = experiment.image_size if experiment.image_size is not None else usual
    return describe_dataset(str(experiment.data), experiment.data_root, image_size=wanted).image_size


def _checked_against_folder(plan: TrainingPlan) -> TrainingPlan:
    """Return the plan as a resumption, or as that of a new training where the folder holds none or its own is overwritten.

    Raises:
        NaxcliError: if the folder holds another training, or something else.
    """
    plan = dataclasses.replace(plan, is_new=True, found=(file_state(plan.settings_file), file_state(plan.last)))
    if not plan.settings_file.is_file() or not read_toml(plan.settings_file).keys() >= _SETTINGS_OF_ALL:
        is_fresh = plan.folder.is_dir() and all(_is_leftover(path.name) for path in plan.folder.iterdir())
        if plan.folder.exists() and not is_fresh:
            raise NaxcliError(
                f"{plan.folder} holds something else than a training", hint="name another folder with --out"
            )
        return plan
    if plan.command.overwrite:
        return plan
    # A setting that came after the training began had its default then.
    before = {
        **flat_settings({"recipe": dataclasses.asdict(Recipe())}),
        **flat_settings(with_present_names(read_toml(plan.settings_file))),
    }
    after = flat_settings(plan.settings)
    changed = [
        f"{name}: {before.get(name)!r} in the folder, {after.get(name)!r} now"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if changed:
        raise NaxcliError(
            f"{plan.folder} is a training with other settings",
            why="; ".join(changed[:MAX_DIFFERENCES_SHOWN]),
            hint="the same command resumes it; --out DIR starts another; --overwrite deletes it and starts anew",
        )
    return dataclasses.replace(plan, is_new=False)


def _is_leftover(name: str) -> bool:
    """Return whether a file is what a process leaves that was killed before it wrote the settings."""
    return name == "lock" or (name.startswith(".training.toml.") and name.endswith(".tmp"))
