"""Data sources of image files: `folder:DIR`, one folder per class, and `hf:NAME/CONFIG@SPLIT+SPLIT` through the `datasets` package.

Images of any size and mode become RGB squares: the shorter side is scaled to the image size, the middle is kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from naxcli.data.arrays import Images, Labels, hash_of
from naxcli.data.description import Description
from naxcli.data.splits import Split, stratified_split
from naxcli.data.streamed_images import CORRUPT_HINT, UNREADABLE, Listing, StreamedImages, array_of, square_of
from naxcli.errors import NaxcliError
from naxcli.settings.units import counted

DEFAULT_IMAGE_SIZE = 32
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
_TRAIN_NAMES = ("train", "training")
_TEST_NAMES = ("test", "val", "valid", "validation")
_TEST_FRACTION = 0.2  # of a source without a test split of its own
_TEST_SEED = 2026
_HF_USAGE = (
    "--data hf:NAME, hf:NAME/CONFIG or hf:NAME/CONFIG@SPLIT+SPLIT, of the Hugging Face hub or of a folder; without a network "
    "a folder, or what was downloaded before"
)
_MAX_NAMED_FILES = 5  # in an error or notice


def describe(name: str) -> Description:
    """Return what `sources.describe_dataset` returns for a `folder:` or `hf:` name."""
    if name.startswith("folder:"):
        num_classes = len(_class_folders(_train_folder(_folder_of(name))))
    else:
        num_classes = len(_class_names(_hf_splits(name)[0]))
    return Description(name=name, num_classes=num_classes, in_channels=3, image_size=DEFAULT_IMAGE_SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileListing:
    """The image files of one split of a `folder:` source, in the order of `labels`."""

    root: Path
    files: Sequence[Path]
    labels: Labels
    class_names: tuple[str, ...]

    def open(self, index: int) -> Image.Image:
        return Image.open(self.files[index])

    def item_name(self, index: int) -> str:
        return str(self.files[index])

    def content_hash(self) -> str:
        """Return a hash of the files' names and sizes."""
        sizes = np.array([file.stat().st_size for file in self.files], dtype=np.int64)
        return hash_of("\n".join(str(file.relative_to(self.root)) for file in self.files), sizes, self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class HfListing:
    """The rows of a Hugging Face data set that make one split, in the order of `labels`."""

    name: str
    dataset: Any
    rows: Labels
    image_column: str
    labels: Labels
    class_names: tuple[str, ...]

    def open(self, index: int) -> Image.Image:
        image: Image.Image = self.dataset[int(self.rows[index])][self.image_column]
        return image

    def item_name(self, index: int) -> str:
        return f"image {self.rows[index]}"

    def content_hash(self) -> str:
        """Return a hash of the name, the rows and their labels."""
        return hash_of(self.name, self.rows, self.labels)


def read(name: str, *, split: str, image_size: int | None, skip_corrupt: bool, is_streaming: bool) -> Split:
    """Return a split of a `folder:` or `hf:` source; see `sources.load_split`."""
    found, size = listing(name, split), image_size or DEFAULT_IMAGE_SIZE
    if not is_streaming:
        return _decode(found, name=name, image_size=size, skip_corrupt=skip_corrupt)
    images = StreamedImages(
        listing=found,
        indices=np.arange(len(found.labels)),
        channels=3,
        image_size=size,
        resized=size,
        skip_corrupt=skip_corrupt,
    )
    return Split(images=images, labels=found.labels, class_names=found.class_names)


def listing(name: str, split: str) -> Listing:
    """Return the images of a split of a `folder:` or `hf:` source without reading them."""
    return _list_folder(name, split) if name.startswith("folder:") else _list_hf(name, split)


def resize_images(images: Images, image_size: int) -> Images:
    """Return (n, channels, image_size, image_size) uint8 images, resized bicubically."""
    resized = np.empty((*images.shape[:2], image_size, image_size), dtype=np.uint8)
    for target, image in zip(
        resized.reshape(-1, image_size, image_size), images.reshape(-1, *images.shape[2:]), strict=True
    ):
        target[:] = np.asarray(Image.fromarray(image).resize((image_size, image_size), Image.Resampling.BICUBIC))
    return resized


def _list_folder(name: str, split: str) -> Listing:
    root = _folder_of(name)
    train_folder = _train_folder(root)
    test_folder = _first_folder(root, _TEST_NAMES) if train_folder != root else None
    class_names = [folder.name for folder in _class_folders(train_folder)]
    if split == "test" and test_folder is not None:
        unknown = sorted({folder.name for folder in _class_folders(test_folder)} - set(class_names))
        if unknown:
            raise NaxcliError(f"{test_folder} has classes that {train_folder} lacks", why=", ".join(unknown))
        files, labels = _list_files(test_folder, class_names)
    else:
        files, labels = _list_files(train_folder, class_names)
        if test_folder is None:
            indices = _split_without_own_test(labels, split)
            files, labels = [files[index] for index in indices], labels[indices]
    return FileListing(root=root, files=files, labels=labels, class_names=tuple(class_names))


def _list_hf(name: str, split: str) -> Listing:
    train, test = _hf_splits(name)
    dataset = train if split == "train" or test is None else test
    class_names = _class_names(dataset)
    image_column, label_column = _columns(dataset)
    labels = np.asarray(dataset[label_column], dtype=np.int64)
    if len(labels) and (labels.min() < 0 or labels.max() >= len(class_names)):
        raise NaxcliError(
            f"{name} has labels from {labels.min()} to {labels.max()}",
            why=f"its classes are 0 to {len(class_names) - 1}; -1 marks images without a label",
        )
    rows = _split_without_own_test(labels, split) if test is None else np.arange(len(labels))
    return HfListing(
        name=name, dataset=dataset, rows=rows, image_column=image_column, labels=labels[rows], class_names=class_names
    )


def _split_without_own_test(labels: Labels, split: str) -> Labels:
    """Return the indices of a split where the test split is a fixed, stratified share of all images."""
    rest, test = stratified_split(labels, _TEST_FRACTION, _TEST_SEED)
    return test if split == "test" else rest


def _decode(found: Listing, *, name: str, image_size: int, skip_corrupt: bool) -> Split:
    """Return the listed images as one array; several threads read them.

    Raises:
        NaxcliError: Naming the unreadable images, unless they are to be skipped.
    """

    def to_array(index: int) -> Images | str:
        try:
            with found.open(index) as image:
                return array_of(square_of(image, image_size, image_size))
        except UNREADABLE as error:
            return f"{found.item_name(index)}: {error}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = list(pool.map(to_array, range(len(found.labels))))
    corrupt = [item for item in decoded if isinstance(item, str)]
    images = [item for item in decoded if not isinstance(item, str)]
    naming = "; ".join(corrupt[:_MAX_NAMED_FILES]) + ("; …" if len(corrupt) > _MAX_NAMED_FILES else "")
    if not images or (corrupt and not skip_corrupt):
        raise NaxcliError(
            f"{name} has {counted(len(corrupt), 'unreadable image')} of {len(decoded):,}", why=naming, hint=CORRUPT_HINT
        )
    labels = found.labels[[not isinstance(item, str) for item in decoded]]
    emptied = sorted({found.class_names[label] for label in set(found.labels.tolist()) - set(labels.tolist())})
    if emptied:
        raise NaxcliError(
            f"{name} has no readable image of {', '.join(emptied)}", why=naming, hint="repair or remove that class"
        )
    return Split(
        images=np.stack(images),
        labels=labels,
        class_names=found.class_names,
        notices=(f"skipped {counted(len(corrupt), 'unreadable image')} of {name}: {naming}",) if corrupt else (),
    )


def _folder_of(name: str) -> Path:
    if not name.removeprefix("folder:").strip():
        raise NaxcliError(
            "folder: names no folder", hint="--data folder:DIR, with DIR/CLASS/IMAGE or DIR/train/CLASS/IMAGE"
        )
    folder = Path(name.removeprefix("folder:")).expanduser()
    if not folder.is_dir():
        raise NaxcliError(
            f"there is no image folder {folder}", hint="folder:DIR holds DIR/CLASS/IMAGE, or DIR/train/CLASS/IMAGE"
        )
    return folder


def _train_folder(root: Path) -> Path:
    return _first_folder(root, _TRAIN_NAMES) or root


def _first_folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _class_folders(folder: Path) -> list[Path]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise NaxcliError(
            f"{folder} has {counted(len(classes), 'class folder')}",
            why="it needs one folder of images for each of two or more classes",
        )
    return classes


def _list_files(folder: Path, class_names: list[str]) -> tuple[list[Path], Labels]:
    """Return the image files of every class folder, sorted, and their labels."""
    files: list[Path] = []
    labels: list[int] = []
    for class_folder in _class_folders(folder):
        members = sorted(
            path for path in class_folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()
        )
        if not members:
            raise NaxcliError(
                f"the class folder {class_folder} has no image",
                why=f"image files end in {', '.join(sorted(_SUFFIXES))}",
            )
        files += members
        labels += [class_names.index(class_folder.name)] * len(members)
    return files, np.array(labels, dtype=np.int64)


def _hf_splits(name: str) -> tuple[Any, Any | None]:
    """Return the rows to train on, of the splits that the name asks for, and those of the first test split that is not among them."""
    reference, own = _hf_reference(name)
    source = _load_hf(name, reference)
    splits = source if isinstance(source, dict) else {"train": source}
    unknown = [split for split in own if split not in splits]
    if unknown:
        raise NaxcliError(f"{name} has no split {', '.join(unknown)}", why=f"its splits are {', '.join(splits)}")
    names = own or [split for split in _TRAIN_NAMES if split in splits][:1]
    if not names:
        raise NaxcliError(
            f"{name} has no training split",
            why=f"its splits are {', '.join(splits)}",
            hint=f"name those to train on: {name}@{next(iter(splits))}",
        )
    test = next((splits[split] for split in _TEST_NAMES if split in splits and split not in names), None)
    return _joined_rows(name, [splits[split] for split in names]), test


def _joined_rows(name: str, parts: list[Any]) -> Any:
    import datasets

    if len(parts) == 1:
        return parts[0]
    try:
        return datasets.concatenate_datasets(parts)
    except ValueError as error:  # columns or classes differ
        raise NaxcliError(f"the splits of {name} cannot be joined", why=str(error)) from error


def _hf_reference(name: str) -> tuple[str, list[str]]:
    """Return a data set, perhaps with its configuration, and the splits to train on; none are named where the usual ones are meant.

    A folder may have an `@` in its name.
    """
    text = name.removeprefix("hf:").strip()
    if not text:
        raise NaxcliError("hf: names no data set", hint=_HF_USAGE)
    reference, at, splits = text.rpartition("@")
    if not at or Path(text).expanduser().is_dir():
        return text, []
    names = [split.strip() for split in splits.split("+")]
    if not reference or not all(names) or len(set(names)) < len(names):
        raise NaxcliError(f"{name} names no splits", why=f"after @ there is {splits!r}", hint=_HF_USAGE)
    return reference, names


def _load_hf(name: str, reference: str) -> Any:
    """Return a data set with its splits, or the rows of one without, from a folder or the hub."""
    try:
        import datasets
    except ImportError as error:
        raise NaxcliError(
            f"{name} needs the datasets package", why=str(error), hint="pip install 'naxcli[hf]'"
        ) from error
    folder = Path(reference).expanduser()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
            return datasets.load_from_disk(str(folder))
        first, *others = _hf_candidates(reference)
        try:
            return datasets.load_dataset(*first)
        except datasets.exceptions.DatasetNotFoundError:
            if not others:
                raise
            return datasets.load_dataset(*others[0])
    except (OSError, ValueError, RuntimeError, KeyError, datasets.exceptions.DatasetsError) as error:
        # Missing files, unknown names, no network; damaged folders, of whose errors the text may be a key alone.
        lines = (repr(error) if isinstance(error, KeyError) else str(error)).strip().splitlines()
        raise NaxcliError(f"{name} could not be loaded", why=" ".join(lines[:2]), hint=_HF_USAGE) from error


def _hf_candidates(reference: str) -> list[tuple[str, ...]]:
    """Return what a reference may mean, as data set and configuration: the likeliest first."""
    start, _, last = reference.rpartition("/")
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return [(str(folder),)]
    if start and folder.parent.is_dir():
        return [(str(folder.parent), last)]
    if not start:
        return [(reference,)]
    # Of two names the first is an owner, but for the oldest data sets of the hub, which have none.
    return [(start, last)] if "/" in start else [(reference,), (start, last)]


def _columns(dataset: Any) -> tuple[str, str]:
    """Return the names of the image and the label column."""
    kinds = {column: type(feature).__name__ for column, feature in dataset.features.items()}
    image = next((column for column, kind in kinds.items() if kind == "Image"), None)
    label = next((column for column, kind in kinds.items() if kind == "ClassLabel"), None)
    if image is None or label is None:
        raise NaxcliError(
            "the data set has no image column or no class column",
            why=", ".join(f"{column} is {kind}" for column, kind in kinds.items()),
        )
    return image, label


def _class_names(dataset: Any) -> tuple[str, ...]:
    _, label = _columns(dataset)
    return tuple(dataset.features[label].names)
