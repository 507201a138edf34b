"""A network's trainable weights as one vector, a point of the space that its training moved through."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that make up the vector, in the order of its parts."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def get_weights(network: nn.Module) -> Tensor:
    """Return a copy of the weights, of shape (num_weights,)."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in trainable(network)])


@torch.no_grad()
def set_weights(network: nn.Module, weights: Tensor) -> None:
    """Copy weights, of shape (num_weights,), into a network."""
    start = 0
    for parameter in trainable(network):
        parameter.copy_(weights[start : start + parameter.numel()].view_as(parameter))
        start += parameter.numel()


def get_gradient(network: nn.Module) -> Tensor:
    """Return the gradient of the weights, of shape (num_weights,); 0 where none has reached a parameter."""
    return torch.cat(
        [
            (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).reshape(-1)
            for parameter in trainable(network)
        ]
    )
