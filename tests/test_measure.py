"""Counting and timing networks."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from naxcli import measure
from naxcli.errors import NaxcliError
from naxcli.networks import build_network, usual_image_size, variant_names
from naxcli.space import Space, load_space

SPACE = load_space("nexception")
NEXCEPTION = SPACE.reference["nexception"]


@pytest.mark.parametrize(
    ("layer", "multiply_adds"),
    [
        (nn.Conv2d(6, 4, 3, padding=1), 8 * 8 * 4 * 6 * 9),
        (nn.Conv2d(6, 12, 3, padding=1, groups=6), 8 * 8 * 12 * 9),
        (nn.Conv2d(6, 12, 3, padding=1, stride=2, groups=3), 4 * 4 * 12 * 2 * 9),
        (nn.Sequential(nn.Flatten(), nn.Linear(6 * 8 * 8, 5)), 6 * 8 * 8 * 5),
        (nn.BatchNorm2d(6), 0),
    ],
    ids=["dense", "depthwise", "grouped", "linear", "norm"],
)
def test_multiply_adds_equal_the_textbook_formula(layer: nn.Module, multiply_adds: int) -> None:
    assert measure.count_flops(layer, (6, 8, 8)) == multiply_adds


def test_matrix_products_in_a_forward_pass_are_counted() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2)  # (1, 6, 64)
            return tokens @ tokens.transpose(1, 2)

    assert measure.count_flops(Attention(), (6, 8, 8)) == 6 * 64 * 6


def test_counting_leaves_the_network_as_it_was() -> None:
    network = build_network(SPACE, NEXCEPTION, num_classes=5, in_channels=1, image_size=8, width=0.1)
    network.stages[0].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    measure.count_flops(network, (1, 8, 8))
    assert [module.training for module in network.modules()] == modes
    after = network.state_dict()
    assert all(after[name].device.type == "cpu" and torch.equal(after[name], tensor) for name, tensor in before.items())


def test_counting_works_in_half_precision() -> None:
    assert measure.count_flops(nn.Conv2d(2, 2, 1).bfloat16(), (2, 4, 4)) == 64


@pytest.mark.parametrize(
    ("variant", "num_params", "flops"),
    [("T", 24_544_976, 4_600_086_016), ("S", 43_386_944, 8_402_354_752), ("TP", 26_559_112, 4_319_870_208)],
)
def test_configurations_are_measured_without_memory_for_weights(variant: str, num_params: int, flops: int) -> None:
    measured = measure.measure_config(
        SPACE, NEXCEPTION, num_classes=1000, in_channels=3, image_size=224, variant=variant
    )
    assert measured == {"num_params": num_params, "flops": flops}


def test_meta_and_real_networks_measure_the_same() -> None:
    network = build_network(SPACE, NEXCEPTION, num_classes=5, in_channels=1, image_size=16, width=0.2)
    measured = measure.measure_config(SPACE, NEXCEPTION, num_classes=5, in_channels=1, image_size=16, width=0.2)
    assert measured == {
        "num_params": measure.num_params(network),
        "flops": measure.count_flops(network, (1, 16, 16)),
    }


def make_space(build: object) -> Space:
    return Space(name="made", configspace=lambda seed: None, build=build)  # type: ignore[arg-type,return-value]


def test_a_builder_that_reads_values_of_tensors_is_measured_all_the_same() -> None:
    def build(config: object, **_: object) -> nn.Module:
        return nn.Conv2d(3, int(torch.tensor([4, 5]).sum().item()), 1)

    measured = measure.measure_config(make_space(build), {}, num_classes=2, in_channels=3, image_size=8)
    assert measured == {"num_params": 36, "flops": 8 * 8 * 27}


def test_the_mistake_of_a_builder_is_raised() -> None:
    def build(config: object, **_: object) -> nn.Module:
        raise RuntimeError("the builder is wrong")

    with pytest.raises(RuntimeError, match="the builder is wrong"):
        measure.measure_config(make_space(build), {}, num_classes=2, in_channels=3, image_size=8)


def test_spaces_without_networks_and_unknown_variants_are_refused() -> None:
    table = Space(name="table", configspace=lambda seed: None, evaluate=lambda config, **_: 0.0)  # type: ignore[arg-type,return-value]
    with pytest.raises(NaxcliError, match="makes no networks"):
        build_network(table, {}, num_classes=2, in_channels=3, image_size=8)
    with pytest.raises(NaxcliError, match="no variant 'XXL'"):
        build_network(SPACE, NEXCEPTION, variant="XXL", num_classes=2, in_channels=3, image_size=8)
    with pytest.raises(NaxcliError, match="built a str"):
        build_network(make_space(lambda config, **_: "net"), {}, num_classes=2, in_channels=3, image_size=8)


def test_variants_name_their_usual_image_size() -> None:
    assert variant_names(SPACE) == ("reduced", "T", "S", "TP")
    assert usual_image_size(SPACE, "reduced") is None
    assert usual_image_size(SPACE, "TP") == 224


def test_a_slower_network_has_a_higher_latency() -> None:
    small, large = nn.Conv2d(3, 8, 1), nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3))
    assert 0 < measure.latency_ms(small, (3, 8, 8)) < measure.latency_ms(large, (3, 64, 64), num_repetitions=5)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from Linux's /proc")
def test_peak_memory_sees_an_allocation_that_is_gone_again() -> None:
    # A process of its own: the peak of this one depends on the tests before.
    code = """
import torch
from naxcli.measure import peak_memory_bytes, reset_peak_memory
reset_peak_memory("cpu"); before = peak_memory_bytes("cpu")
torch.ones(100_000_000 // 4); print(peak_memory_bytes("cpu") - before)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 95e6 < int(output) < 200e6


@pytest.mark.parametrize("activation", ["relu", "gelu", "elu", "celu"])
@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_the_count_equals_that_of_torchs_own_counter(activation: str, normalization: str) -> None:
    config = {**NEXCEPTION, "activation": activation, "normalization": normalization}
    network = build_network(SPACE, config, num_classes=5, in_channels=1, image_size=16, width=0.05).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.randn(1, 1, 16, 16))
    assert measure.count_flops(network, (1, 16, 16)) == counter.get_total_flops() // 2


@pytest.mark.parametrize(("target", "number"), [("target_params", 1e6), ("target_flops", 100e6)])
def test_a_target_size_is_met_within_two_percent(target: str, number: float) -> None:
    sizes: dict[str, int] = {"num_classes": 100, "in_channels": 3, "image_size": 32}
    width = measure.width_for_target(SPACE, NEXCEPTION, **sizes, **{target: number})  # type: ignore[arg-type]
    measured = measure.measure_config(SPACE, NEXCEPTION, width=width, **sizes)
    size = measured["num_params" if target == "target_params" else "flops"]
    assert abs(size - number) <= 0.02 * number


def test_a_target_out_of_reach_names_the_nearest() -> None:
    def build(config: object, **_: object) -> nn.Module:
        return nn.Conv2d(1, 7, 1)

    sizes = {"num_classes": 5, "in_channels": 1, "image_size": 8}
    with pytest.raises(NaxcliError, match="no width gives variant reduced within 2%") as caught:
        measure.width_for_target(make_space(build), {}, target_params=1000, **sizes)
    assert "the nearest is 14" in caught.value.why
    with pytest.raises(NaxcliError, match="either"):
        measure.width_for_target(SPACE, NEXCEPTION, **sizes)
