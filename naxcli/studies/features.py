"""Singular values of the features of a layer or a network, and what follows from them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from naxcli.data.dataset import Dataset
from naxcli.errors import NaxcliError
from naxcli.settings.recipe import Recipe
from naxcli.training.validation import evaluate_network


def final_features(network: nn.Module, dataset: Dataset, recipe: Recipe) -> tuple[Tensor, float]:
    """Return what the classifier sees of the validation images, (num_images, num_features) on the CPU, and the accuracy.

    Raises:
        NaxcliError: If the network has no linear layer.
    """
    classifiers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not classifiers:
        raise NaxcliError("the network has no linear layer", why="its final features are what the last one sees")
    seen: list[Tensor] = []
    handle = classifiers[-1].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].float().cpu()))
    try:
        accuracy, _ = evaluate_network(network, dataset, recipe)
    finally:
        handle.remove()
    # A GPU's last batch is filled up to the size of the others.
    return torch.cat(seen)[: len(dataset.validation_labels)].flatten(1), accuracy


def singular_values(features: Tensor) -> Tensor:
    """Return the singular values of features (n, d) with n >= d, the largest first, from their d x d products in float64."""
    wide = features.double()
    values: Tensor = torch.linalg.eigvalsh(wide.T @ wide).clamp(min=0).sqrt().flip(0)
    return values


def nuclear_norm(features: Tensor) -> tuple[float, float]:
    """Return the sum of the singular values of features (n, d), and its share of the largest possible at their size.

    The share does not change with the scale of the features: it is 1 where all singular values are equal.
    """
    values = singular_values(features)
    total, size = float(values.sum()), float(values.square().sum().sqrt())
    return total, total / (size * math.sqrt(len(values))) if size else 0.0
