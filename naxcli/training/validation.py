"""Accuracy and loss of a network on images it was not trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from naxcli.data.augment import Mixing, Normalisation, mix_targets
from naxcli.data.dataset import Dataset, read_images
from naxcli.settings.recipe import Recipe
from naxcli.training.distributed import ALONE, Processes
from naxcli.training.step import autocast_dtype, loss_of


def evaluate_network(
    network: nn.Module, dataset: Dataset, recipe: Recipe, processes: Processes = ALONE
) -> tuple[float, float]:
    """Return (accuracy, mean loss) of a network on the validation images as they are; its mode stays.

    The arguments are those of `validation_sums`.
    """
    num_correct, loss_sum = validation_sums(network, dataset, recipe, processes).tolist()
    return num_correct / len(dataset.validation_labels), loss_sum / len(dataset.validation_labels)


@torch.no_grad()
def validation_sums(network: nn.Module, dataset: Dataset, recipe: Recipe, processes: Processes = ALONE) -> Tensor:
    """Return, on the device and without waiting for it, the number of images classified correctly and the sum of the losses.

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
    # cuDNN would search for plans of the last batch's own size.
    full = min(recipe.batch_size, len(labels)) if device.type == "cuda" else 0
    for start in range(processes.rank * recipe.batch_size, len(labels), processes.num * recipe.batch_size):
        part = slice(start, start + recipe.batch_size)
        read = read_images(images, part).to(device, non_blocking=True)
        batch = normalisation(padded_to(full, read), channels_last=recipe.channels_last)
        expected = labels[part].to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            logits = network(batch)[: len(read)]
        num_correct += (logits.argmax(1) == expected).sum()
        targets = mix_targets(expected, Mixing(weight=1.0), dataset.num_classes, smoothing=0.0)
        loss_sum += loss_of(logits, targets, recipe) * len(read)
    network.train(was_training)
    processes.sum_in_place([num_correct, loss_sum])
    return torch.stack([num_correct, loss_sum])


def padded_to(num: int, images: Tensor) -> Tensor:
    """Return images (n, channels, h, w) with black ones after them, so that there are at least `num`."""
    missing = num - len(images)
    return functional.pad(images, (0,) * 7 + (missing,)) if missing > 0 else images
