"""Looking at data sources: which there are, and what one holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from naxcli.data.sources import describe_dataset, is_present, known_names, load_split


def list_sources(data_root: str = "data") -> list[dict[str, Any]]:
    """Return the named data sources and whether each is on this machine, ready for JSON.

    Args:
        data_root: Folder of the data sets.
    """
    rows = []
    for name in known_names():
        if ":" in name:  # a kind of source rather than one
            continue
        described = describe_dataset(name, data_root)
        rows.append(
            {
                "name": name,
                "num_classes": described.num_classes,
                "in_channels": described.in_channels,
                "image_size": described.image_size,
                "is_present": is_present(name, data_root),
            }
        )
    return rows


def describe_source(
    name: str, data_root: str = "data", *, image_size: int | None = None, skip_corrupt: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Return what a data source holds, ready for JSON, and what its user should know of it.

    Args:
        name: Data source, such as `cifar100`, `digits` or `folder:DIR`. It is downloaded where it is missing.
        data_root: Folder of the data sets.
        image_size: Side in pixels that images are resized to; None keeps the source's own.
        skip_corrupt: Whether image files that cannot be read are named and left out rather than refused.

    Raises:
        NaxcliError: If the images are missing or damaged.
    """
    train, test = (
        load_split(name, data_root, split=which, image_size=image_size, skip_corrupt=skip_corrupt)
        for which in ("train", "test")
    )
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    described = {
        "name": name,
        "num_images": len(train.labels),
        "num_test_images": len(test.labels),
        "num_classes": len(train.class_names),
        "in_channels": int(train.images.shape[1]),
        "image_size": int(train.images.shape[2]),
        "content_hash": train.content_hash(),
        "is_official": train.is_official,
        "smallest_class": int(counts.min()),
        "largest_class": int(counts.max()),
    }
    return described, [*train.notices, *test.notices]
