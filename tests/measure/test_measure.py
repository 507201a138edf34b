"""Counting and timing networks."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from timm.models.byobnet import MobileOneBlock
from timm.models.levit import ConvNorm
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from naxcli.errors import NaxcliError
from naxcli.measure import counts as measure
from naxcli.measure import stable_timing as timing_module
from naxcli.measure.stable_timing import LARGEST_SPREAD, Timing, time_until_stable
from naxcli.search_space.contract import Space, load_space
from naxcli.search_space.networks import build_network, usual_image_size, variant_names
from naxcli.search_space.sizes import measure_config, width_for_target

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
    assert measure.count_macs(layer, (6, 8, 8)) == multiply_adds


def test_matrix_products_in_a_forward_pass_are_counted() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2)  # (1, 6, 64)
            return tokens @ tokens.transpose(1, 2)

    assert measure.count_macs(Attention(), (6, 8, 8)) == 6 * 64 * 6


def test_counting_leaves_the_network_as_it_was() -> None:
    network = build_network(SPACE, NEXCEPTION, num_classes=5, in_channels=1, image_size=8, width=0.1)
    network.stages[0].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    measure.count_macs(network, (1, 8, 8))
    assert [module.training for module in network.modules()] == modes
    after = network.state_dict()
    assert all(after[name].device.type == "cpu" and torch.equal(after[name], tensor) for name, tensor in before.items())


def test_counting_works_in_half_precision() -> None:
    assert measure.count_macs(nn.Conv2d(2, 2, 1).bfloat16(), (2, 4, 4)) == 64


@pytest.mark.parametrize(
    ("variant", "num_params", "flops"),
    [("T", 24_544_976, 4_600_086_016), ("S", 43_386_944, 8_402_354_752), ("TP", 26_559_112, 4_319_870_208)],
)
def test_configurations_are_measured_without_memory_for_weights(variant: str, num_params: int, flops: int) -> None:
    measured = measure_config(SPACE, NEXCEPTION, num_classes=1000, in_channels=3, image_size=224, variant=variant)
    assert measured == {"num_params": num_params, "flops": flops}


def test_meta_and_real_networks_measure_the_same() -> None:
    network = build_network(SPACE, NEXCEPTION, num_classes=5, in_channels=1, image_size=16, width=0.2)
    measured = measure_config(SPACE, NEXCEPTION, num_classes=5, in_channels=1, image_size=16, width=0.2)
    assert measured == {
        "num_params": measure.num_params(network),
        "flops": measure.count_macs(network, (1, 16, 16)),
    }


def make_space(build: object) -> Space:
    return Space(name="made", configspace=lambda seed: None, build=build)  # type: ignore[arg-type,return-value]


def test_a_builder_that_reads_values_of_tensors_is_measured_all_the_same() -> None:
    def build(config: object, **_: object) -> nn.Module:
        return nn.Conv2d(3, int(torch.tensor([4, 5]).sum().item()), 1)

    measured = measure_config(make_space(build), {}, num_classes=2, in_channels=3, image_size=8)
    assert measured == {"num_params": 36, "flops": 8 * 8 * 27}


def test_the_mistake_of_a_builder_is_raised() -> None:
    def build(config: object, **_: object) -> nn.Module:
        raise RuntimeError("the builder is wrong")

    with pytest.raises(RuntimeError, match="the builder is wrong"):
        measure_config(make_space(build), {}, num_classes=2, in_channels=3, image_size=8)


def test_spaces_without_networks_and_unknown_variants_are_refused() -> None:
    table = Space(name="table", configspace=lambda seed: None, evaluate=lambda config, **_: 0.0)  # type: ignore[arg-type,return-value]
    with pytest.raises(NaxcliError, match="makes no networks"):
        build_network(table, {}, num_classes=2, in_channels=3, image_size=8)
    with pytest.raises(NaxcliError, match="no variant 'XXL'"):
        build_network(SPACE, NEXCEPTION, variant="XXL", num_classes=2, in_channels=3, image_size=8)
    with pytest.raises(NaxcliError, match="built a str"):
        build_network(make_space(lambda config, **_: "net"), {}, num_classes=2, in_channels=3, image_size=8)


def test_a_cuda_toolkit_without_a_gpu_is_not_warned_of(tmp_path: Path) -> None:
    environment = {**os.environ, "CUDA_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", "import naxcli.measure.counts"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert "CUDA" not in done.stderr


def test_variants_name_their_usual_image_size() -> None:
    assert variant_names(SPACE) == ("reduced", "T", "S", "TP")
    assert usual_image_size(SPACE, "reduced", NEXCEPTION) is None
    assert usual_image_size(SPACE, "TP", NEXCEPTION) == 224


def test_a_slower_network_has_a_higher_latency() -> None:
    small, large = nn.Conv2d(3, 8, 1), nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3))
    assert 0 < measure.latency_ms(small, (3, 8, 8)) < measure.latency_ms(large, (3, 64, 64))


def test_latency_is_measured_in_evaluation_mode_which_is_left_again() -> None:
    class Noting(nn.Module):
        modes: ClassVar[set[bool]] = set()

        def forward(self, x: Tensor) -> Tensor:
            self.modes.add(self.training or torch.is_grad_enabled())
            return x

    network = Noting()
    measure.latency_ms(network, (3, 8, 8))
    assert network.modes == {False} and network.training


class Work:
    """A call that takes the next of these seconds on a clock of its own; the last ones again and again."""

    def __init__(self, *seconds: float) -> None:
        self.now, self.seconds, self.num_calls = 0.0, itertools.cycle(seconds), 0

    def __call__(self) -> None:
        self.now += next(self.seconds)
        self.num_calls += 1

    def time(self, **limits: float) -> Timing:
        return time_until_stable(self, timer=lambda: self.now, **{"min_seconds": 1.0, "max_seconds": 5.0, **limits})


def test_calls_that_agree_are_repeated_for_the_least_time() -> None:
    work = Work(0.25)
    timing = work.time()
    assert (timing.seconds, timing.spread, timing.num_repetitions) == (0.25, 0.0, 4)
    assert work.num_calls == 5  # the first warms up


def test_a_few_slow_calls_do_not_move_the_median_and_are_waited_for() -> None:
    timing = Work(0.1, 0.1, 2.0, 2.0, *[0.1] * 100).time(max_seconds=10)
    assert timing.seconds == pytest.approx(0.1)
    assert timing.spread <= LARGEST_SPREAD


def test_calls_that_never_agree_are_given_up_and_known_as_unstable() -> None:
    timing = Work(0.0035, 0.642).time()
    assert timing.num_repetitions * 0.32 == pytest.approx(5, rel=0.2)
    assert timing.spread > LARGEST_SPREAD
    assert "spreads over" in dataclasses.replace(timing, load=0.0).why_unstable


def test_a_call_that_is_too_slow_for_the_time_is_made_once_after_the_warm_up() -> None:
    timing = Work(30.0).time()
    assert (timing.seconds, timing.num_repetitions) == (30.0, 1)


CALM = Timing(seconds=1.0, spread=0.05, num_repetitions=9, num_threads=2, num_cpus=4, load=0.3)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"load": None}, ""),
        ({"spread": 0.1}, ""),
        ({"load": 2.3}, ""),  # 1.7 CPUs are left for two threads
        ({"load": 2.5}, "other processes kept 2.5 of 4 CPUs busy"),
        ({"spread": 0.2}, "9 repetitions spreads over 20% of their median (10% at most)"),
        ({"spread": float("nan")}, "spreads over nan%"),
    ],
    ids=str,
)
def test_a_median_is_trusted_where_repetitions_agree_on_a_machine_with_cpus_to_spare(
    changes: dict[str, float], why: str
) -> None:
    assert why in dataclasses.replace(CALM, **changes).why_unstable
    assert bool(dataclasses.replace(CALM, **changes).why_unstable) == bool(why)


@pytest.mark.skipif(sys.platform != "linux", reason="the load is read from Linux's /proc")
def test_the_load_is_that_of_other_processes_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # user, nice, system, idle, waiting, two kinds of interrupts, stolen, guests (who count as users already)
    stat = tmp_path / "stat"
    monkeypatch.setattr(timing_module, "_STAT_FILE", stat)
    ticks = os.sysconf("SC_CLK_TCK")
    numbers = [100, 10, 20, 5000, 300, 3, 4, 5, 50, 0]
    stat.write_text("cpu  " + " ".join(str(n * ticks) for n in numbers) + "\ncpu0 1 2 3\n")
    monkeypatch.setattr(time, "process_time", lambda: 42.0)
    assert timing_module._cpu_seconds_of_others() == 100 + 10 + 20 + 3 + 4 + 5 - 42
    stat.unlink()
    assert timing_module._cpu_seconds_of_others() is None


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from Linux's /proc")
def test_peak_memory_sees_an_allocation_that_is_gone_again() -> None:
    # A process of its own: the peak of this one depends on the tests before.
    code = """
