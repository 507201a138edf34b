"""ReXNet's channel configurations: the paper's widths and sizes, and the published networks out of the same builder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch

from naxcli.measure.counts import count_macs, num_params
from naxcli.search.feasibility import Feasibility, NetworkShape
from naxcli.search_space.contract import load_space, plain_config
from naxcli.search_space.networks import build_network
from naxcli.search_space.sizes import measure_config
from naxcli.settings.experiment import from_settings
from naxcli.settings.sources import find_experiment_file
from naxcli.settings.toml import read_toml
from naxcli.settings.units import parse_count

SPACE = load_space("rexnet")
MODULE = sys.modules[SPACE.build.__module__]
CIFAR_100 = {"num_classes": 100, "in_channels": 3, "image_size": 32}
BEST = dict(SPACE.reference["best_9"])
# Experiment -> reference within its limits, parameters and multiply-adds of the setting in millions.
SETTINGS = {
    "rexnet-5-30m": ("straight", 0.2, 30),
    "rexnet-9-100m": ("best_9", 0.5, 100),
    "rexnet-9-200m": ("straight_1m", 1.0, 200),
    "rexnet-13-300m": ("straight", 3.0, 300),
}


def test_the_best_widths_of_the_paper_are_a_straight_line_of_the_space() -> None:
    assert MODULE.channels(BEST) == (24, 33, 42, 50, 59, 68, 77, 85, 94)
    assert SPACE.default_config() == BEST


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_has_a_straight_line_of_its_size_within_its_limits(name: str) -> None:
    experiment = from_settings(read_toml(find_experiment_file(name)), has_networks=True)
    space, (reference, millions, multiply_adds) = load_space(experiment.space), SETTINGS[name]
    config = dict(space.reference[reference])
    assert experiment.repeats == 3 and str(experiment.fidelity) == "30" and experiment.trials == 3 * 200
    assert name.startswith(f"rexnet-{config['blocks']}-")
    measured = measure_config(space, config, **CIFAR_100)
    assert round(measured["num_params"] / 1e6, 1) == millions
    assert measured["flops"] / 1e6 == pytest.approx(multiply_adds, rel=0.1)
    allows = Feasibility(space, experiment.limits, width=experiment.width, shape=NetworkShape(**CIFAR_100))
    assert allows(config)
    assert not allows(config | {"rise": 320}) and not allows(config | {"first_width": 8, "rise": 8})


def test_a_penultimate_width_of_1280_does_not_have_the_papers_parameters() -> None:
    network = build_network(SPACE, BEST, **CIFAR_100)
    wider = MODULE.BottleneckNetwork(
        MODULE.channels(BEST),
        halved_before=(4, 7),
        num_classes=100,
        in_channels=3,
        stem_width=16,
        stem_stride=1,
        penultimate_width=1280,
    )
    assert [round(num_params(each) / 1e6, 2) for each in (network, wider)] == [0.52, 0.64]


@pytest.mark.parametrize(
    ("multiplier", "num_millions", "giga_multiply_adds"),
    [(1.0, 4.797, 0.398), (1.3, 7.557, 0.662), (1.5, 9.729, 0.876), (2.0, 16.367, 1.529)],
)
def test_rexnet_has_the_published_sizes(multiplier: float, num_millions: float, giga_multiply_adds: float) -> None:
    network = MODULE.rexnet(multiplier)
    assert round(num_params(network) / 1e6, 3) == num_millions
    assert round(count_macs(network, (3, 224, 224)) / 1e9, 3) == giga_multiply_adds


def test_mobilenet_v2_has_the_published_size() -> None:
    network = MODULE.mobilenet_v2()
    assert num_params(network) == 3_504_872
    assert round(count_macs(network, (3, 224, 224)) / 1e9, 3) == 0.301


@pytest.mark.parametrize(("own", "name"), [("rexnet", "rexnet_100"), ("mobilenet_v2", "mobilenetv2_100")])
def test_the_published_networks_compute_what_those_of_timm_do(own: str, name: str) -> None:
    torch.manual_seed(0)
    published = timm.create_model(name, num_classes=7).eval()
    network = getattr(MODULE, own)(num_classes=7).eval()
    # Both name the same weights in the same order.
    values = zip(network.state_dict(), published.state_dict().values(), strict=True)
    network.load_state_dict(dict(values))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), published(images))


@pytest.mark.parametrize("name", ["rexnet", "rexnet_5", "rexnet_13"])
def test_widths_never_fall_and_begin_and_end_as_chosen(name: str) -> None:
    for configuration in load_space(name).configuration_space(seed=0).sample_configuration(200):
        config = plain_config(configuration)
        widths = MODULE.channels(config)
        assert len(widths) == config["blocks"]
        assert list(widths) == sorted(widths)
        assert (widths[0], widths[-1] - widths[0]) == (config["first_width"], config["rise"])


def test_slopes_are_flat_stages_and_straight_pieces() -> None:
    stairs = BEST | {"first_width": 16, "rise": 96, "slope_1": 0, "slope_2": 1, "slope_3": 0, "slope_4": 2}
    assert MODULE.channels(stairs) == (16, 16, 16, 32, 48, 48, 48, 80, 112)


def test_every_hyperparameter_changes_the_network_but_slopes_of_one_ratio_are_one() -> None:
    changes = [{}, {"first_width": 25}, {"rise": 71}, *({f"slope_{number}": 2} for number in (1, 2, 3, 4))]
    sizes = {tuple(measure_config(SPACE, BEST | change, **CIFAR_100).values()) for change in changes}
    assert len(sizes) == len(changes)
    doubled = BEST | {f"slope_{number}": 3 for number in (1, 2, 3, 4)}
    assert SPACE.canonicalise(doubled) == BEST
    assert MODULE.channels(doubled) == MODULE.channels(BEST)


def test_the_shortcut_adds_the_input_to_the_first_channels_of_a_wider_output() -> None:
    network = build_network(SPACE, BEST, **CIFAR_100, width=0.25).eval()
    block = network.features[1]
    assert block.in_channels < block.out_channels
    torch.nn.init.zeros_(block.conv_pwl.bn.weight)
    images = torch.randn(2, block.in_channels, 8, 8)
    out = block(images)
    torch.testing.assert_close(out[:, : block.in_channels], images)
    assert not out[:, block.in_channels :].any()


PAGE = (Path(__file__).parents[2] / "docs" / "rexnet.md").read_text(encoding="utf-8")


def rows_of(page: str, first: str) -> list[list[str]]:
    """Return the cells of a table's rows, of the table whose first heading is given."""
    lines = page[page.index(f"| {first} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_says_the_sizes_of_the_settings_and_of_the_published_networks() -> None:
    settings = rows_of(PAGE, "experiment")
    assert [row[0] for row in settings] == list(SETTINGS)
    for name, space_name, params, multiply_adds, widths, sizes in settings:
        experiment = from_settings(read_toml(find_experiment_file(name)), has_networks=True)
        assert experiment.space == space_name
        limits, space = experiment.limits, load_space(space_name)
        band = [limits.min_params, limits.max_params, limits.min_flops, limits.max_flops]
        said = [parse_count(end, what=name) for text in (params, multiply_adds) for end in text.split(" to ")]
        assert said == band
        config = space.reference[SETTINGS[name][0]]
        assert widths == "-".join(map(str, MODULE.channels(config)))
        measured = measure_config(space, config, **CIFAR_100)
        assert sizes == f"{measured['num_params']:,} and {measured['flops'] / 1e6:.1f}M"
    for network, params, multiply_adds in rows_of(PAGE, "network"):
        name, _, argument = network.rstrip(")").partition("(")
        built = getattr(MODULE, name)(*([float(argument)] if argument else []))
        assert params == f"{num_params(built):,}"
        assert multiply_adds == f"{count_macs(built, (3, 224, 224)) / 1e9:.3f}G"
