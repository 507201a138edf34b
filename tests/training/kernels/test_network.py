"""Networks trained with the kernels: what joins them, and that everything else stays."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from timm.layers import DropPath, SqueezeExcite
from torch import Tensor, nn

from naxcli.search_space.contract import load_space
from naxcli.training.kernels.convolution import FusedConvolution
from naxcli.training.kernels.modules import KernelConv2d, PassedBatchNorm2d, PassedModule, ScalingDropPath
from naxcli.training.kernels.network import restore_modules, use_kernels
from tests.training.kernels.ways import always

KERNELS = ("fused", "triton")


def depthwise(channels: int, size: int = 3, **arguments: object) -> nn.Conv2d:
    defaults: dict[str, object] = {"padding": size // 2, "groups": channels, "bias": False}
    return nn.Conv2d(channels, channels, size, **{**defaults, **arguments})  # type: ignore[arg-type]


class Block(nn.Module):
    """A residual block as the shipped spaces write it, in few channels."""

    def __init__(self, activation: nn.Module, *, drop: float = 0.5) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.BatchNorm2d(3), activation, nn.Sequential(depthwise(3), nn.Conv2d(3, 3, 1)))
        self.se = SqueezeExcite(3, rd_channels=2)
        self.drop_path = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop_path(self.se(self.branch(x))) + x


def classes(network: nn.Module) -> list[type]:
    return [type(module) for module in network.modules()]


def after_a_step(network: nn.Module) -> list[Tensor]:
    """Return output, gradients and buffers of a training step."""
    torch.manual_seed(3)
    images = torch.randn(2, 3, 4, 3).double().requires_grad_()
    output = network(images)
    output.square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert images.grad is not None
    found = [output, images.grad, *gradients, *network.buffers()]
    return [tensor.detach().double() for tensor in found if tensor is not None]


def assert_same(one: list[Tensor], other: list[Tensor], tolerance: float) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize(
    ("activation", "names"),
    [
        (nn.GELU(), KERNELS),
        (nn.GELU(), ("modules", "triton")),
        (nn.ReLU(inplace=True), KERNELS),
        (nn.CELU(), KERNELS),
    ],
    ids=str,
)
def test_a_block_computes_and_trains_as_before(activation: nn.Module, names: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(Block(activation)).double().train()
    ours = copy.deepcopy(plain)
    use_kernels(ours, always(*names))
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert_same(after_a_step(ours), after_a_step(plain), 1e-9)
    assert_same(
        list(ours.eval()(torch.ones(1, 3, 4, 4).double())), list(plain.eval()(torch.ones(1, 3, 4, 4).double())), 1e-9
    )


def test_a_block_under_autocast_is_the_plain_one_within_bfloat16() -> None:
    torch.manual_seed(0)
    plain = Block(nn.GELU(), drop=0.0).train()
    ours = copy.deepcopy(plain)
    use_kernels(ours, always(*KERNELS))
    images = torch.randn(2, 3, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, expected = ours(images), plain(images)
    assert output.dtype == expected.dtype
    assert_same([output.detach()], [expected.detach()], 0.05)


def test_modules_come_back_as_they_were_and_copies_use_kernels_of_their_own() -> None:
    plain = nn.Sequential(Block(nn.GELU())).train()
    network = copy.deepcopy(plain)
    use_kernels(network, always(*KERNELS))
    duplicate = copy.deepcopy(network)
    convolution = duplicate[0].branch[2][0]
    assert convolution.kernel_before == (duplicate[0].branch[0], duplicate[0].branch[1])
    assert duplicate[0].branch[0].kernel_user is convolution
    restore_modules(network)
    assert classes(network) == classes(plain)
    assert not [
        name
        for module in network.modules()
        for name in module.__dict__
        if name in ("kernel_choices", "kernel_before", "kernel_user")
    ]


class UsesTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act, self.conv, self.drop_path = nn.BatchNorm2d(2), nn.ReLU(), depthwise(2), DropPath(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(x))
        z = self.drop_path(self.conv(y))
        return (z + y) * z


class LooksAtValues(UsesTwice):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.act(self.norm(x)))
        return y + x if y.sum() > 0 else y


def shared_activation() -> nn.Module:
    act = nn.ReLU()
    return nn.Sequential(act, depthwise(2), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), act)


@pytest.mark.parametrize(
    "make",
    [
        UsesTwice,
        LooksAtValues,
        shared_activation,
        lambda: nn.Sequential(nn.ReLU(inplace=True), depthwise(2)),
        lambda: nn.Sequential(nn.GELU(approximate="tanh"), depthwise(2)),
        lambda: nn.Sequential(nn.ELU(0.5), depthwise(2)),
        lambda: nn.Sequential(nn.BatchNorm2d(2, momentum=None), depthwise(2)),
        lambda: nn.Sequential(nn.SyncBatchNorm(2), depthwise(2)),
        lambda: nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3)),
    ],
)
def test_what_others_see_or_the_kernel_cannot_compute_is_left_alone(make: Callable[[], nn.Module]) -> None:
    network = make().train()
    use_kernels(network, always(*KERNELS))
    assert not [module for module in network.modules() if isinstance(module, PassedModule | ScalingDropPath)]


@pytest.mark.parametrize(
    "module",
    [
        depthwise(4, 1),
        depthwise(4, 11),
        depthwise(4, dilation=2),
        depthwise(4, padding="same"),
        depthwise(4, padding_mode="reflect"),
        depthwise(4, stride=(1, 2)),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Conv2d(4, 4, 3),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(module: nn.Conv2d) -> None:
    use_kernels(module, always(*KERNELS))
    assert type(module) is nn.Conv2d


def test_large_maps_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.GELU(), depthwise(2)).train()
    plain = copy.deepcopy(network)
    use_kernels(network, always(*KERNELS))
    monkeypatch.setattr(FusedConvolution, "apply", lambda *_: pytest.fail("a kernel was used"))
    images = torch.randn(1, 2, 33, 4)
    assert torch.allclose(network(images), plain(images), atol=1e-6)


def test_a_frozen_normalization_keeps_its_statistics() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.GELU(), depthwise(2, bias=True)).double().train()
    network[0].running_mean.fill_(0.5)
    network[0].eval()
    plain = copy.deepcopy(network)
    use_kernels(network, always(*KERNELS))
    assert type(network[0]) is PassedBatchNorm2d
    images = torch.randn(2, 2, 3, 3).double()
    assert torch.allclose(network(images), plain(images), atol=1e-9)
    assert torch.equal(network[0].running_mean, plain[0].running_mean)


def test_every_convolution_of_the_shipped_networks_that_can_be_joined_is() -> None:
    space = load_space("nexception")
    assert space.build is not None
    network = space.build(
        space.reference["nexception"], num_classes=3, in_channels=3, image_size=16, width=0.02
    ).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    use_kernels(network, always(*KERNELS))
    found = [module for module in network.modules() if isinstance(module, KernelConv2d)]
    # Two of the entry block, three of each middle block, two of the exit block, two after it.
    assert len(found) == 2 + 4 * 3 + 2 + 2
    # Behind each first normalization of a block stands an activation; behind each second one a convolution where there is a third.
    assert len([module for module in found if module.kernel_before]) == 1 + 4 * 2 + 1 + 1
    assert sum(isinstance(module, ScalingDropPath) for module in network.modules()) == 6
    assert list(network.state_dict()) == list(before)
    restore_modules(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_measuring_changes_no_statistics() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), depthwise(2)).train()
    plain = copy.deepcopy(network)
    calls = []

    def measured(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
        for name, way in ways.items():
            way()
            calls.append(name)
        return dict.fromkeys(ways, 0.0)

    choices = always()
    choices._measure = measured  # type: ignore[assignment]
    use_kernels(network, choices)
    images = torch.randn(2, 2, 3, 3)
    network(images)
    plain(images)
    assert {"modules", "fused"} <= set(calls)
    assert torch.allclose(network[0].running_mean, plain[0].running_mean)
    assert network[0].num_batches_tracked == 1
    assert all(parameter.grad is None for parameter in network.parameters())
