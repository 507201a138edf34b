"""LAMB's kernels against timm's LAMB in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import timm.optim
import torch
from torch import Tensor, nn

from naxcli.training.kernels import lamb
from naxcli.training.kernels.lamb import FusedLamb, can_fuse
from naxcli.training.lamb import Lamb


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lamb, "_BLOCK", 32)  # several a parameter


def parameters(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    """Return a depthwise weight with channels last, a matrix, a bias, and a weight that is zero."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 1, 3, 3), (5, 7), (5,), (3, 2)]
    found = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    found[0] = found[0].contiguous(memory_format=torch.channels_last)
    found[3].zero_()
    return [nn.Parameter(tensor) for tensor in found]


def groups_of(given: list[nn.Parameter]) -> list[dict[str, object]]:
    return [
        {"params": [p for p in given if p.ndim > 1], "weight_decay": 0.02},
        {"params": [p for p in given if p.ndim <= 1], "weight_decay": 0.0},
    ]


def gradients(step: int, given: list[nn.Parameter]) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(step)
    for parameter in given:
        yield torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype) * 3


def take_steps(optimizer: torch.optim.Optimizer, given: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (step + 1)
        for parameter, gradient in zip(given, gradients(step, given), strict=True):
            parameter.grad = gradient
        optimizer.step()


def largest_difference(one: list[nn.Parameter], other: list[nn.Parameter]) -> float:
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_steps_with_changing_learning_rates_are_timms(max_grad_norm: float) -> None:
    ours, theirs = parameters(), parameters()
    take_steps(FusedLamb(groups_of(ours), lr=0.1, max_grad_norm=max_grad_norm), ours, range(2))
    take_steps(timm.optim.Lamb(groups_of(theirs), lr=0.1, max_grad_norm=max_grad_norm or None), theirs, range(2))
    assert largest_difference(ours, theirs) < 1e-9
    assert largest_difference(ours[:3], parameters()[:3]) > 1e-2  # they did move


def test_float32_is_as_close_as_float32_allows() -> None:
    ours, theirs = parameters(torch.float32), parameters()
    take_steps(FusedLamb(groups_of(ours), lr=0.1), ours, range(2))
    take_steps(timm.optim.Lamb(groups_of(theirs), lr=0.1, max_grad_norm=1.0), theirs, range(2))
    assert largest_difference(ours, theirs) < 1e-5


def test_its_state_continues_in_lamb_and_lambs_in_it() -> None:
    results = []
    for first_kind, second_kind in ((Lamb, Lamb), (FusedLamb, Lamb), (Lamb, FusedLamb)):
        given = parameters()
        first = first_kind(groups_of(given), lr=0.1)
        take_steps(first, given, range(1))
        second = second_kind(groups_of(given), lr=0.1)
        second.load_state_dict(first.state_dict())
        take_steps(second, given, range(1, 2))
        results.append(given)
    assert max(largest_difference(given, results[0]) for given in results[1:]) < 1e-9


def test_what_a_graph_holds_follows_learning_rate_step_and_gradients_that_change_in_place() -> None:
    ours, theirs = parameters(), parameters()
    optimizer = FusedLamb(groups_of(ours), lr=0.1)
    for parameter, gradient in zip(ours, gradients(0, ours), strict=True):
        parameter.grad = gradient
    optimizer.prepare()
    optimizer.note_gradients()  # once, as for a graph
    for step in range(2):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (step + 1)
        for parameter, gradient in zip(ours, gradients(step, ours), strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(gradient)
        optimizer.begin_step()
        with torch.no_grad():
            optimizer.step_in_graph()
    take_steps(Lamb(groups_of(theirs), lr=0.1), theirs, range(2))
    assert largest_difference(ours, theirs) < 1e-9


def test_gradients_in_another_order_of_memory_and_missing_ones_are_met() -> None:
    ours, theirs = parameters(), parameters()
    for given, optimizer in ((ours, FusedLamb(groups_of(ours), lr=0.1)), (theirs, Lamb(groups_of(theirs), lr=0.1))):
        given[1].grad = torch.arange(35.0, dtype=torch.float64).view(7, 5).t()
        optimizer.step()
        given[2].grad = torch.ones(5, dtype=torch.float64)  # from now on it has one
        optimizer.step()
    assert largest_difference(ours[:3], theirs[:3]) < 1e-9


def test_a_loss_that_is_not_a_number_shows_in_the_parameters() -> None:
    given = parameters()
    for parameter in given:
        parameter.grad = torch.full_like(parameter, float("nan"))
    FusedLamb(groups_of(given), lr=0.1).step()
    assert all(parameter.isnan().all() for parameter in given)


def test_it_is_for_dense_float32_parameters_on_one_device() -> None:
    plain = nn.Parameter(torch.ones(3, 2))
    assert can_fuse([plain, nn.Parameter(torch.ones(3))])
    for other in (torch.ones(2, dtype=torch.float64), torch.ones(2, device="meta"), torch.ones(4, 4)[:, ::2]):
        assert not can_fuse([plain, nn.Parameter(other)])
    assert not can_fuse([])
