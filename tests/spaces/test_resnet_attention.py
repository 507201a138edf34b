"""Residual networks with attention: the papers' counts, and that each choice matters."""

from __future__ import annotations

import pytest
import torch

from naxcli.search_space.contract import load_space
from naxcli.search_space.networks import build_network
from naxcli.search_space.sizes import measure_config

SPACE = load_space("resnet_attention")
RESNET_18 = dict(SPACE.reference["resnet_18"])
SMALL = {"num_classes": 5, "in_channels": 1, "image_size": 16, "width": 0.125}


@pytest.mark.parametrize(
    ("depth", "attention", "num_params", "multiply_adds"),
    [
        (18, "none", 11_689_512, 1_814_073_344),
        (18, "cbam", 11_777_352, 1_815_063_764),
        (50, "se", 28_088_024, None),
        (50, "cbam", 28_073_576, None),  # the paper's has biases in its channel attention
        (50, "none", 25_557_032, None),
    ],
)
def test_full_networks_have_the_published_sizes(
    depth: int, attention: str, num_params: int, multiply_adds: int | None
) -> None:
    config = {"depth": depth, "attention": attention, "convolution": "plain"}
    measured = measure_config(SPACE, config, num_classes=1000, in_channels=3, image_size=224, variant="full")
    assert measured["num_params"] == num_params
    assert multiply_adds in (None, measured["flops"])


def test_every_choice_changes_the_network() -> None:
    sizes = {tuple(measure_config(SPACE, RESNET_18, **SMALL).values())}
    others = [{"depth": 34}, {"depth": 50}, {"attention": "se"}, {"attention": "cbam"}]
    others += [{"convolution": "dilated"}, {"convolution": "deformable"}]
    for change in others:
        sizes.add(tuple(measure_config(SPACE, RESNET_18 | change, **SMALL).values()))
    assert len(sizes) == 1 + len(others)


@pytest.mark.parametrize("depth", [18, 50])
def test_deformable_convolutions_begin_as_plain_ones(depth: int) -> None:
    outputs = []
    images = torch.randn(2, 1, 32, 32)
    for convolution in ("plain", "deformable"):
        torch.manual_seed(0)
        config = RESNET_18 | {"depth": depth, "convolution": convolution}
        network = build_network(SPACE, config, variant="full", num_classes=5, in_channels=1, image_size=32, width=0.125)
        network.eval()
        outputs.append(network.forward_features(images))
    torch.testing.assert_close(outputs[0], outputs[1])


def test_offsets_of_deformable_convolutions_learn() -> None:
    network = build_network(SPACE, RESNET_18 | {"convolution": "deformable"}, **SMALL)
    for block in network.layer4:
        torch.nn.init.ones_(block.bn2.weight)  # which timm begins with 0, so that nothing reaches the branch at first
    network(torch.randn(4, 1, 16, 16)).square().mean().backward()
    gradients = [weight.grad for name, weight in network.named_parameters() if ".offset." in name]
    assert len(gradients) == 8 and any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_the_count_of_a_deformable_convolution_is_that_of_a_plain_one_and_of_its_offsets() -> None:
    plain = measure_config(SPACE, RESNET_18, **SMALL)["flops"]
    deformable = measure_config(SPACE, RESNET_18 | {"convolution": "deformable"}, **SMALL)["flops"]
    # Four convolutions of the last stage, whose maps have 2 x 2 pixels, predict 18 numbers from 3 x 3 x channels each.
    assert deformable - plain == 4 * 2 * 2 * 18 * 9 * sum((32, 64, 64, 64)) // 4
