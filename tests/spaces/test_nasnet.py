"""NASNet's space: its size, timm's output for the same weights, and searches of a space so large."""

from __future__ import annotations

import dataclasses
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from timm.layers.pool2d_same import AvgPool2dSame
from timm.models.nasnet import NASNetALarge
from torch import nn

from naxcli.measure.counts import num_params
from naxcli.search_space.contract import load_space
from naxcli.search_space.enumeration import count_configurations, enumerate_configurations, sample_configs
from naxcli.search_space.networks import build_network
from naxcli.search_space.sizes import without_memory
from naxcli.searchers import FidelityRange, make_searcher
from naxcli.settings.choices import SEARCHERS

SPACE = load_space("nasnet")
NASNET_A = dict(SPACE.reference["nasnet_a"])
FILE = sys.modules[SPACE.configspace.__module__]
CATALOGUE = Path(__file__).parent.parent.parent / "docs" / "space-catalogue.md"
SMALL = {"num_classes": 3, "in_channels": 1, "image_size": 8, "width": 0.1}


def test_a_cell_has_as_many_choices_as_the_papers_drawing_and_the_space_is_not_enumerated() -> None:
    of_a_cell = (2 * 3 * 4 * 5 * 6) ** 2 * (13**2 * 2) ** 5
    assert of_a_cell == pytest.approx(2.29e18, rel=2e-3)
    configuration_space = SPACE.configuration_space()
    assert count_configurations(configuration_space) == of_a_cell**2
    assert f"{of_a_cell**2:,}" in CATALOGUE.read_text()
    assert enumerate_configurations(configuration_space) is None


def test_no_depth_of_the_larger_network_for_cifar_has_the_papers_count() -> None:
    """N = 7 is in the catalogue's table."""

    def built() -> int:
        network = FILE.small_images(NASNET_A, repeats=6, filters=96, num_classes=10, in_channels=3, width=1.0)
        return num_params(network)

    assert round(without_memory(built) / 1e6, 1) == 28.2  # 27.6 in the paper


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    tensors, names = source.state_dict().values(), target.state_dict()
    target.load_state_dict(dict(zip(names, tensors, strict=True)))


def shapes_of(module: nn.Module) -> list[torch.Size]:
    return [tensor.shape for tensor in module.state_dict().values()]


def copy_cell(source: nn.Module, target: nn.Module) -> None:
    """Copy a cell of timm's, in which the halves of a block may be exchanged."""
    copy_weights(source.conv_1x1, target.current)
    if hasattr(source, "path_1"):
        copy_weights(nn.ModuleList([source.path_1, source.path_2, source.final_path_bn]), target.previous)
    elif hasattr(source, "conv_prev_1x1"):
        copy_weights(source.conv_prev_1x1, target.previous)
    for number, block in enumerate(target.blocks):
        halves = [getattr(source, f"comb_iter_{number}_{side}", nn.Identity()) for side in ("left", "right")]
        for half in (block.left, block.right):
            if shapes := shapes_of(half):
                (same,) = [one for one in halves if shapes_of(one) == shapes]
                copy_weights(same, half)


def test_nasnet_a_does_what_timms_does_with_the_same_weights() -> None:
    torch.manual_seed(0)
    published = NASNetALarge(num_classes=7, stem_size=10, num_features=24 * 16)
    for name, module in list(published.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            for tensor, (low, high) in {module.weight: (0.5, 1.5), module.running_var: (0.5, 1.5)}.items():
                nn.init.uniform_(tensor, low, high)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
        elif isinstance(module, AvgPool2dSame):  # the border is averaged with zeros in timm, but not in the original
            published.set_submodule(name, nn.AvgPool2d(3, 2, padding=1, count_include_pad=False))
    network = FILE.large_images(
        NASNET_A,
        repeats=6,
        filters=16,
        stem_channels=10,
        num_classes=7,
        in_channels=3,
        width=1.0,
        passes_previous=True,
    )
    copy_weights(published.conv0, network.stem)
    cells = [getattr(published, name) for name in published.layer_names[1:]]
    for source, target in zip(cells, chain.from_iterable(network.stages), strict=True):
        copy_cell(source, target)
    copy_weights(published.last_linear, network.head.fc)
    images = torch.randn(2, 3, 67, 67)  # maps of odd sides, on which both pad alike
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), published.eval()(images))


