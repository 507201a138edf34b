"""Slices through a loss whose values are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from naxcli.studies.landscape import coordinates, random_directions, walk_slice
from naxcli.studies.quality import Quality
from naxcli.studies.weights import get_weights, set_weights


def quadratic(network: nn.Module) -> Quality:
    """Return half the square of the distance of the weights from 0."""
    return {"train_loss": float(get_weights(network).square().sum() / 2)}


def test_a_slice_of_a_quadratic_loss_is_the_parabola_that_it_is_known_to_be() -> None:
    torch.manual_seed(0)
    network = nn.Linear(5, 3, bias=False)
    weights, (direction,) = get_weights(network), random_directions(network, 1, seed=1)
    places = coordinates(9, 2.0, 1)
    found = [quality["train_loss"] for quality in walk_slice(network, [direction], places, quadratic)]
    # A direction of filters as long as those of the network is as long as all of it.
    square, slope = float(weights.square().sum()), float(weights.dot(direction))
    expected = [(square * (1 + step**2) + 2 * step * slope) / 2 for (step,) in places]
    assert found == pytest.approx(expected, rel=1e-5)
    assert torch.equal(get_weights(network), weights)


def test_each_filter_of_a_direction_is_as_long_as_that_of_the_network_and_biases_and_normalizations_have_none() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    copy = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    first, second = random_directions(network, 2, seed=3)
    set_weights(copy, first)
    for (name, weights), direction in zip(network.named_parameters(), copy.parameters(), strict=True):
        if weights.ndim == 1:
            assert not direction.any(), name
        else:
            assert torch.allclose(direction.flatten(1).norm(dim=1), weights.flatten(1).norm(dim=1)), name
    assert torch.equal(first, random_directions(network, 1, seed=3)[0])
    assert abs(float(torch.cosine_similarity(first, second, dim=0))) < 0.3  # a plane, no line


def test_a_plane_is_walked_row_by_row_with_the_network_in_its_middle() -> None:
    places = coordinates(3, 0.5, 2)
    assert places == [(x, y) for y in (-0.5, 0.0, 0.5) for x in (-0.5, 0.0, 0.5)]
    network = nn.Linear(1, 1, bias=False)
    set_weights(network, torch.tensor([2.0]))
    directions = [torch.tensor([1.0]), torch.tensor([10.0])]
    found = [quality["train_loss"] for quality in walk_slice(network, directions, places, quadratic)]
    assert found == pytest.approx([(2 + x + 10 * y) ** 2 / 2 for x, y in places])


def test_an_interrupted_walk_leaves_the_network_as_it_was() -> None:
    network = nn.Linear(2, 2)
    weights = get_weights(network)
    walk = walk_slice(network, [torch.ones(6)], coordinates(3, 1.0, 1), quadratic)
    next(walk)
    assert not torch.equal(get_weights(network), weights)
    walk.close()
    assert torch.equal(get_weights(network), weights)
