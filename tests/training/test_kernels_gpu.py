"""The Triton kernels on a GPU: every way to the same values, networks and LAMB trained with them, in and out of a graph."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from naxcli.data.dataset import load_dataset
from naxcli.search_space.contract import load_space
from naxcli.settings.recipe import Recipe
from naxcli.training import step
from naxcli.training.kernels.choice import Choices, works_on
from naxcli.training.kernels.switch import switch_off, switch_on
from naxcli.training.loop import set_drop_path
from naxcli.training.optimizer import build_optimizer
from naxcli.training.step import EagerStep, GraphedStep, choose_step, holds_update
from tests.training.test_lamb import largest_difference
from tests.training.test_loop import QUICK, train_small

CUDA = torch.device("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not works_on(CUDA) if torch.cuda.is_available() else True, reason="needs a GPU, and Triton there"
    ),
]


@pytest.fixture(autouse=True)
def full_float32() -> None:
    step.set_float32_precision(Recipe(precision="float32"))


def shipped_network(width: float = 0.05, **choices: Any) -> nn.Module:
    space = load_space("nexception")
    assert space.build is not None
    torch.manual_seed(0)
    config = {**space.reference["nexception"], **choices}
    network = space.build(config, num_classes=10, in_channels=3, image_size=32, width=width)
    set_drop_path(network, 0.0)
    return network.to(CUDA).to(memory_format=torch.channels_last).train()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("size", "stride", "shape"), [(3, 1, (3, 70, 8, 8)), (5, 2, (2, 64, 16, 15)), (9, 1, (1, 6, 32, 32))]
)
def test_all_ways_of_every_direction_agree(size: int, stride: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    from naxcli.training.kernels.convolution import (
        Geometry,
        data_gradient_ways,
        forward_ways,
        weight_gradient_ways,
    )

    geometry = Geometry(stride=stride, padding=size // 2, dtype=dtype)
    images = torch.randn(shape, device=CUDA, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(shape[1], 1, size, size, device=CUDA)
    upstream = torch.randn_like(forward_ways(images, weight, geometry)["cudnn"]())
    for ways in (
        forward_ways(images, weight, geometry),
        data_gradient_ways(upstream, weight, images, geometry),
        weight_gradient_ways(images, upstream, weight, geometry),
    ):
        results = {name: way().double() for name, way in ways.items()}
        scale = results["cudnn"].abs().max()
        tolerance = 1e-4 if dtype == torch.float32 else 3e-2
        assert max(float((result - results["cudnn"]).abs().max() / scale) for result in results.values()) < tolerance


@pytest.mark.parametrize(
    "choices", [{}, {"normalization": "layer"}, {"kernel_size": 9, "block": "xception", "se": "no"}]
)
def test_a_network_with_all_kernels_computes_and_learns_what_it_does_without(
    choices: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    preferred = {"triton": 0.0, "fused": 0.0}
    monkeypatch.setattr(
        Choices, "fastest", lambda _, question, ways: min(ways, key=lambda name: preferred.get(name, 1.0))
    )
    plain = shipped_network(**choices)
    ours = copy.deepcopy(plain)
    assert switch_on(ours, CUDA)
    images, targets = torch.randn(8, 3, 32, 32, device=CUDA), torch.rand(8, 10, device=CUDA)
    images = images.contiguous(memory_format=torch.channels_last)
    losses = [EagerStep(network, Recipe(precision="float32"), CUDA)(images, targets) for network in (ours, plain)]
    switch_off(ours)
    assert torch.allclose(*losses, rtol=1e-4)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert (one.grad - other.grad).norm() <= 1e-2 * other.grad.norm() + 1e-6
    for one, other in zip(ours.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_what_is_fastest_is_measured_and_the_training_is_close_to_one_without_kernels() -> None:
    digits = load_dataset("digits", root="", split_seed=0, validation_fraction=0.2)
    recipe = dataclasses.replace(QUICK, precision="float32", optimizer="sgd", learning_rate=0.01)
    _, ours = train_small(digits, recipe, epochs=1, device="cuda")
    _, plain = train_small(digits, recipe, epochs=1, device="cuda", uses_kernels=False)
    assert ours.train_loss == pytest.approx(plain.train_loss, rel=1e-2)


def test_a_graph_with_lamb_takes_the_steps_of_eager_lamb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "_seconds", _graphs_are_faster)
    images, targets = torch.randn(8, 3, 32, 32, device=CUDA), torch.rand(8, 10, device=CUDA)
    images = images.contiguous(memory_format=torch.channels_last)
    recipe, networks = Recipe(precision="float32"), []
    for is_graphed in (True, False):
        network = shipped_network()
        optimizer = build_optimizer(network, recipe, has_kernels=is_graphed)
        taken: Any = EagerStep(network, recipe, CUDA)
        if is_graphed:
            taken = choose_step(taken, images, targets, num_steps=10**6, optimizer=optimizer)
            assert holds_update(taken)
        for number in range(4):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (number + 1)
            taken(images, targets)
            if not is_graphed:
                optimizer.step()
        assert {group["step"] for group in optimizer.param_groups} == {4}
        networks.append(network)
    assert largest_difference(*networks) < 1e-2


def _graphs_are_faster(taken: Any, images: torch.Tensor, targets: torch.Tensor) -> float:
    taken(images, targets)  # which changes what has to be put back
    return 0.0 if isinstance(taken, GraphedStep) else 1.0
