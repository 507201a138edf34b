"""The baseline of the training benchmarks: what a user of timm would run today, with every flag that helps it.

timm's create_loader with FastCollateMixup, prefetcher and persistent worker processes, its Lamb, its cosine schedule, its
BinaryCrossEntropy, channels last, bfloat16 autocast and cudnn.benchmark on CUDA, no waiting for the device in a step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import timm.optim
import torch
from PIL import Image
from timm.data import FastCollateMixup, create_loader
from timm.data.auto_augment import rand_augment_transform
from timm.data.transforms import MaybePILToTensor
from timm.loss import BinaryCrossEntropy
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from naxcli.data.dataset import Dataset
from naxcli.settings.recipe import Recipe


class PillowImages(TorchDataset[tuple[object, int]]):
    """Images as torchvision's data sets give them."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self._images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels = labels.tolist()
        self.transform: Callable[[Image.Image], object] | None = None

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[object, int]:
        image = Image.fromarray(self._images[index])
        assert self.transform is not None
        return self.transform(image), self._labels[index]


def synthetic_dataset(num_images: int, *, num_validation: int = 100) -> Dataset:
    """Return blocky random images in CIFAR-100's shape, for measurements whose cost does not depend on the content."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (num_images, 3, 8, 8), dtype=np.uint8)
    images = torch.from_numpy(coarse.repeat(4, axis=2).repeat(4, axis=3))
    labels = torch.arange(num_images) % 100
    return Dataset(
        name="synthetic",
        train_images=images[num_validation:],
        train_labels=labels[num_validation:],
        validation_images=images[:num_validation],
        validation_labels=labels[:num_validation],
        num_classes=100,
        in_channels=3,
        image_size=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        class_names=tuple(map(str, range(100))),
        content_hash="",
        is_official=False,
    )


def train_loader(
    dataset: Dataset, recipe: Recipe, device: torch.device, num_workers: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return timm's training loader with the recipe's transforms."""
    images = PillowImages(dataset.train_images, dataset.train_labels)
    collate = FastCollateMixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        prob=recipe.mixup_prob,
        switch_prob=recipe.switch_prob,
        label_smoothing=recipe.label_smoothing,
        num_classes=dataset.num_classes,
    )
    loader = _loader(images, dataset, recipe, device, num_workers, is_training=True, collate_fn=collate)
    grey = tuple(round(255 * mean) for mean in dataset.mean)
    images.transform = (
        transforms.Compose(  # timm's own crop resizes ImageNet's large images: not this recipe, and slower
            [
                transforms.RandomCrop(dataset.image_size, padding=recipe.crop_padding),
                transforms.RandomHorizontalFlip(recipe.horizontal_flip),
                rand_augment_transform(recipe.randaugment, {"img_mean": grey}),
                MaybePILToTensor(),
            ]
        )
    )
    return loader


def validation_loader(
    dataset: Dataset, recipe: Recipe, device: torch.device, num_workers: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return timm's loader of the validation images as they are."""
    images = PillowImages(dataset.validation_images, dataset.validation_labels)
    return _loader(images, dataset, recipe, device, num_workers, is_training=False, crop_pct=1.0)


def _loader(
    images: PillowImages, dataset: Dataset, recipe: Recipe, device: torch.device, num_workers: int, **arguments: object
) -> DataLoader[tuple[Tensor, Tensor]]:
    loader: DataLoader[tuple[Tensor, Tensor]] = create_loader(
        images,
        input_size=(dataset.in_channels, dataset.image_size, dataset.image_size),
        batch_size=recipe.batch_size,
        mean=dataset.mean,
        std=dataset.std,
        num_workers=num_workers,
        device=device,
        use_prefetcher=True,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
        **arguments,
    )
    return loader


def lamb(network: nn.Module, recipe: Recipe, *, foreach: bool | None = None) -> torch.optim.Optimizer:
    """Return timm's Lamb with timm's rule for weight decay."""
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer = timm.optim.Lamb(
        groups, lr=recipe.learning_rate, max_grad_norm=recipe.max_grad_norm, foreach=foreach
    )
    return optimizer


def training_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe
) -> Callable[[Tensor, Tensor], None]:
    """Return a function that takes one step on a batch."""
    loss_function = BinaryCrossEntropy(smoothing=0.0, target_threshold=recipe.bce_target_threshold)

    def step(images: Tensor, targets: Tensor) -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=images.device.type == "cuda"):
            loss = loss_function(network(images), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def train(
    network: nn.Module, dataset: Dataset, recipe: Recipe, *, epochs: float, device: torch.device, num_workers: int
) -> float:
    """Train in place, validating after every epoch, and return the last validation accuracy."""
    torch.backends.cudnn.benchmark = True
    network = network.to(device).to(memory_format=torch.channels_last)
    training = train_loader(dataset, recipe, device, num_workers)
    validation = validation_loader(dataset, recipe, device, num_workers)
    optimizer = lamb(network, recipe)
    take_step = training_step(network, optimizer, recipe)
    num_steps = max(1, round(epochs * len(training)))
    num_warmup = round(recipe.warmup_length(epochs) * len(training))
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=max(1, num_steps - num_warmup),
        lr_min=recipe.min_learning_rate,
        warmup_t=num_warmup,
        warmup_lr_init=recipe.min_learning_rate,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    step, accuracy = 0, 0.0
    while step < num_steps:
        network.train()
        for images, targets in training:
            take_step(images.contiguous(memory_format=torch.channels_last), targets)
            step += 1
            schedule.step_update(step)
            if step == num_steps:
                break
        network.eval()
        num_correct = torch.zeros((), device=device)
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            for images, labels in validation:
                num_correct += (network(images.contiguous(memory_format=torch.channels_last)).argmax(1) == labels).sum()
        accuracy = num_correct.item() / len(dataset.validation_labels)
    return accuracy
