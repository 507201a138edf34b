"""How good a network is on the images it was trained on and on those it was not, with its batch statistics as they are or anew."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from naxcli.data.augment import Normalisation
from naxcli.data.dataset import Dataset, read_images
from naxcli.settings.recipe import Recipe
from naxcli.training.validation import evaluate_network

Quality = dict[str, float | None]
"""Mean losses and accuracies by `QUALITIES`; None where one is not finite."""

QUALITIES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class QualityMeasure:
    """Measures networks on the same images.

    Args:
        dataset: Images, as they are: without augmentation or mixing.
        recipe: Loss, batch size and precision.
        recomputes_batch_norm: Whether a network's batch statistics are those of its own weights on the training images,
            rather than those that it comes with.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, *, recomputes_batch_norm: bool) -> None:
        self._dataset = dataset
        self._on_training_images = dataclasses.replace(
            dataset, validation_images=dataset.train_images, validation_labels=dataset.train_labels
        )
        self._recipe = recipe
        self._recomputes_batch_norm = recomputes_batch_norm

    def __call__(self, network: nn.Module) -> Quality:
        """Return how good a network is; its mode stays."""
        if self._recomputes_batch_norm:
            recompute_batch_norm(network, self._dataset, self._recipe)
        train_accuracy, train_loss = evaluate_network(network, self._on_training_images, self._recipe)
        val_accuracy, val_loss = evaluate_network(network, self._dataset, self._recipe)
        found = (train_loss, train_accuracy, val_loss, val_accuracy)
        return {name: value if math.isfinite(value) else None for name, value in zip(QUALITIES, found, strict=True)}


@torch.no_grad()
def recompute_batch_norm(network: nn.Module, dataset: Dataset, recipe: Recipe) -> None:
    """Set a network's batch statistics to their mean over whole batches of the training images.

    Between two networks, and away from one, the statistics that came with them are those of other activations.
    """
    layers = [module for module in network.modules() if isinstance(module, BATCH_NORMS) and module.track_running_stats]
    if not layers:
        return
    was_training, momenta = network.training, [layer.momentum for layer in layers]
    network.eval()  # the rest of the network draws no random numbers
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a mean over all batches
        layer.train()
    device = next(network.parameters()).device
    normalisation = Normalisation(dataset, device, recipe.resolution)
    size = min(recipe.batch_size, len(dataset.train_labels))
    for start in range(0, len(dataset.train_labels) - size + 1, size):
        images = read_images(dataset.train_images, slice(start, start + size)).to(device, non_blocking=True)
        network(normalisation(images, channels_last=recipe.channels_last))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.train(was_training)
