"""Data sources by name, as NumPy arrays: `digits`, `cifar10`, `cifar100`, `folder:DIR`, `hf:NAME`. Imports no torch until CIFAR is read.

Commands describe a data source (classes, channels, size) without loading it; workers load it, through `dataset.py`.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from naxcli.data.arrays import Images
from naxcli.data.description import Description
from naxcli.data.splits import Split, stratified_split
from naxcli.errors import NaxcliError, did_you_mean

if TYPE_CHECKING:
    from naxcli.data.streamed_images import StreamedImages


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cifar:
    """What is known of a CIFAR data set without torchvision, which reads it."""

    num_classes: int
    folder: str
    label_key: str


_CIFAR = {
    "cifar10": _Cifar(num_classes=10, folder="cifar-10-batches-py", label_key="labels"),
    "cifar100": _Cifar(num_classes=100, folder="cifar-100-python", label_key="fine_labels"),
}
DIGITS_IMAGE_SIZE = 8
NUM_TRAIN_IMAGES = {"digits": 1438, "cifar10": 50_000, "cifar100": 50_000}
_DIGITS_TEST_FRACTION = 0.2
_DIGITS_TEST_SEED = 2026


def known_names() -> tuple[str, ...]:
    """Return how data sources are named on the command line."""
    return ("digits", *sorted(_CIFAR), "folder:DIR", "hf:NAME")


def describe_dataset(name: str, root: str | Path, *, image_size: int | None = None) -> Description:
    """Return number of classes, channels and image size of a data source without reading its images.

    Args:
        name: Name of the data source, one of `known_names`.
        root: Folder that holds or receives data sets.
        image_size: Side in pixels that images are resized to; None keeps the source's own, 32 for `folder:` and `hf:`.

    Raises:
        NaxcliError: If the name is unknown, or its folder is missing.
    """
    if name == "digits":
        description = Description(name=name, num_classes=10, in_channels=1, image_size=DIGITS_IMAGE_SIZE)
    elif name in _CIFAR:
        description = Description(name=name, num_classes=_CIFAR[name].num_classes, in_channels=3, image_size=32)
    elif name.startswith(("folder:", "hf:")):
        from naxcli.data import image_sources

        description = image_sources.describe(name)
    else:
        raise unknown_source(name)
    return description if image_size is None else dataclasses.replace(description, image_size=image_size)


def is_present(name: str, root: str | Path) -> bool:
    """Return whether a named data source can be read without a download."""
    return name not in _CIFAR or (Path(root) / _CIFAR[name].folder).is_dir()


def load_split(
    name: str,
    root: str | Path,
    *,
    split: str,
    image_size: int | None = None,
    skip_corrupt: bool = False,
    is_streaming: bool = False,
) -> Split:
    """Return the training or test split of a data source.

    Args:
        name: Name of the data source, one of `known_names`.
        root: Folder that holds or receives data sets.
        split: `train` or `test`.
        image_size: Side in pixels that images are resized to; None as in `describe_dataset`.
        skip_corrupt: Whether unreadable image files are left out with a notice rather than refused.
        is_streaming: Whether images are read each time they are used rather than kept in memory.

    Raises:
        NaxcliError: If the data is missing, damaged, or the name unknown.
    """
    readers: dict[str, Callable[[], Split]] = {
        "digits": lambda: _read_digits(split),
        "cifar10": lambda: _read_cifar(name, Path(root), split),
        "cifar100": lambda: _read_cifar(name, Path(root), split),
    }
    if name in readers:
        loaded = readers[name]()
        assert isinstance(loaded.images, np.ndarray)
        channels, size = loaded.images.shape[1:3]
        if is_streaming:
            from naxcli.data.streamed_images import ArrayListing, StreamedImages

            listing = ArrayListing(images=loaded.images, labels=loaded.labels, class_names=loaded.class_names)
            streamed = StreamedImages(
                listing=listing,
                indices=np.arange(len(loaded.labels)),
                channels=channels,
                image_size=image_size or size,
                resized=image_size or size,
            )
            return dataclasses.replace(loaded, images=streamed)
        if image_size is None or image_size == size:
            return loaded
        from naxcli.data import image_sources

        return dataclasses.replace(loaded, images=image_sources.resize_images(loaded.images, image_size))
    if name.startswith(("folder:", "hf:")):
        from naxcli.data import image_sources

        return image_sources.read(
            name, split=split, image_size=image_size, skip_corrupt=skip_corrupt, is_streaming=is_streaming
        )
    raise unknown_source(name)


def bytes_when_read(name: str, root: str | Path, *, image_size: int | None = None) -> int:
    """Return the memory that the training images take beyond what reading the source takes in any case."""
    if name.startswith(("folder:", "hf:")):
        from naxcli.data import image_sources

        num_images, size = (
            len(image_sources.listing(name, "train").labels),
            image_size or image_sources.DEFAULT_IMAGE_SIZE,
        )
        return num_images * 3 * size**2
    described = describe_dataset(name, root)
    if image_size is None or image_size <= described.image_size:
        return 0  # digits and CIFAR are single files of small images, which are read whole
    return NUM_TRAIN_IMAGES[name] * described.in_channels * image_size**2


def channel_statistics(images: Images | StreamedImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of (n, channels, h, w) uint8 images, on a scale of 0 to 1.

    Counted from histograms: exact, and the same on every machine. Of streamed images a sample is read.
    """
    if not isinstance(images, np.ndarray):
        images = images.sample()
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256)
        for chunk in np.array_split(images[:, channel], 16):  # bincount copies what it counts to eight times the size
            counts += np.bincount(chunk.ravel(), minlength=256)
        share = counts / counts.sum()
        mean = float(share @ levels)
        means.append(mean)
        stds.append(max(float(share @ (levels - mean) ** 2) ** 0.5, 1e-6))  # a constant channel must not divide by 0
    return tuple(means), tuple(stds)


