"""The recipe's optimizer: LAMB, or PyTorch's AdamW and SGD, with timm's rule for what has no weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from naxcli.settings.recipe import Recipe
from naxcli.training.lamb import Lamb


def build_optimizer(network: nn.Module, recipe: Recipe, *, has_kernels: bool = False) -> Optimizer:
    """Return the recipe's optimizer over the network's trainable parameters; it clips the gradient's norm in its step.

    As in timm, parameters with at most one dimension (biases, normalization layers) have no weight decay.

    Args:
        network: Network, on its device.
        recipe: Optimizer and its settings.
        has_kernels: Whether Triton's kernels work on that device and are wanted.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trainable if parameter.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "lamb":
        if has_kernels:
            from naxcli.training.kernels.lamb import FusedLamb, can_fuse

            if can_fuse(trainable):
                return FusedLamb(groups, lr=recipe.learning_rate, max_grad_norm=recipe.max_grad_norm)
        return Lamb(groups, lr=recipe.learning_rate, max_grad_norm=recipe.max_grad_norm)
    optimizer: Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    else:
        optimizer = torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True
        )
    if recipe.max_grad_norm:

        def clip(*_: object) -> None:
            nn.utils.clip_grad_norm_(trainable, recipe.max_grad_norm, foreach=True)

        optimizer.register_step_pre_hook(clip)
    return optimizer
