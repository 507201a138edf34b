"""Dataset: a data source as uint8 tensors, its training images split by seed into training and validation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from naxcli.data.arrays import Images, Labels
from naxcli.data.sources import channel_statistics, load_split
from naxcli.data.splits import Split, limited_per_class, stratified_split
from naxcli.data.streamed_images import StreamedImages
from naxcli.errors import NaxcliError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # compared by identity: tensors have no one truth
class Dataset:
    """Images and labels that a worker holds over many trials.

    Args:
        name: Name of the data source.
        train_images: Images of shape (n, channels, image_size, image_size), uint8, in memory or streamed.
        train_labels: Class indices of shape (n,), int64.
        validation_images: Images as `train_images`, on which a search measures its cost.
        validation_labels: Class indices as `train_labels`.
        test_images: Images as `train_images`, or None where the test split was not loaded.
        test_labels: Class indices as `train_labels`, or None.
        num_classes: Number of classes.
        in_channels: Number of channels, 1 or 3.
        image_size: Side in pixels.
        mean: Mean of each channel over training and validation images, 0 to 1.
        std: Standard deviation of each channel over the same images.
        class_names: Name of each class.
        content_hash: Hash of training and validation images together, whatever the seed of the split.
        is_official: Whether the content is the published one, by its checksum.
        notices: What the user should know about how it was read.
    """

    name: str
    train_images: Tensor | StreamedImages
    train_labels: Tensor
    validation_images: Tensor | StreamedImages
    validation_labels: Tensor
    test_images: Tensor | StreamedImages | None = None
    test_labels: Tensor | None = None
    num_classes: int
    in_channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    content_hash: str
    is_official: bool
    notices: tuple[str, ...] = field(default=())

    @property
    def is_in_memory(self) -> bool:
        """Whether the images are in memory rather than streamed from their files."""
        return isinstance(self.train_images, Tensor)

    @property
    def in_memory_bytes(self) -> int:
        """Bytes of the images in memory that a training uses."""
        return sum(part.nbytes for part in (self.train_images, self.validation_images) if isinstance(part, Tensor))

    def to(self, device: torch.device | str) -> Dataset:
        """Return the dataset with its tensors on a device, itself where they are there already; streamed images stay."""
        if self.train_labels.device == torch.device(device):
            return self
        tensors: dict[str, Any] = {
            item.name: value.to(device)
            for item in dataclasses.fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }
        return dataclasses.replace(self, **tensors)

    def with_fewer_images(self, num_images: int, seed: int) -> Dataset:
        """Return the dataset with at most so many training and validation images each, drawn at random.

        Args:
            num_images: Largest number of images of each.
            seed: Random seed of the draw.
        """
        parts: dict[str, Any] = {}
        for number, name in enumerate(("train", "validation")):
            images, labels = getattr(self, f"{name}_images"), getattr(self, f"{name}_labels")
            if len(labels) > num_images:
                drawn = np.sort(np.random.default_rng([seed, number]).permutation(len(labels))[:num_images])
                indices = torch.from_numpy(drawn).to(labels.device)
                is_in_memory = isinstance(images, Tensor)
                parts[f"{name}_images"] = images[indices] if is_in_memory else images.subset(drawn)
                parts[f"{name}_labels"] = labels[indices]
        return dataclasses.replace(self, **parts)

    def with_test_as_validation(self, *, trains_on_validation: bool = True) -> Dataset:
        """Return the dataset that trains on training and validation images and validates on the test split.

        For confirmation and final training only: a search never sees it.

        Args:
            trains_on_validation: Whether the validation images join the training images. Where a study limits these, they
                would be many more than the search trained on.

        Raises:
            NaxcliError: If the test split was not loaded.
        """
        if self.test_images is None or self.test_labels is None:
            raise NaxcliError(f"the test split of {self.name} was not loaded")
        measured = dataclasses.replace(self, validation_images=self.test_images, validation_labels=self.test_labels)
        if not trains_on_validation:
            return measured
        return dataclasses.replace(
            measured,
            train_images=_joined(self.train_images, self.validation_images),
            train_labels=torch.cat([self.train_labels, self.validation_labels]),
        )


def load_dataset(
    name: str,
    *,
    root: str | Path,
    split_seed: int,
    validation_fraction: float,
    images_per_class: int | None = None,
    image_size: int | None = None,
    with_test: bool = False,
    test_crop: float = 1.0,
    skip_corrupt: bool = False,
    is_streaming: bool = False,
) -> Dataset:
    """Return a data source, its training images split into training and validation.

    Args:
        name: Name of the data source: `digits`, `cifar10`, `cifar100`, `folder:DIR` or `hf:NAME`.
        root: Folder that holds or receives data sets.
        split_seed: Random seed of the split; the same seed gives the same split.
        validation_fraction: Share of every class held out for validation, between 0 and 1.
        images_per_class: Training images of every class that are kept after the split, or all where a class has fewer;
            None keeps all. Validation and test images stay as they are.
        image_size: Side in pixels that images are resized to; None keeps the source's own.
        with_test: Whether the test split is loaded, as a search never does.
        test_crop: Share of the side of a test image that its middle square keeps: images are resized to
            `image_size / test_crop` first. 1 shows whole images.
        skip_corrupt: Whether unreadable image files are left out with a notice rather than refused.
        is_streaming: Whether images are read each time they are used rather than kept in memory.

    Raises:
        NaxcliError: If the data is missing or damaged, the name unknown, or a class too small to split.
    """
    how: dict[str, bool] = {"skip_corrupt": skip_corrupt, "is_streaming": is_streaming}
    train = load_split(name, root, split="train", image_size=image_size, **how)
    training, validation = stratified_split(train.labels, validation_fraction, split_seed)
    if images_per_class is not None:
        training = limited_per_class(train.labels, training, images_per_class, split_seed)
    mean, std = channel_statistics(train.images)
    dataset = Dataset(
        name=name,
        train_images=_subset(train.images, training),
        train_labels=torch.from_numpy(train.labels[training]),
        validation_images=_subset(train.images, validation),
        validation_labels=torch.from_numpy(train.labels[validation]),
        num_classes=len(train.class_names),
        in_channels=train.images.shape[1],
        image_size=train.images.shape[-1],
        mean=mean,
        std=std,
        class_names=train.class_names,
        content_hash=train.content_hash(),
        is_official=train.is_official,
        notices=train.notices,
    )
    if not with_test:
        return dataset
    resized = image_size if test_crop == 1 else round(dataset.image_size / test_crop)
    return _with_test(dataset, load_split(name, root, split="test", image_size=resized, **how))


def _with_test(dataset: Dataset, test: Split) -> Dataset:
    """Return the dataset with the test split, of which the middle squares are kept."""
    if test.images.shape[1] != dataset.in_channels:
        raise NaxcliError(f"training and test images of {dataset.name} differ in channels")
    return dataclasses.replace(
        dataset,
        test_images=_middle_of(test.images, dataset.image_size),
        test_labels=torch.from_numpy(test.labels),
        notices=(*dataset.notices, *test.notices),
    )


def read_images(images: Tensor | StreamedImages, part: slice) -> Tensor:
    """Return the images at a slice, on the device of those in memory; streamed ones are read."""
    return images[part] if isinstance(images, Tensor) else torch.from_numpy(images.read(part))


def _subset(images: Images | StreamedImages, indices: Labels) -> Tensor | StreamedImages:
    return torch.from_numpy(images[indices]) if isinstance(images, np.ndarray) else images.subset(indices)


def _middle_of(images: Images | StreamedImages, size: int) -> Tensor | StreamedImages:
    """Return the middle `size` x `size` pixels of every image."""
    if not isinstance(images, np.ndarray):
        return dataclasses.replace(images, image_size=size)
    border = (images.shape[-1] - size) // 2
    return torch.from_numpy(images)[..., border : border + size, border : border + size].contiguous()


def _joined(images: Tensor | StreamedImages, others: Tensor | StreamedImages) -> Tensor | StreamedImages:
    if isinstance(images, Tensor):
        assert isinstance(others, Tensor)
        return torch.cat([images, others])
    assert isinstance(others, StreamedImages)
    return images.followed_by(others)