def unknown_source(name: str) -> NaxcliError:
    hint = did_you_mean(name, known_names(), otherwise=f"name one of {', '.join(known_names())}")
    return NaxcliError(f"there is no data source {name!r}", hint=hint)


def _read_digits(split: str) -> Split:
    """Return scikit-learn's 1,797 handwritten digits; the test split is a fixed fifth of every class."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    rest, test = stratified_split(labels, _DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED)
    indices = rest if split == "train" else test
    images = np.rint(digits.images[indices] * (255 / 16)).astype(np.uint8)[:, None]
    return Split(images=images, labels=labels[indices], class_names=tuple(str(digit) for digit in range(10)))


def _read_cifar(name: str, root: Path, split: str) -> Split:
    """Return a split as torchvision reads it, of the published files or of others in their layout, which are said not to be those."""
    from torchvision.datasets.utils import check_integrity

    published, folder = _torchvision_class(name), root / _CIFAR[name].folder
    sums = dict(published.train_list if split == "train" else published.test_list)
    meta = published.meta["filename"]
    if not all((folder / file).is_file() for file in (*sums, meta)):
        _download_cifar(name, root)
    others = [
        file
        for file, md5 in {**sums, meta: published.meta["md5"]}.items()
        if not check_integrity(str(folder / file), md5)
    ]
    for file in others:  # torchvision unpickles, which only the published files may ask for unseen
        entries = load_plain_pickle((folder / file).read_bytes(), folder / file)
        keys = {published.meta["key"]} if file == meta else {"data", _CIFAR[name].label_key}
        if not isinstance(entries, dict) or not keys <= entries.keys():
            raise NaxcliError(f"{folder / file} is not a file of {name}", why=f"it has no {' and '.join(sorted(keys))}")
    # Of the files of one split, with whatever sums.
    listed = [[file, None] for file in sums]
    layout = {"train_list": listed, "test_list": listed, "meta": {**published.meta, "md5": None}}
    try:
        read = type(published.__name__, (published,), layout)(root, train=split == "train", download=False)
        images = np.ascontiguousarray(read.data.transpose(0, 3, 1, 2), dtype=np.uint8)
        labels = np.asarray(read.targets, dtype=np.int64)
    except (ValueError, TypeError) as error:
        raise NaxcliError(f"{folder} is damaged", why=str(error)) from error
    if len(images) != len(labels) or not len(images):
        raise NaxcliError(f"{folder} is damaged", why=f"{len(images)} images and {len(labels)} labels")
    num_classes = _CIFAR[name].num_classes
    if labels.min() < 0 or labels.max() >= num_classes:
        raise NaxcliError(
            f"{folder} has labels from {labels.min()} to {labels.max()}",
            why=f"{name} has classes 0 to {num_classes - 1}",
        )
    return Split(
        images=images,
        labels=labels,
        class_names=tuple(map(str, read.classes)),
        is_official=not others,
        notices=(f"{folder} does not hold the official {name}, but {len(labels)} images",) if others else (),
    )


def _torchvision_class(name: str) -> Any:
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def _download_cifar(name: str, root: Path) -> None:
    """Download and unpack the published archive through torchvision, which shows progress and checks its MD5 sum."""
    dataset = _torchvision_class(name)
    hint = (
        f"put {dataset.filename} (MD5 {dataset.tgz_md5}) or its unpacked folder {_CIFAR[name].folder} into {root}, "
        "or name another folder with --data-root"
    )
    try:
        root.mkdir(parents=True, exist_ok=True)
        dataset(root, train=True, download=True)
    except (OSError, RuntimeError) as error:  # no network, no space, or a checksum that torchvision refuses
        raise NaxcliError(f"{name} is not in {root} and could not be downloaded", why=str(error), hint=hint) from error


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles numbers, text, lists and NumPy arrays, and nothing that could run code."""

    _ALLOWED = frozenset(
        {
            ("_codecs", "encode"),
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no data file needs")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_plain_pickle(content: bytes, path: Path) -> Any:
    """Return the plain data of a pickle, refusing anything else so that an untrusted file cannot run code.

    Raises:
        NaxcliError: Naming the file.
    """
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise NaxcliError(
            f"{path} cannot be read", why=str(error) or type(error).__name__, hint="remove the folder to fetch it again"
        ) from error
