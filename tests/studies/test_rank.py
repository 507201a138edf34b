"""Rank ratios of random layers, and nuclear norms."""

from __future__ import annotations

import math

import pytest
import torch

from naxcli.studies.rank import (
    ACTIVATIONS,
    LAYERS,
    LINEAR,
    TOLERANCE,
    Measured,
    linear_ratio,
    measure_random_layers,
    random_orthogonal,
    ranks,
)


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    networks = measure_random_layers(25, tolerances=(TOLERANCE, TOLERANCE / 10), seed=0)
    return [item for network in networks for item in network]


def test_a_linear_layer_has_exactly_the_ratio_of_its_dimensions(measured: list[Measured]) -> None:
    linear = [item for item in measured if item.activation == LINEAR]
    assert len(linear) == 25 * len(LAYERS)
    for item in linear:
        assert item.rank_ratios == (linear_ratio(item.layer, item.d_in, item.d_out),) * 2
        if item.layer == "conv1x1":
            assert item.rank_ratios[0] == item.d_in / item.d_out == item.ratio


def test_there_are_four_layers_with_seven_activations_at_every_size_and_sizes_span_the_range(
    measured: list[Measured],
) -> None:
    kinds = {(item.layer, item.activation) for item in measured}
    assert len(LAYERS) == 4 and len(ACTIVATIONS) == 7 + 1
    assert kinds == {(layer, activation) for layer in LAYERS for activation in ACTIVATIONS}
    assert len(measured) == 25 * len(kinds)
    assert min(item.ratio for item in measured) < 0.25 and max(item.ratio for item in measured) > 0.75


def test_an_activation_adds_rank_and_a_larger_tolerance_never_does(measured: list[Measured]) -> None:
    for item in measured:
        assert item.rank_ratios[0] <= item.rank_ratios[1]
        if item.layer == "conv1x1" and item.d_in < item.d_out and item.activation != LINEAR:
            assert item.rank_ratios[0] > item.ratio


def test_a_network_does_not_depend_on_how_many_there_are() -> None:
    few, more = (list(measure_random_layers(num, tolerances=(TOLERANCE,), seed=3)) for num in (1, 2))
    assert few[0] == more[0] and more[0] != more[1]


@pytest.mark.parametrize(("num_out", "num_in"), [(5, 5), (9, 4), (4, 9)])
def test_random_weights_have_equal_singular_values_and_keep_the_variance(num_out: int, num_in: int) -> None:
    weights = random_orthogonal(num_out, num_in, torch.Generator().manual_seed(0))
    assert weights.shape == (num_out, num_in)
    values = torch.linalg.svdvals(weights)
    torch.testing.assert_close(values, torch.full_like(values, math.sqrt(max(1, num_out / num_in))))
    assert float(weights.square().sum() / num_out) == pytest.approx(1)


def test_ranks_count_singular_values_above_a_share_of_the_largest() -> None:
    rows = torch.diag(torch.tensor([10.0, 1.0, 0.05, 0.0]))
    assert ranks(torch.cat([rows, rows]), (0.5, 0.05, 0.001)) == [1, 2, 3]
