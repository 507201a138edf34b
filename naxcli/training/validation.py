"""Accuracy and loss of a network on images it was not trained on."""

from __future__ import annotations

import torch
from torch import nn

from naxcli.data.augment import Mixing, Normalisation, mix_targets
from naxcli.data.dataset import Dataset, read_images
from naxcli.settings.recipe import Recipe
from naxcli.training.distributed import ALONE, Processes
from naxcli.training.step import autocast_dtype, loss_of


@torch.no_grad()
def evaluate_network(
    network: nn.Module, dataset: Dataset, recipe: Recipe, processes: Processes = ALONE
) -> tuple[float, float]:
    """Return (accuracy, mean loss) of a network on the validation images as they are; its mode stays.

    Args:
        network: Network on the device of the computation, which need not be the data's.
        dataset: Dataset whose validation images are classified.
        recipe: Batch size, precision and loss.
        processes: Processes that share the work; all of them get the result.
    """
    device = next(network.parameters()).device
    normalisation, dtype = Normalisation(dataset, device, recipe.resolution), autocast_dtype(recipe, device)
    num_correct, loss_sum = torch.zeros((), device=device), torch.zeros((), device=device)
    was_training = network.training
    network.eval()
    images, labels = dataset.validation_images, dataset.validation_labels
    for start in range(processes.rank * recipe.batch_size, len(labels), processes.num * recipe.batch_size):
        part = slice(start, start + recipe.batch_size)
        batch = normalisation(
            read_images(images, part).to(device, non_blocking=True), channels_last=recipe.channels_last
        )
        expected = labels[part].to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            logits = network(batch)
        num_correct += (logits.argmax(1) == expected).sum()
        targets = mix_targets(expected, Mixing(weight=1.0), dataset.num_classes, smoothing=0.0)
        loss_sum += loss_of(logits, targets, recipe) * len(batch)
    network.train(was_training)
    processes.sum_in_place([num_correct, loss_sum])
    return num_correct.item() / len(labels), loss_sum.item() / len(labels)