def test_the_halves_of_a_block_can_be_exchanged() -> None:
    first, second = "normal_2_input_1", "normal_2_input_2"
    config = NASNET_A | {first: "block_1", second: "current", "normal_2_operation_1": "identity"}
    exchanged = config | {
        first: config[second],
        second: config[first],
        "normal_2_operation_1": config["normal_2_operation_2"],
        "normal_2_operation_2": config["normal_2_operation_1"],
    }
    assert exchanged != config
    assert SPACE.canonicalise(exchanged) == SPACE.canonicalise(config) == exchanged
    assert SPACE.canonicalise(NASNET_A) == NASNET_A


def test_a_cell_concatenates_what_no_block_transforms() -> None:
    normal, reduction = FILE.cell_design(NASNET_A, "normal"), FILE.cell_design(NASNET_A, "reduction")
    names = FILE.STATES
    assert [names[state] for state in FILE.output_states(normal, is_reduction=False)] == [
        "previous",
        *(f"block_{number}" for number in range(1, 6)),
    ]
    # The second block's output is used by an identity; the first one's is pooled.
    assert [names[state] for state in FILE.output_states(reduction, is_reduction=True)] == [
        f"block_{number}" for number in range(2, 6)
    ]
    lonely = NASNET_A | {f"reduction_{number}_input_{half}": "previous" for number in range(1, 6) for half in (1, 2)}
    kept = FILE.output_states(FILE.cell_design(lonely, "reduction"), is_reduction=True)
    assert names[kept[0]] == "current" and "previous" not in [names[state] for state in kept]


@pytest.mark.parametrize("operation", FILE.OPERATIONS)
def test_every_operation_changes_channels_and_halves_maps_of_any_size(operation: str) -> None:
    for channels, stride in ((4, 1), (6, 2), (4, 2)):
        layers = nn.Sequential(*FILE.operation(operation, 4, channels, stride))
        for side in (1, 7, 8):
            assert layers(torch.randn(2, 4, side, side)).shape == (2, channels, -(-side // stride), -(-side // stride))


@pytest.mark.parametrize("kind", ["normal", "reduction"])
def test_every_choice_of_a_block_changes_its_cell(kind: str) -> None:
    def identity(config: dict[str, object]) -> tuple[object, ...]:
        torch.manual_seed(0)
        cell = FILE.Cell(
            FILE.cell_design(config, kind),
            4,
            current_channels=6,
            previous_channels=6,
            is_reduction=kind == "reduction",
            previous_is_finer=False,
            passes_previous=False,
            drop_path_scale=0.0,
        )
        with torch.no_grad():
            current, _ = cell((torch.randn(1, 6, 8, 8), torch.randn(1, 6, 8, 8)))
        return str(cell), tuple(current.flatten().tolist())

    published = identity(NASNET_A)
    changes = {
        name: [value for value in hyperparameter.choices if value != NASNET_A[name]]
        for name, hyperparameter in SPACE.configuration_space().items()
        if name.startswith(kind)
    }
    assert len(changes) == 25
    for name, values in changes.items():
        assert values and all(identity(NASNET_A | {name: value}) != published for value in values), name


def test_any_sampled_cells_make_a_network_all_of_whose_weights_learn() -> None:
    for config in sample_configs(SPACE.configuration_space(), 6, seed=1):
        network = build_network(SPACE, config, **SMALL)
        network(torch.randn(2, 1, 8, 8)).square().mean().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_searcher_copes_with_a_space_that_cannot_be_enumerated(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("naxcli.searchers.smac.NUM_TREES", 4)
    for setting, value in {"NUM_MEMBERS": 3, "NUM_UNITS": 16, "FITTING_STEPS": 15}.items():
        monkeypatch.setattr(f"naxcli.searchers.deep_ensemble.{setting}", value)
    monkeypatch.setattr("naxcli.searchers.acquisition.NUM_SAMPLES", 100)
    # The ensemble would measure hundreds of networks first.
    space = dataclasses.replace(SPACE, build=None, evaluate=lambda *_, **__: 0.0, variants={})
    searcher = make_searcher(
        name,
        space=space,
        configuration_space=SPACE.configuration_space(seed=0),
        fidelity=FidelityRange(min=1, max=1),
        seed=0,
    )
    seen = []
    for _ in range(14):
        suggestion = searcher.ask()
        assert suggestion is not None
        seen.append(suggestion.config)
        cost = sum(value == "identity" for value in suggestion.config.values()) / 20
        searcher.tell(suggestion, cost=cost)
    assert len({str(config) for config in seen}) == 14
    assert all(SPACE.canonicalise(config) == config for config in seen)
