"""Paths through losses whose barriers are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from naxcli.studies.energy_path import (
    Band,
    places_of,
    redistributed,
    relax,
    straight_band,
    tangent_at,
    with_new_pivots,
)


def ring(point: Tensor) -> Tensor:
    """Return a loss whose minimum is the circle of radius 1."""
    return (point.norm() - 1) ** 2


def bowl(point: Tensor) -> Tensor:
    """Return a convex loss."""
    return (point * torch.tensor([1.0, 5.0])).square().sum()


def relaxed(loss_of, band: Band, **settings: float) -> Band:
    def loss_and_gradient(_step: int, point: Tensor) -> tuple[float, Tensor]:
        moving = point.clone().requires_grad_()
        loss = loss_of(moving)
        loss.backward()
        return loss.item(), moving.grad

    return relax(band, loss_and_gradient, first_step=0, **{"num_steps": 200, "learning_rate": 0.02, **settings})


def losses_along(loss_of, band: Band) -> list[float]:
    return [float(loss_of(point)) for _, point in places_of(band)]


def test_between_two_points_of_a_ring_the_path_goes_around_the_hill_that_the_straight_line_climbs() -> None:
    ends = torch.tensor([-1.0, 0.05]), torch.tensor([1.0, 0.05])
    band = straight_band(*ends)
    assert max(losses_along(ring, band)) == pytest.approx(0.95**2, abs=1e-3)
    for _ in range(4):
        band = relaxed(ring, with_new_pivots(band, losses_along(ring, band)))
    assert max(losses_along(ring, band)) < 0.02
    assert torch.equal(band.pivots[0], ends[0]) and torch.equal(band.pivots[-1], ends[1])
    assert len(band.pivots) > 5  # three pivots cannot follow half a circle


def test_in_a_convex_loss_a_path_has_no_barrier_and_needs_no_further_pivots() -> None:
    band = straight_band(torch.tensor([-2.0, 0.5]), torch.tensor([2.0, 0.3]))
    band = relaxed(bowl, band)
    losses = losses_along(bowl, band)
    assert max(losses) == max(losses[0], losses[-1])
    assert len(with_new_pivots(band, losses).pivots) == len(band.pivots)


def test_pivots_keep_their_shares_of_the_path() -> None:
    pivots = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.2, 0.0], [1.0, 0.0], [1.0, 1.0]])
    spacing = torch.tensor([0.125, 0.125, 0.25, 0.5])
    moved = redistributed(pivots, spacing)
    assert torch.allclose(moved, torch.tensor([[0, 0], [0.25, 0], [0.5, 0], [1.0, 0.0], [1, 1]]))


def test_a_pivot_is_put_where_the_loss_bulges_most_and_splits_the_share_there() -> None:
    band = straight_band(torch.zeros(1), torch.ones(1), 1)
    losses = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    grown = with_new_pivots(band, losses)
    assert grown.pivots.squeeze(1).tolist() == pytest.approx([0, 0.5, 0.65, 1])
    assert grown.spacing.tolist() == pytest.approx([0.5, 0.15, 0.35])
    with_nan = with_new_pivots(band, [None if loss == 5.0 else loss for loss in losses])
    assert torch.allclose(with_nan.pivots, grown.pivots)


def test_the_tangent_points_to_the_neighbour_of_higher_loss() -> None:
    pivots = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    assert tangent_at(1, pivots, [0.0, 1.0, 2.0]).tolist() == [0.0, 1.0]
    assert tangent_at(1, pivots, [2.0, 1.0, 0.0]).tolist() == [1.0, 0.0]
    mixed = tangent_at(1, pivots, [0.0, 2.0, 1.0])  # a maximum, closer to what is after it
    assert float(mixed.norm()) == pytest.approx(1.0)
    assert float(mixed[1] / mixed[0]) == pytest.approx(2.0)
