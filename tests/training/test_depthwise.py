from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from naxcli.training import depthwise
from naxcli.training.depthwise import FastDepthwiseConv2d, restore_convolutions, speed_up_depthwise

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or depthwise.platform.machine() not in depthwise._MACHINES,
    reason="used with oneDNN on x86 only",
)


def depthwise_conv(channels: int, size: int, **arguments: object) -> nn.Conv2d:
    torch.manual_seed(0)
    defaults: dict[str, object] = {"padding": size // 2, "groups": channels, "bias": False}
    return nn.Conv2d(channels, channels, size, **{**defaults, **arguments})  # type: ignore[arg-type]


def gradients(module: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    images = images.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
    output = module(images)
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    (output * weights).sum().backward()
    assert images.grad is not None
    return [output.detach(), images.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    "shape", [(4, 24, 8, 8), (3, 7, 4, 5), (2, 16, 16, 16), (5, 3, 2, 2), (2, 5, 1, 3), (3, 4, 1, 1)], ids=str
)
@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_values_and_gradients_are_those_of_the_plain_convolution(
    size: int, shape: tuple[int, ...], with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depthwise, "_MIN_ELEMENTS", 0)
    monkeypatch.setattr(depthwise, "_CHUNK_BYTES", 4000)  # several chunks, the last one smaller
    plain = depthwise_conv(shape[1], size, bias=with_bias)
    fast = copy.deepcopy(plain)
    speed_up_depthwise(fast)
    assert type(fast) is FastDepthwiseConv2d
    images = torch.randn(shape)
    for ours, expected in zip(gradients(fast, images), gradients(plain, images), strict=True):
        assert ours.shape == expected.shape
        assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "module",
    [
        depthwise_conv(4, 1),
        depthwise_conv(4, 5, stride=2),
        depthwise_conv(4, 5, dilation=2, padding=4),
        depthwise_conv(4, 5, padding=0),
        depthwise_conv(4, 5, padding_mode="reflect"),
        nn.Conv2d(4, 8, 5, padding=2, groups=4),
        nn.Conv2d(4, 4, 5, padding=2),
        nn.Conv2d(1, 1, 5, padding=2),
        nn.Conv2d(4, 4, (5, 7), padding=(2, 3), groups=4),
    ],
)
def test_other_convolutions_are_left_alone(module: nn.Conv2d) -> None:
    speed_up_depthwise(module)
    assert type(module) is nn.Conv2d


def test_parameters_names_and_copies_stay_and_the_change_is_undone() -> None:
    network = nn.Sequential(depthwise_conv(4, 5), nn.ReLU())
    before = network.state_dict()
    speed_up_depthwise(network)
    duplicate = copy.deepcopy(network)
    assert type(duplicate[0]) is FastDepthwiseConv2d
    assert {name: id(value) for name, value in network.state_dict(keep_vars=True).items()} == {
        name: id(dict(network.named_parameters())[name]) for name in before
    }
    restore_convolutions(network)
    assert type(network[0]) is nn.Conv2d
    assert torch.equal(network(torch.ones(1, 4, 6, 6)), duplicate(torch.ones(1, 4, 6, 6)))


@pytest.mark.parametrize("needs", ["images", "weight"])
def test_only_the_gradients_asked_for_are_computed(needs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, "_MIN_ELEMENTS", 0)
    module = depthwise_conv(4, 5)
    speed_up_depthwise(module)
    module.weight.requires_grad_(needs == "weight")
    images = torch.randn(2, 4, 6, 6, requires_grad=needs == "images")
    module(images).sum().backward()
    assert (images.grad is not None, module.weight.grad is not None) == (needs == "images", needs == "weight")


def test_autocast_and_inference_use_the_plain_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, "_MIN_ELEMENTS", 0)
    monkeypatch.setattr(depthwise._StripDepthwise, "apply", lambda *_: pytest.fail("strips were used"))
    module = depthwise_conv(4, 5)
    speed_up_depthwise(module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(torch.randn(2, 4, 6, 6)).dtype == torch.bfloat16
    with torch.no_grad():
        module(torch.randn(2, 4, 6, 6))
