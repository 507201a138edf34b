from __future__ import annotations

import pytest
import timm.optim
import torch
from torch import nn

from naxcli.settings.recipe import Recipe
from naxcli.training.lamb import Lamb
from naxcli.training.optimizer import build_optimizer


def small_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 5, groups=16, bias=False),
        nn.Conv2d(16, 24, 1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


def take_steps(network: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int, *, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        images = torch.randn(4, 3, 8, 8, generator=generator).to(next(network.parameters()).dtype) * 5
        optimizer.zero_grad(set_to_none=True)
        network(images).square().mean().backward()
        optimizer.step()


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    pairs = [(a.detach(), b.detach()) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in pairs)


def groups_of(network: nn.Module) -> list[dict[str, object]]:
    return [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 0.02},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]


@pytest.mark.parametrize(
    ("memory_format", "buffer_elements"),
    [(torch.contiguous_format, 500), (torch.channels_last, 1), (torch.channels_last, 1 << 17)],
)
def test_lamb_equals_timms_over_100_steps(
    memory_format: torch.memory_format, buffer_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("naxcli.training.lamb._CPU_BUFFER_ELEMENTS", buffer_elements)
    ours, theirs = small_network().double(), small_network().double()
    ours.to(memory_format=memory_format)
    take_steps(ours, build_optimizer(ours, Recipe()), 100)
    take_steps(theirs, timm.optim.Lamb(groups_of(theirs), lr=2e-3, max_grad_norm=1.0), 100)
    assert largest_difference(ours, theirs) < 1e-6
    assert largest_difference(ours, small_network().double()) > 1e-2  # they did move


def test_lamb_in_float32_is_as_close_to_timms_as_float32_allows() -> None:
    ours, theirs = small_network(), small_network()
    take_steps(ours, build_optimizer(ours, Recipe()), 10)
    take_steps(theirs, timm.optim.Lamb(groups_of(theirs), lr=2e-3, max_grad_norm=1.0), 10)
    assert largest_difference(ours, theirs) < 1e-4


def test_one_dimensional_parameters_have_neither_decay_nor_trust_ratio() -> None:
    network = small_network()
    decayed, others = build_optimizer(network, Recipe(weight_decay=0.5)).param_groups
    assert {parameter.ndim for parameter in others["params"]} == {1}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)

    bias = nn.Parameter(torch.full((4,), 100.0))
    optimizer = Lamb([{"params": [bias], "weight_decay": 0.0}], lr=0.1, max_grad_norm=0)
    bias.grad = torch.ones(4)
    optimizer.step()
    # Adam's first step is the learning rate itself; a trust ratio would make it 100 / 2 times as long.
    assert bias.detach() == pytest.approx(torch.full((4,), 99.9), abs=1e-4)


def test_a_parameter_without_gradient_stays() -> None:
    used, unused = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    optimizer = Lamb([used, unused], lr=0.1)
    used.grad = torch.ones(3, 3)
    optimizer.step()
    assert not torch.equal(used, torch.ones(3, 3))
    assert torch.equal(unused, torch.ones(3, 3))
    unused.grad = torch.ones(3, 3)  # from now on it has one: its moments join the others'
    optimizer.step()
    assert not torch.equal(unused, torch.ones(3, 3))


def test_the_gradients_are_left_as_they_are() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.full((2, 2), 1e3)
    Lamb([weight], lr=0.1, max_grad_norm=1.0).step()
    assert torch.equal(weight.grad, torch.full((2, 2), 1e3))


@pytest.mark.parametrize("name", ["lamb", "adamw", "sgd"])
def test_saved_and_loaded_state_continues_bit_for_bit(name: str) -> None:
    recipe = Recipe(optimizer=name)
    straight = small_network()
    optimizer = build_optimizer(straight, recipe)
    take_steps(straight, optimizer, 3)
    take_steps(straight, optimizer, 4, seed=1)

    broken = small_network()
    first = build_optimizer(broken, recipe)
    take_steps(broken, first, 3)
    second = build_optimizer(broken, recipe)
    second.load_state_dict(first.state_dict())
    take_steps(broken, second, 4, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), broken.parameters(), strict=True))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_other_optimizers_clip_the_gradients_norm_too(name: str) -> None:
    network = small_network()
    optimizer = build_optimizer(network, Recipe(optimizer=name, max_grad_norm=0.5))
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    optimizer.step()
    norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    assert norm.item() == pytest.approx(0.5, rel=1e-3)
