"""Augmentation and mixing: training batches a core-second, timm's loader against ours.

    python benchmarks/training_augmentation.py [--data-root DIR] [--repeats 7] [--device cuda]

Both read CIFAR-sized images from memory and apply the paper's recipe: crop with padding 4, flip, RandAugment
rand-m7-mstd0.5-inc1, mixup 0.1 or CutMix 1.0, normalisation. The baseline is timm's create_loader with FastCollateMixup
and its prefetcher, in one process, which spends the least CPU time per image. They alternate within one process; on a
CPU the measure is images per second of CPU time on one thread, so a busy machine matters little. With --device cuda it
is images per second of wall time, the baseline with all cores as workers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from timm.data import FastCollateMixup, create_loader
from timm.data.auto_augment import rand_augment_transform
from timm.data.transforms import MaybePILToTensor
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from naxcli.training.augment import TrainingBatches
from naxcli.training.data import Dataset, load_dataset
from naxcli.training.recipe import Recipe


class PillowImages(TorchDataset[tuple[object, int]]):
    """Images as the loader of a data set such as torchvision's CIFAR100 gives them."""

    def __init__(self, dataset: Dataset) -> None:
        self._images = dataset.train_images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels = dataset.train_labels.tolist()
        self.transform: Callable[[Image.Image], object] | None = None

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[object, int]:
        image = Image.fromarray(self._images[index])
        assert self.transform is not None
        return self.transform(image), self._labels[index]


def synthetic_dataset(num_images: int) -> Dataset:
    """Return smooth random images in CIFAR-100's shape, for machines without it: the operations cost the same."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (num_images, 3, 8, 8), dtype=np.uint8)
    images = torch.from_numpy(coarse.repeat(4, axis=2).repeat(4, axis=3))
    labels = torch.arange(num_images) % 100
    return Dataset(
        name="synthetic", train_images=images, train_labels=labels, validation_images=images[:100],
        validation_labels=labels[:100], num_classes=100, in_channels=3, image_size=32, mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25), class_names=tuple(map(str, range(100))), content_hash="", is_official=False,
    )  # fmt: skip


def timm_loader(
    dataset: Dataset, recipe: Recipe, device: torch.device, num_workers: int
) -> torch.utils.data.DataLoader:
    """Return timm's training loader with the recipe's transforms."""
    size = dataset.image_size
    images = PillowImages(dataset)
    collate = FastCollateMixup(
        mixup_alpha=recipe.mixup, cutmix_alpha=recipe.cutmix, prob=recipe.mixup_prob, switch_prob=recipe.switch_prob,
        label_smoothing=recipe.label_smoothing, num_classes=dataset.num_classes,
    )  # fmt: skip
    loader = create_loader(
        images, input_size=(3, size, size), batch_size=recipe.batch_size, is_training=True, collate_fn=collate,
        auto_augment=recipe.randaugment, mean=dataset.mean, std=dataset.std, num_workers=num_workers, device=device,
        use_prefetcher=True, pin_memory=device.type == "cuda", persistent_workers=True,
    )  # fmt: skip
    grey = tuple(round(255 * mean) for mean in dataset.mean)
    images.transform = (
        transforms.Compose(  # timm's own crop resizes ImageNet's large images: not this recipe, and slower
            [
                transforms.RandomCrop(size, padding=recipe.crop_padding),
                transforms.RandomHorizontalFlip(recipe.horizontal_flip),
                rand_augment_transform(recipe.randaugment, {"img_mean": grey, "translate_const": int(size * 0.45)}),
                MaybePILToTensor(),
            ]
        )
    )
    return loader


def timm_batches(loader: torch.utils.data.DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from loader


def our_batches(dataset: Dataset, recipe: Recipe, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    batches = TrainingBatches(dataset.to(device), recipe, seed=0, device=device)
    step = 0
    while True:
        yield batches.batch(step)
        step += 1


def images_per_second(
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]], num_batches: int, device: torch.device
) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    count = sum(len(next(batches)[0].contiguous(memory_format=torch.channels_last)) for _ in range(num_batches))
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", help="folder with cifar-100-python; synthetic images otherwise")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, recipe = torch.device(arguments.device), Recipe()
    if arguments.data_root:
        dataset = load_dataset("cifar100", root=arguments.data_root, split_seed=0, validation_fraction=0.1)
    else:
        dataset = synthetic_dataset(20_000)
    num_workers = (os.cpu_count() or 1) if device.type == "cuda" else 0
    theirs = timm_batches(timm_loader(dataset, recipe, device, num_workers))
    ours = our_batches(dataset, recipe, device)
    chunk = 16 if device.type == "cpu" else 256  # whole chunks of ours, so that each measurement pays for its own
    images_per_second(theirs, 2, device), images_per_second(ours, chunk, device)  # warm-up
    ratios, rates = [], []
    for _ in range(arguments.repeats):
        baseline = images_per_second(theirs, 4 if device.type == "cpu" else 64, device)
        rate = images_per_second(ours, chunk, device)
        ratios.append(rate / baseline)
        rates.append((baseline, rate))
    unit = "images per core-second" if device.type == "cpu" else "images per second"
    print(f"{dataset.name}, batch {recipe.batch_size}, {device.type}, {arguments.repeats} alternating repeats, {unit}")
    for label, column in (("timm", 0), ("naxcli", 1)):
        values = [rate[column] for rate in rates]
        print(f"{label:8s} median {statistics.median(values):12,.0f}   range {min(values):,.0f} to {max(values):,.0f}")
    print(f"ratio    median {statistics.median(ratios):12.2f}   range {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