import torch
from timm.models.byobnet import MobileOneBlock
from timm.models.levit import ConvNorm
from naxcli.measure.memory import PeakMemory
memory = PeakMemory("cpu"); before = memory.read()
torch.ones(100_000_000 // 4); print(memory.read() - before)
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
    assert measure.count_macs(network, (1, 16, 16)) == counter.get_total_flops() // 2


@pytest.mark.parametrize(("target", "number"), [("target_params", 1e6), ("target_flops", 100e6)])
def test_a_target_size_is_met_within_two_percent(target: str, number: float) -> None:
    sizes: dict[str, int] = {"num_classes": 100, "in_channels": 3, "image_size": 32}
    width = width_for_target(SPACE, NEXCEPTION, **sizes, **{target: number})  # type: ignore[arg-type]
    measured = measure_config(SPACE, NEXCEPTION, width=width, **sizes)
    size = measured["num_params" if target == "target_params" else "flops"]
    assert abs(size - number) <= 0.02 * number


def test_a_target_out_of_reach_names_the_nearest() -> None:
    def build(config: object, **_: object) -> nn.Module:
        return nn.Conv2d(1, 7, 1)

    sizes = {"num_classes": 5, "in_channels": 1, "image_size": 8}
    with pytest.raises(NaxcliError, match="no width gives variant reduced within 2%") as caught:
        width_for_target(make_space(build), {}, target_params=1000, **sizes)
    assert "the nearest is 14" in caught.value.why
    with pytest.raises(NaxcliError, match="either"):
        width_for_target(SPACE, NEXCEPTION, **sizes)


def test_a_layer_or_a_method_of_the_network_that_is_named_as_timms_way_to_fuse_is_no_block_of_branches() -> None:
    class Joining(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fuse = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.switch_to_deploy(self.fuse(x), 1.0)

        def switch_to_deploy(self, x: Tensor, factor: float) -> Tensor:
            return x * factor

    network = nn.Sequential(Joining(), nn.Conv2d(4, 2, 1))
    assert not measure.has_branches(network)
    assert measure.single_branch_form(network) is network
    assert measure.latency_ms(network, (3, 4, 4), max_seconds=0.01) > 0
    both = nn.Sequential(network, MobileOneBlock(2, 2, kernel_size=3, num_conv_branches=2))
    single = measure.single_branch_form(both)
    assert measure.num_params(single) == measure.num_params(network) + 2 * 2 * 9 + 2 < measure.num_params(both)
    torch.testing.assert_close(single(images := torch.randn(1, 3, 4, 4)), both.eval()(images))


def test_a_block_that_fuses_into_another_layer_is_replaced_by_it() -> None:
    network = nn.Sequential(nn.Sequential(ConvNorm(3, 4)), nn.ReLU())
    single = measure.single_branch_form(network)
    assert [type(layer) for layer in single.modules()] == [nn.Sequential, nn.Sequential, nn.Conv2d, nn.ReLU]
    torch.testing.assert_close(single(images := torch.randn(1, 3, 4, 4)), network.eval()(images))
