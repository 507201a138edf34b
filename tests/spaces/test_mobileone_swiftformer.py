"""The space between MobileOne and SwiftFormer: how many networks it has, and that timm's are its ends."""

from __future__ import annotations

import timm
import torch
from torch import nn

from naxcli.export.inference import inference_form
from naxcli.measure.counts import num_params, single_branch_form
from naxcli.search_space.contract import load_space
from naxcli.search_space.enumeration import enumerate_configurations
from naxcli.search_space.networks import build_network
from naxcli.search_space.sizes import without_memory

SPACE = load_space("mobileone_swiftformer")
FULL = {"variant": "full", "num_classes": 10, "in_channels": 3, "image_size": 64}


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    tensors, names = source.state_dict().values(), target.state_dict()
    target.load_state_dict(dict(zip(names, tensors, strict=True)))


def randomise_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)


def test_both_parents_do_what_timms_networks_do_with_the_same_weights() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    for name in SPACE.reference:
        published = timm.create_model(name, num_classes=10).eval()
        randomise_norms(published)
        network = build_network(SPACE, SPACE.reference[name], **FULL).eval()
        with torch.no_grad():
            expected = published(images)
            if name == "swiftformer_xs":  # its two classifiers are averaged
                for one, other in zip(published.head.parameters(), published.head_dist.parameters(), strict=True):
                    one.copy_((one + other) / 2)
                published.head_dist = nn.Identity()
            copy_weights(published, network)
            torch.testing.assert_close(network(images), expected)
        assert num_params(network) == num_params(published) == {"mobileone_s0": 4_278_522}.get(name, 3_035_570)


def test_timms_parent_has_a_second_classifier_more() -> None:
    """The catalogue's table has the parent without."""
    assert without_memory(lambda: num_params(timm.create_model("swiftformer_xs"))) == 3_475_360


def test_the_space_has_20736_configurations_and_11520_networks() -> None:
    table = enumerate_configurations(SPACE.configuration_space())
    assert table is not None and len(table) == 20_736
    names = {tuple(SPACE.canonicalise(table.config(row)).values()) for row in range(len(table))}
    assert len(names) == 11_520
    for config in SPACE.reference.values():
        assert SPACE.canonicalise(config) == config


def test_attention_replaces_the_last_blocks_of_a_stage_whatever_they_are() -> None:
    small = {"num_classes": 3, "in_channels": 1, "image_size": 16, "width": 0.1}
    for block in ("swiftformer", "mobileone", "mobileone_se"):
        for attention, number in {"none": 0, "last_1": 1, "last_2": 2, "all": 99}.items():
            config = SPACE.reference["mobileone_s0"] | {"block_2": block, "attention_2": attention}
            stage = build_network(SPACE, config, **small).stages[1]
            depth = 3 if block == "swiftformer" else 8
            blocks = list(stage)[-depth:]
            assert [hasattr(one, "attn") for one in blocks] == [index >= depth - number for index in range(depth)]


def test_a_mixed_network_is_the_same_function_for_inference() -> None:
    torch.manual_seed(0)
    config = SPACE.reference["swiftformer_xs"] | {
        "block_1": "mobileone_se",
        "attention_1": "all",
        "block_4": "mobileone",
    }
    network = build_network(SPACE, config, num_classes=3, in_channels=1, image_size=16, width=0.1).eval()
    randomise_norms(network)
    images = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected = network(images)
        for form in (single_branch_form(network), inference_form(network)):
            assert num_params(form) < num_params(network)
            torch.testing.assert_close(form(images), expected, atol=1e-4, rtol=1e-4)
