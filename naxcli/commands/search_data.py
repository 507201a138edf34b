"""Data of a search: what its workers load, and what its records say of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.search.feasibility import NetworkShape
from naxcli.search_space.contract import Space
from naxcli.settings.experiment import Experiment
from naxcli.workers.task import DataRequest

if TYPE_CHECKING:
    from naxcli.data.part import Part


def prepare_data(
    experiment: Experiment, space: Space, *, recorded: Mapping[str, Any] | None = None
) -> tuple[DataRequest | None, dict[str, Any] | None, NetworkShape | None]:
    """Return what the workers load, what environment.json says of it, and the sizes it dictates.

    Reads the images, so that missing or damaged data shows before a worker starts; of images that do not fit into memory a
    sample. Whether they do is decided once, here: `recorded` is the description of a run that goes on.
    """
    if space.build is None or experiment.data is None:
        return None, None, None
    from naxcli.data.sources import describe_dataset, load_part

    root, size = Path(experiment.data_root), experiment.image_size
    described = describe_dataset(experiment.data, root, image_size=size)
    lazy = _is_lazy(experiment, recorded)
    part = load_part(
        experiment.data, root, part="train", image_size=size, skip_corrupt=experiment.skip_corrupt, is_lazy=lazy
    )
    request = DataRequest(
        name=experiment.data,
        root=str(root.resolve()),
        split_seed=experiment.seed,
        validation_fraction=experiment.validation_fraction,
        images_per_class=experiment.images_per_class,
        image_size=size,
        skip_corrupt=experiment.skip_corrupt,
        is_lazy=lazy,
    )
    shape = NetworkShape(
        num_classes=described.num_classes, in_channels=described.in_channels, image_size=described.image_size
    )
    return request, _description(experiment, part, shape, is_lazy=lazy), shape


def _is_lazy(experiment: Experiment, recorded: Mapping[str, Any] | None) -> bool:
    from naxcli.data.residency import is_lazy
    from naxcli.workers.pool import local_slots

    if recorded:
        return bool(recorded.get("is_lazy", False))
    num_workers = len(local_slots(workers=experiment.workers, threads=experiment.threads))
    return is_lazy(
        str(experiment.data),
        Path(experiment.data_root),
        image_size=experiment.image_size,
        residence=experiment.data_resident,
        num_processes=1 + (num_workers if experiment.cluster is None else 0),
    )


def _description(experiment: Experiment, part: Part, shape: NetworkShape, *, is_lazy: bool) -> dict[str, Any]:
    """Return what environment.json says of the training images."""
    from naxcli.data.residency import notice_of
    from naxcli.data.sources import channel_statistics

    notices = [*part.notices]
    if is_lazy:
        notices.append(notice_of(str(experiment.data), residence=experiment.data_resident))
    mean, std = channel_statistics(part.images)
    return {
        "name": experiment.data,
        "content_hash": part.content_hash(),
        "num_images": len(part.labels),
        "num_classes": shape.num_classes,
        "in_channels": shape.in_channels,
        "image_size": shape.image_size,
        "is_official": part.is_official,
        "is_lazy": is_lazy,
        "notices": notices,
        "mean": mean,
        "std": std,
    }
