"""Data of a search and of its run: what its workers load, and what its records say of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.commands.network_sizes import REDUCED_CLASSES, REDUCED_IMAGE_SIZE
from naxcli.records.directory import RunDirectory
from naxcli.search.feasibility import NetworkShape
from naxcli.search_space.contract import Space
from naxcli.settings.experiment import Experiment
from naxcli.workers.task import DataRequest

if TYPE_CHECKING:
    from naxcli.data.splits import Split

# Of networks whose data only the space's own objective knows.
USUAL_SHAPE = NetworkShape(num_classes=REDUCED_CLASSES, in_channels=3, image_size=REDUCED_IMAGE_SIZE)


def prepare_data(
    experiment: Experiment, space: Space, *, recorded: Mapping[str, Any] | None = None
) -> tuple[DataRequest | None, dict[str, Any] | None, NetworkShape | None]:
    """Return what the workers load, what environment.json says of it, and the sizes it dictates.

    Reads the images, so that missing or damaged data shows before a worker starts; of images that do not fit into memory a
    sample. Whether they do is decided once, here: `recorded` is the description of a run that goes on.
    """
    if not space.is_trained or experiment.data is None:
        return None, None, None if space.build is None else USUAL_SHAPE
    from naxcli.data.sources import describe_dataset, load_split

    root, size = Path(experiment.data_root), experiment.image_size
    described = describe_dataset(experiment.data, root, image_size=size)
    is_streaming = _needs_streaming(experiment, recorded)
    split = load_split(
        experiment.data,
        root,
        split="train",
        image_size=size,
        skip_corrupt=experiment.skip_corrupt,
        is_streaming=is_streaming,
    )
    request = DataRequest(
        name=experiment.data,
        root=str(root.resolve()),
        split_seed=experiment.seed,
        validation_fraction=experiment.validation_fraction,
        images_per_class=experiment.images_per_class,
        image_size=size,
        skip_corrupt=experiment.skip_corrupt,
        is_streaming=is_streaming,
    )
    shape = NetworkShape(
        num_classes=described.num_classes, in_channels=described.in_channels, image_size=described.image_size
    )
    return request, _description(experiment, split, shape, is_streaming=is_streaming), shape


def data_of_run(
    run: RunDirectory, space: Space, *, on_test: bool, data_root: str | None = None, skip_corrupt: bool = False
) -> DataRequest | None:
    """Return the images that a run trains and measures on; None of a space that evaluates by itself.

    Args:
        run: Directory of the run.
        space: Its space.
        on_test: Whether the test set is measured on, and everything else trained on, or as many images of every class as in the run.
        data_root: Folder of the data sets; None is the run's.
        skip_corrupt: Whether image files that cannot be read are left out, as the run may do.
    """
    experiment = run.experiment()
    if not space.is_trained or experiment.data is None:
        return None
    from naxcli.data.memory_fit import was_streamed

    return DataRequest(
        name=experiment.data,
        root=str(Path(data_root or experiment.data_root).resolve()),
        split_seed=experiment.seed,
        validation_fraction=experiment.validation_fraction,
        images_per_class=experiment.images_per_class,
        image_size=experiment.image_size,
        on_test=on_test,
        skip_corrupt=skip_corrupt or experiment.skip_corrupt,
        is_streaming=was_streamed(run.read_json(run.environment_file).get("data")),
    )


def _needs_streaming(experiment: Experiment, recorded: Mapping[str, Any] | None) -> bool:
    from naxcli.data.memory_fit import needs_streaming, was_streamed
    from naxcli.workers.slots import local_slots

    if recorded:
        return was_streamed(recorded)
    num_workers = len(local_slots(workers=experiment.workers, threads=experiment.threads))
    return needs_streaming(
        str(experiment.data),
        Path(experiment.data_root),
        image_size=experiment.image_size,
        in_memory=experiment.data_in_memory,
        num_processes=1 + (num_workers if experiment.cluster is None else 0),
    )


def _description(experiment: Experiment, split: Split, shape: NetworkShape, *, is_streaming: bool) -> dict[str, Any]:
    """Return what environment.json says of the training images."""
    from naxcli.data.memory_fit import streaming_notice
    from naxcli.data.sources import channel_statistics

    notices = [*split.notices]
    if is_streaming:
        notices.append(streaming_notice(str(experiment.data), in_memory=experiment.data_in_memory))
    mean, std = channel_statistics(split.images)
    return {
        "name": experiment.data,
        "content_hash": split.content_hash(),
        "num_images": len(split.labels),
        "num_classes": shape.num_classes,
        "in_channels": shape.in_channels,
        "image_size": shape.image_size,
        "is_official": split.is_official,
        "is_streaming": is_streaming,
        "notices": notices,
        "mean": mean,
        "std": std,
    }
