"""Paths of low loss between two networks: the automated nudged elastic band.

Source: Draxler, Veschgini, Salmhofer, Hamprecht, "Essentially No Barriers in Neural Network Energy Landscape", ICML 2018, with
the settings of the authors' code (github.com/fdraxler/PyTorch-AutoNEB): three pivots to begin with, springs of infinite
stiffness (pivots are put back to their distances before each step), and up to two new pivots a cycle. Tangents as Henkelman and
Jónsson, J. Chemical Physics 2000.

Two deviations: all pivots of a step see the same batch, so that their losses can be compared; and the loss has no weight decay,
for the optimizers here decay weights apart from the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LossAndGradient = Callable[[int, Tensor], tuple[float, Tensor]]
"""From a step, which decides the batch, and weights of shape (num_weights,) to the loss and its gradient."""

FIRST_PIVOTS, MAX_NEW_PIVOTS = 3, 2
DEVIATION = 0.1  # from the straight line between two pivots, as a share of the range of all, above which one is put between them
NUM_BETWEEN = 9  # places between two pivots where the loss is measured
MOMENTUM = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A path from point to point.

    Args:
        pivots: Points of shape (n, num_weights); the first and the last never move.
        spacing: Shares of the path's length between neighbours, of shape (n - 1,).
    """

    pivots: Tensor
    spacing: Tensor


def straight_band(first: Tensor, last: Tensor, num_between: int = FIRST_PIVOTS) -> Band:
    """Return the straight line between two points, with so many pivots between them."""
    shares = torch.linspace(0, 1, num_between + 2, device=first.device)
    pivots = torch.stack([torch.lerp(first, last, float(share)) for share in shares])
    return Band(pivots=pivots, spacing=torch.full((num_between + 1,), 1 / (num_between + 1), device=first.device))


def places_of(band: Band, num_between: int = NUM_BETWEEN) -> Iterator[tuple[float, Tensor]]:
    """Yield pivots and points between them, each with its place along the path, from 0 to 1."""
    lengths = _lengths(band.pivots)
    begins = [0.0, *(lengths.cumsum(0) / lengths.sum()).tolist()]
    for index in range(len(band.pivots) - 1):
        for number in range(num_between + 1):
            share = number / (num_between + 1)
            place = begins[index] + share * (begins[index + 1] - begins[index])
            yield place, torch.lerp(band.pivots[index], band.pivots[index + 1], share)
    yield 1.0, band.pivots[-1]


def relax(
    band: Band,
    loss_and_gradient: LossAndGradient,
    *,
    first_step: int,
    num_steps: int,
    learning_rate: float,
    on_step: Callable[[int], None] = lambda _: None,
) -> Band:
    """Return the band after steps of gradient descent with momentum, across it only.

    Args:
        band: Where it starts.
        loss_and_gradient: Loss and gradient at a point in a step.
        first_step: Number of the first step.
        num_steps: Number of steps.
        learning_rate: Learning rate.
        on_step: Called with the number of each step before it.
    """
    pivots, velocity = band.pivots.clone(), torch.zeros_like(band.pivots)
    for step in range(first_step, first_step + num_steps):
        on_step(step)
        pivots = redistributed(pivots, band.spacing)
        losses, gradients = zip(*(loss_and_gradient(step, point) for point in pivots), strict=True)
        for index in range(1, len(pivots) - 1):
            tangent = tangent_at(index, pivots, losses)
            gradient = gradients[index]
            velocity[index].mul_(MOMENTUM).add_(gradient - gradient.dot(tangent) * tangent)
        pivots = pivots - learning_rate * velocity  # the ends' velocity is 0
    return Band(pivots=redistributed(pivots, band.spacing), spacing=band.spacing)


def tangent_at(index: int, pivots: Tensor, losses: Sequence[float]) -> Tensor:
    """Return the direction of the path at a pivot, of length 1: towards the neighbour of higher loss, mixed at an extremum."""
    before, after = (_unit(pivots[place + 1] - pivots[place]) for place in (index - 1, index))
    lower, here, upper = losses[index - 1 : index + 2]
    if lower <= here <= upper:
        return after
    if lower >= here >= upper:
        return before
    rises = sorted((abs(here - lower), abs(here - upper)))
    small, large = rises if upper > lower else rises[::-1]
    return _unit(small * before + large * after)


def redistributed(pivots: Tensor, spacing: Tensor) -> Tensor:
    """Return the pivots at their shares of the path's length, moved along it."""
    lengths = _lengths(pivots)
    ends = lengths.cumsum(0)
    wanted = (spacing.cumsum(0) / spacing.sum() * ends[-1])[:-1]
    segments = torch.searchsorted(ends, wanted).clamp(max=len(lengths) - 1)
    shares = (wanted - (ends - lengths)[segments]) / lengths[segments].clamp(min=1e-30)
    moved = pivots.clone()
    moved[1:-1] = torch.lerp(pivots[segments], pivots[segments + 1], shares.unsqueeze(1))
    return moved


def with_new_pivots(band: Band, losses: Sequence[float | None], num_between: int = NUM_BETWEEN) -> Band:
    """Return the band with up to `MAX_NEW_PIVOTS` more, where the loss bulges most between two of its own.

    Args:
        band: A band.
        losses: Loss at each of `places_of(band, num_between)`; None is above all.
        num_between: Number of places between two pivots.
    """
    known = [math.inf if loss is None else loss for loss in losses]
    stride = num_between + 1
    at_pivots = [loss for loss in known[::stride] if math.isfinite(loss)]
    scale = max(at_pivots, default=0.0) - min(at_pivots, default=0.0) + 1e-12
    bulges = []
    for index in range(len(band.pivots) - 1):
        first, last = known[index * stride], known[(index + 1) * stride]
        found = [
            ((known[index * stride + number] - first - number / stride * (last - first)) / scale, number / stride)
            for number in range(1, stride)
        ]
        highest, share = max(found, key=lambda item: -math.inf if math.isnan(item[0]) else item[0])
        bulges.append((highest, index, share))
    chosen = {index: share for highest, index, share in sorted(bulges)[-MAX_NEW_PIVOTS:] if highest > DEVIATION}
    pivots, spacing = [band.pivots[0]], []
    for index, length in enumerate(band.spacing):
        if index in chosen:
            pivots.append(torch.lerp(band.pivots[index], band.pivots[index + 1], chosen[index]))
            spacing += [chosen[index] * length, (1 - chosen[index]) * length]
        else:
            spacing.append(length)
        pivots.append(band.pivots[index + 1])
    return Band(pivots=torch.stack(pivots), spacing=torch.stack(spacing))


def _lengths(pivots: Tensor) -> Tensor:
    lengths: Tensor = torch.diff(pivots, dim=0).norm(dim=1)
    return lengths


def _unit(direction: Tensor) -> Tensor:
    unit: Tensor = direction / direction.norm().clamp(min=1e-30)
    return unit
