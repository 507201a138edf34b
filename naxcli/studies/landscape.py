"""Slices through the loss of a trained network, in random directions as long as the filters that they change.

Source: Li, Xu, Taylor, Studer, Goldstein, "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018. As in the authors'
code (github.com/tomgoldstein/loss-landscape), biases and the weights of normalizations have no direction, and batch
statistics stay those of the trained network, unless the measure computes them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from naxcli.studies.quality import Quality
from naxcli.studies.weights import get_weights, set_weights, trainable


def random_directions(network: nn.Module, num_directions: int, seed: int) -> list[Tensor]:
    """Return random directions of shape (num_weights,), each filter of them as long as that of the network.

    Args:
        network: Trained network.
        num_directions: Number of directions.
        seed: Random seed of all of them; the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    return [_random_direction(network, generator) for _ in range(num_directions)]


def _random_direction(network: nn.Module, generator: torch.Generator) -> Tensor:
    parts = []
    for parameter in trainable(network):
        drawn = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        parts.append(filter_normalised(drawn, parameter.detach()).reshape(-1))
    return torch.cat(parts)


def filter_normalised(direction: Tensor, weights: Tensor) -> Tensor:
    """Return the direction of one parameter with the length of each filter of its weights; 0 where there are no filters.

    A filter is what makes one output: of shape (in, height, width) in a convolution, (in,) in a linear layer.
    """
    if weights.ndim < 2:
        return torch.zeros_like(direction)
    lengths = [tensor.flatten(1).norm(dim=1) for tensor in (weights, direction)]
    factors: Tensor = lengths[0] / lengths[1].clamp(min=1e-10)
    return direction * factors.view(-1, *[1] * (weights.ndim - 1))


def coordinates(num_points: int, radius: float, num_directions: int) -> list[tuple[float, ...]]:
    """Return the places of a slice, row by row: `num_points` from -radius to radius along each of one or two directions."""
    middle = num_points // 2
    along = [radius * (place - middle) / middle for place in range(num_points)]
    return [(x,) for x in along] if num_directions == 1 else [(x, y) for y in along for x in along]


def walk_slice(
    network: nn.Module,
    directions: Sequence[Tensor],
    places: Sequence[tuple[float, ...]],
    measure: Callable[[nn.Module], Quality],
) -> Iterator[Quality]:
    """Yield how good the network is at each place, and leave its weights as they were.

    Args:
        network: Trained network.
        directions: One or two directions of shape (num_weights,).
        places: Steps along each direction.
        measure: What is measured there.
    """
    start = get_weights(network)
    try:
        for place in places:
            moved = sum(step * direction for step, direction in zip(place, directions, strict=True))
            set_weights(network, start + moved)
            yield measure(network)
    finally:
        set_weights(network, start)
