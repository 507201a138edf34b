"""What all studies of trained networks share: the trial, its network and its images, and what is recorded of where they were measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from naxcli.commands.network_sizes import network_sizes
from naxcli.commands.search_data import data_of_run
from naxcli.commands.select import Selection, select
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import config_id
from naxcli.settings.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

    from naxcli.data.dataset import Dataset

MAX_NAMED = 8  # trials in a hint

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRequest:
    """What every study of a trained network is asked.

    Args:
        space: Space of the run, where it does not ship with naxcli. Its file is code, and is run.
        data_root: Folder of the data sets; None is the run's.
        num_images: Largest number of training images, and of validation images, that are measured on; 0 is all.
        seed: Random seed of the images, and of what else is drawn.
        device: `auto`, `cpu` or `cuda`.
        skip_corrupt: Whether image files that cannot be read are left out.

    Raises:
        NaxcliError: If a number is impossible.
    """

    space: str | None = None
    data_root: str | None = None
    num_images: int = 2048
    seed: int = 0
    device: str = "auto"
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        if self.num_images < 0:
            raise NaxcliError(f"--images is {self.num_images}", why="it is a number of images, or 0 for all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A trained network on its device, in evaluation mode, and the images that it is measured on.

    Args:
        recipe: Of its training, computing in float32: differences between neighbours are small.
        all_images: The images before some were drawn, on the device where they fit.
    """

    network: nn.Module
    dataset: Dataset
    all_images: Dataset
    recipe: Recipe
    device: torch.device


def select_trial(run: RunDirectory, trial: str, request: StudyRequest) -> Selection:
    """Return a run's trial, of which it is known that it trained a network.

    Raises:
        NaxcliError: If there is no such trial, it failed, or the run's space trains no networks.
    """
    selection = select(run=str(run.path), trial=trial, config=None, space=request.space)
    if not selection.space.is_trained or run.experiment().data is None:
        raise NaxcliError(
            f"space {selection.space.name!r} trains no networks",
            why="it has evaluate=, which returns a cost without a trained network to look at",
        )
    return selection


def identity_of(selection: Selection) -> dict[str, Any]:
    """Return what tells a trial's network from any other of the run."""
    provenance = selection.provenance
    return {
        "trial_id": selection.trial_id,
        "config_id": config_id(selection.config),
        "seed": provenance["seed"],
        "fidelity": provenance["fidelity"],
    }


def settings_of(request: StudyRequest, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings of a request that decide the numbers."""
    asked = dataclasses.asdict(request)
    left_out = {"space", "data_root", "device", "skip_corrupt", "trial", *without}
    return {name: value for name, value in asked.items() if name not in left_out}


def open_subject(run: RunDirectory, selection: Selection, request: StudyRequest, *, on_test: bool = False) -> Subject:
    """Return the network of a trial with its trained weights, and the images of its run.

    Args:
        run: Directory of the run.
        selection: Its trial, and the file of its weights.
        request: Images, seed and device.
        on_test: Whether the test set is measured on, as for networks that were trained on everything else.

    Raises:
        NaxcliError: If the weights are gone, or of another network, or the data is missing.
    """
    import torch

    from naxcli.commands.network import build_selected
    from naxcli.measure.devices import choose_device
    from naxcli.training.depthwise import speed_up_depthwise
    from naxcli.training.step import set_float32_precision
    from naxcli.workers.evaluate import load_data

    require_weights(selection)
    device = choose_device(request.device)
    data = data_of_run(
        run, selection.space, on_test=on_test, data_root=request.data_root, skip_corrupt=request.skip_corrupt
    )
    assert data is not None
    recipe = dataclasses.replace(run.experiment().trial_recipe(selection.config), precision="float32")
    set_float32_precision(recipe)
    network = build_selected(selection, network_sizes(selection), pretrained=True).to(device).eval()
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)
        if device.type == "cpu":
            speed_up_depthwise(network)
    whole: Dataset = load_data(data)
    dataset = whole.with_fewer_images(request.num_images, request.seed) if request.num_images else whole
    return Subject(network=network, dataset=dataset.to(device), all_images=whole, recipe=recipe, device=device)


def require_weights(selection: Selection) -> None:
    """Raise NaxcliError where the run did not keep the weights of a trial."""
    if selection.weights is not None:
        return
    kept = [] if selection.run is None else sorted(selection.run.checkpoint_files())
    raise NaxcliError(
        f"the run did not keep the weights of trial {selection.trial_id}",
        why="a search keeps those of its incumbent, and of trials that may be promoted",
        hint=f"it kept those of trial {', '.join(map(str, kept[:MAX_NAMED]))}" if kept else "",
        exit_code=ExitCode.FAILED,
    )


def facts_of(subject: Subject) -> Mapping[str, Any]:
    """Return where the numbers of a study were measured, and on how much."""
    import torch

    from naxcli import __version__
    from naxcli.measure.devices import device_name

    dataset = subject.dataset
    return {
        "data": dataset.name,
        "num_train_images": len(dataset.train_labels),
        "num_val_images": len(dataset.validation_labels),
        "device": device_name(subject.device),
        "torch": torch.__version__,
        "naxcli": __version__,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
