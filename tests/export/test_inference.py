"""Folding normalizations and fusing branches: fewer layers, the same output."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from naxcli.errors import NaxcliError
from naxcli.export import ExportRequest, export_network
from naxcli.export.inference import inference_form
from naxcli.search_space.contract import load_space
from naxcli.search_space.networks import build_network

SPACE = load_space("nexception")
NEXCEPTION = dict(SPACE.reference["nexception"])


def num_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def with_statistics(network: nn.Module) -> nn.Module:
    """Return the network with statistics and scales that a fold must get right."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network.eval()


@pytest.mark.parametrize(
    ("changes", "num_left"),
    [({}, 1), ({"stem": "conv", "pooling": "conv"}, 0), ({"normalization": "layer", "activation": "celu"}, 1)],
    ids=str,
)
def test_norms_after_convolutions_disappear_and_the_output_stays(changes: dict[str, str], num_left: int) -> None:
    torch.manual_seed(0)
    network = build_network(SPACE, {**NEXCEPTION, **changes}, num_classes=5, in_channels=1, image_size=16, width=0.05)
    network = with_statistics(network)
    before = num_norms(network)
    folded = inference_form(network)
    images = torch.randn(3, 1, 17, 17)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images), atol=1e-4, rtol=1e-4)
    assert num_norms(folded) == num_left < before == num_norms(network)


class Branches(nn.Module):
    """Two branches in training, one convolution in inference, as in RepVGG."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.fused: nn.Conv2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x) if self.fused is None else self.fused(x)

    def reparameterize(self) -> None:
        self.fused = nn.Conv2d(2, 2, 1)
        self.fused.weight.data = self.a.weight.data + self.b.weight.data
        self.fused.bias.data = self.a.bias.data + self.b.bias.data
        del self.a, self.b


def test_blocks_that_know_how_become_one_branch() -> None:
    network = nn.Sequential(Branches(), nn.BatchNorm2d(2)).eval()
    fused = inference_form(network)
    images = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(fused(images), network(images))
    assert sum(isinstance(module, nn.Conv2d) for module in fused.modules()) == 1
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 2


class Shared(nn.Module):
    """A convolution that feeds a normalization and something else, and one that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
        self.twice, self.once = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y + self.once(self.twice(x)) + self.twice(y)


def test_layers_with_two_readers_are_left_alone() -> None:
    network = with_statistics(Shared())
    folded = inference_form(network)
    images = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(folded(images), network(images))
    assert num_norms(folded) == 2


def test_a_forward_that_depends_on_values_is_a_clear_error() -> None:
    class Choosy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) if x.mean() > 0 else x

    with pytest.raises(NaxcliError, match="cannot be followed"):
        inference_form(Choosy())


def test_a_folded_program_has_no_norms_and_equals_the_network(tmp_path: Path) -> None:
    settings = {"num_classes": 5, "in_channels": 1, "image_size": 8, "width": 0.05}
    config = {**NEXCEPTION, "stem": "conv"}
    request = ExportRequest(space=SPACE, config=config, format="torch", out=tmp_path / "net.pt2", fold=True, **settings)
    exported = export_network(request)
    program = torch.export.load(exported.files[0])
    assert exported.num_params == sum(parameter.numel() for parameter in program.parameters())
    assert not any("norm" in str(node.target) for node in program.graph.nodes if node.op == "call_function")
    with pytest.raises(NaxcliError, match="cannot fold"):
        ExportRequest(space=SPACE, config=config, format="python", out=tmp_path / "out", fold=True, **settings)
