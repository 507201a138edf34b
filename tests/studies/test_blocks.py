"""Which modules are blocks, and what a network is without one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from naxcli.errors import NaxcliError
from naxcli.search_space.contract import load_space, shipped_spaces
from naxcli.studies.blocks import Block, deleted, find_blocks


class Residual(nn.Module):
    """A convolution around which the input, or a projection of it, passes."""

    def __init__(self, channels: int, out: int, *, in_place: bool = False) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch(x)
        if self.in_place:
            out += self.shortcut(x)
            return out
        return self.shortcut(x) + out


class TwoAdditions(nn.Module):
    """A block as those of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(x)
        return x + self.second(x)


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def residual_network(*blocks: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    stem, head = nn.Conv2d(3, 4, 3, padding=1), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(5))
    network = nn.Sequential(stem, *blocks, head).eval()
    network(images())
    return network


@torch.no_grad()
def without(network: nn.Module, block: Block) -> Tensor:
    with deleted(network, block):
        output: Tensor = network(images())
    return output


@torch.no_grad()
def test_without_a_block_the_network_is_the_one_that_was_built_without_it() -> None:
    network = residual_network(
        Residual(4, 4), Residual(4, 4, in_place=True), Residual(4, 6), nn.Conv2d(6, 4, 1), TwoAdditions()
    )
    whole = network(images())
    blocks = find_blocks(network, images())
    assert [(block.name, block.kind) for block in blocks] == [
        ("1", "identity"),
        ("2", "identity"),
        ("3", "projection"),
        ("5", "identity"),
    ]
    for block in blocks:
        stays = network[3].shortcut if block.name == "3" else nn.Identity()
        built = nn.Sequential(*(stays if name == block.name else part for name, part in network.named_children()))
        assert torch.equal(without(network, block), built(images())), block.name
        assert not torch.equal(without(network, block), whole), block.name
    assert torch.equal(network(images()), whole)


def test_a_block_that_is_the_identity_is_not_missed() -> None:
    network = residual_network(Residual(4, 4), Residual(4, 4))
    for parameter in network[2].branch.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        whole = network(images())
    first, second = find_blocks(network, images())
    assert torch.equal(without(network, second), whole)
    assert not torch.equal(without(network, first), whole)


def test_what_adds_no_shortcut_is_no_block() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bias = nn.Conv2d(4, 4, 1), nn.Parameter(torch.ones(1, 4, 8, 8))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = (self.conv(x) + self.bias[:1]) * x
            return out

    found = find_blocks(residual_network(Residual(4, 4), Gate()), images())
    assert [block.name for block in found] == ["1"]


def test_a_module_whose_output_has_more_channels_than_its_sum_is_no_residual_block() -> None:
    class Wider(nn.Module):
        """Adds its input to as many channels as it has, as ReXNet does."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 1)

        def forward(self, x: Tensor) -> Tensor:
            out = self.conv(x)
            return torch.cat([out[:, :4] + x, out[:, 4:]], dim=1)

    network = residual_network(Residual(4, 4), Wider())
    assert [block.name for block in find_blocks(network, images())] == ["1"]
    with pytest.raises(NaxcliError, match="'2' cannot be deleted"):
        find_blocks(network, images(), ["2"])


def test_of_a_network_without_shortcuts_blocks_are_the_modules_that_keep_their_shape() -> None:
    def unit(channels: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())

    network = residual_network(nn.Sequential(unit(4), unit(4)), nn.Conv2d(4, 8, 3, stride=2), unit(8))
    blocks = find_blocks(network, images())
    assert [(block.name, block.kind) for block in blocks] == [("1.0", "module"), ("1.1", "module"), ("3", "module")]
    built = nn.Sequential(network[0], network[1][1], *network[2:])
    with torch.no_grad():
        assert torch.equal(without(network, blocks[0]), built(images()))


def test_a_space_may_name_the_blocks_and_is_told_which_cannot_be_deleted() -> None:
    network = residual_network(Residual(4, 4), Residual(4, 6))
    declared = find_blocks(network, images(), ["1.branch", "2"])
    assert [(block.name, block.kind) for block in declared] == [("1.branch", "module"), ("2", "projection")]
    with pytest.raises(NaxcliError, match=r"'2\.branch' cannot be deleted"):
        find_blocks(network, images(), ["2.branch"])
    with pytest.raises(NaxcliError, match="'nowhere' is not in the network"):
        find_blocks(network, images(), ["nowhere"])


def test_a_block_of_a_space_that_passes_two_states_leaves_the_first_of_them() -> None:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, states: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return self.conv(states[0]) + states[1], states[0]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.Sequential(Cell(), Cell())

        def forward(self, x: Tensor) -> Tensor:
            current, previous = self.cells((x, 2 * x))
            return torch.stack([current, previous])

    network = Network().eval()
    first, second = find_blocks(network, images(), ["cells.0", "cells.1"])
    assert (first.kind, second.kind) == ("module", "module")
    with torch.no_grad():
        middle, _ = network.cells[0]((images(), 2 * images()))
    assert torch.equal(without(network, second), torch.stack([middle, middle]))


# At a width that gives some neighbouring stages the same channels.
NUM_BLOCKS = {
    "efficientnet": 18,
    "mobileone": 36,
    "mobileone_swiftformer": 17,
    "nasnet": 3,
    "nexception": 6,
    "nexception_recipe": 6,
    "resnet_attention": 16,
    "rexnet": 4,
    "rexnet_5": 2,
    "rexnet_13": 6,
}


@pytest.mark.parametrize("name", shipped_spaces())
def test_the_blocks_of_the_spaces_that_ship_are_those_of_the_space_and_can_be_deleted(name: str) -> None:
    space = load_space(name)
    config = dict(space.default_config())
    if name.startswith("rexnet"):  # flat where its default rises everywhere, in the first half
        config |= {"slope_1": 0, "slope_2": 0}
    if name == "resnet_attention":
        config = dict(space.reference["seresnet_50"])
    torch.manual_seed(0)
    network = space.build(config, num_classes=3, in_channels=3, image_size=16, width=0.06).eval()
    batch = torch.randn(2, 3, 16, 16)
    found = find_blocks(network, batch, space.blocks_of(network))
    assert len(found) == NUM_BLOCKS[name], [(block.name, block.kind) for block in found]
    with torch.no_grad():
        whole = network(batch)
    for block in found:
        with torch.no_grad(), deleted(network, block):
            less = network(batch)
        assert less.shape == whole.shape and less.isfinite().all() and block.num_params > 0


def test_the_blocks_of_nexception_and_of_resnets_are_their_residual_ones() -> None:
    nexception = load_space("nexception")
    network = nexception.build(nexception.default_config(), num_classes=3, in_channels=3, image_size=16, width=0.06)
    found = find_blocks(network.eval(), torch.zeros(1, 3, 16, 16))
    expected = {
        name: {"MiddleBlock": "identity", "DownsamplingBlock": "projection"}[type(module).__name__]
        for name, module in network.named_modules()
        if type(module).__name__ in ("MiddleBlock", "DownsamplingBlock")
    }
    assert {block.name: block.kind for block in found} == expected and len(expected) > 4
    resnet = load_space("resnet_attention")
    network = resnet.build(resnet.reference["seresnet_50"], num_classes=3, in_channels=3, image_size=16, width=0.06)
    found = find_blocks(network.eval(), torch.zeros(1, 3, 16, 16))
    assert len(found) == 3 + 4 + 6 + 3
    assert [block.name for block in found if block.kind == "projection"] == [
        f"layer{stage}.0" for stage in (1, 2, 3, 4)
    ]
