"""The paper's networks stated a second time, as functions over a flat list of weights, and held against the space's.

The statement shares no code with `spaces/nexception.py`: it reads the weights in order, so that a layer too many, one
out of order, another bias, stride or activation shows as a shape, an output, or a count that differs.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from naxcli.search_space.contract import load_space

SPACE = load_space("nexception")
NUM_CLASSES = 10


class PaperNetwork:
    """Runs the table of one variant on given weights, and notes the shape and the multiply-adds after each stage."""

    def __init__(self, variant: str, weights: list[Tensor]) -> None:
        self.variant = variant
        self.weights: Iterator[Tensor] = iter(weights)
        self.multiply_adds = 0
        self.stages: list[tuple[tuple[int, ...], int]] = []

    def take(self, *shape: int) -> Tensor:
        weight = next(self.weights)
        assert tuple(weight.shape) == shape
        return weight

    def conv(self, x: Tensor, c_out: int, k: int, *, stride: int = 1, pad: int = 0, bias: bool = False) -> Tensor:
        c_in = x.shape[1]
        x = F.conv2d(x, self.take(c_out, c_in, k, k), self.take(c_out) if bias else None, stride, pad)
        self.multiply_adds += x[0].numel() * c_in * k * k
        return x

    def sep(self, x: Tensor, c_out: int, k: int) -> Tensor:
        c_in = x.shape[1]
        x = F.conv2d(x, self.take(c_in, 1, k, k), padding=k // 2, groups=c_in)
        self.multiply_adds += x[0].numel() * k * k
        return self.conv(x, c_out, 1)

    def bn(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        scale, shift, mean, variance = (self.take(c) for _ in range(4))
        shape = (1, c, *[1] * (x.ndim - 2))
        return ((x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()) * scale.view(shape) + shift.view(shape)

    def blur(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=x.dtype) / 16
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel.expand(c, 1, 3, 3), stride=2, groups=c)
        self.multiply_adds += x[0].numel() * 9
        return x

    def squeeze_excite(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        hidden = max(8, (c // 16 + 4) // 8 * 8)
        gate = self.conv(x.mean((2, 3), keepdim=True), hidden, 1, bias=True)
        gate = self.conv(F.gelu(self.bn(gate)), c, 1, bias=True)
        return x * torch.sigmoid(gate)

    def downsample(self, x: Tensor, c_hidden: int, c_out: int) -> Tensor:
        branch = F.gelu(self.bn(self.sep(x, c_hidden, 5)))
        branch = self.bn(self.sep(branch, c_out, 5))
        branch = self.squeeze_excite(self.blur(F.max_pool2d(branch, 3, stride=1, padding=1)))
        return branch + self.bn(self.conv(x, c_out, 1, stride=2))

    def bottleneck(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        branch = F.gelu(self.bn(self.sep(x, 3 * c, 5)))
        branch = self.bn(self.sep(branch, c, 5))
        return self.squeeze_excite(self.sep(branch, c, 5)) + x

    def end_stage(self, x: Tensor) -> None:
        done = sum(multiply_adds for _, multiply_adds in self.stages)
        self.stages.append((tuple(x.shape), self.multiply_adds - done))

    def __call__(self, x: Tensor) -> Tensor:
        return self.pyramid(x) if self.variant == "TP" else self.three_flows(x, {"T": 512, "S": 752}[self.variant])

    def three_flows(self, x: Tensor, middle: int) -> Tensor:
        x = self.bn(F.gelu(self.conv(x, 96, 2, stride=2, bias=True)))
        self.end_stage(x)
        for c in (128, 256, middle):
            x = self.downsample(x, c, c)
            if c == middle:
                for _ in range(8):
                    x = self.bottleneck(x)
            self.end_stage(x)
        x = self.downsample(x, middle, 1024)
        for c in (1536, 2048):
            x = F.gelu(self.bn(self.sep(x, c, 3)))
        self.end_stage(x)
        return self.linear(x.mean((2, 3)))

    def pyramid(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x, 96, 4, stride=4, bias=True))
        self.end_stage(x)
        for c, depth in ((96, 3), (192, 4), (384, 9), (768, 3)):
            if c > 96:
                x = self.conv(self.bn(x), c, 2, stride=2, bias=True)
            for _ in range(depth):
                x = self.bottleneck(x)
            self.end_stage(x)
        return self.linear(self.bn(x.mean((2, 3))))

    def linear(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.take(NUM_CLASSES, x.shape[1]), self.take(NUM_CLASSES))
        assert next(self.weights, None) is None
        return x


def random_network(variant: str) -> nn.Module:
    """Return the space's network with weights and statistics that leave no layer without effect."""
    torch.manual_seed(0)
    network = SPACE.variant(variant).build(SPACE.reference["nexception"], num_classes=NUM_CLASSES, in_channels=3).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
    return network


def weights_of(network: nn.Module) -> list[Tensor]:
    return [tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")]


@pytest.mark.parametrize("variant", ["T", "S", "TP"])
def test_the_network_equals_the_papers_table_layer_by_layer(variant: str) -> None:
    network = random_network(variant)
    images = torch.randn(2, 3, 64, 64)
    stage_names = ["stem", *(f"stages.{index}" for index in range(4))]
    shapes: list[tuple[int, ...]] = []
    for name in stage_names:
        network.get_submodule(name).register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape)))
    paper = PaperNetwork(variant, weights_of(network))
    with torch.no_grad():
        expected = paper(images)
        with FlopCounterMode(display=False) as counter:
            actual = network(images)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    counted = counter.get_flop_counts()
    multiply_adds = [sum(counted[f"Network.{name}"].values()) // 2 // len(images) for name in stage_names]
    assert list(zip(shapes, multiply_adds, strict=True)) == paper.stages


def test_the_comparison_notices_a_swapped_layer() -> None:
    network = random_network("TP")
    network.stages[0][0].branch.act2 = nn.ELU()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = PaperNetwork("TP", weights_of(network))(images)
        assert not torch.allclose(network(images), expected, atol=1e-4, rtol=1e-4)
