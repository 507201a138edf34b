"""MobileOne's space: the published network in both forms, the limits, and how many architectures keep them."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from torch import nn

from naxcli.errors import NaxcliError
from naxcli.export import ExportRequest
from naxcli.export.bundle import make_bundle
from naxcli.export.provenance import network_facts
from naxcli.measure.counts import latency_ms, num_params, single_branch_form
from naxcli.records.trial import Config
from naxcli.search.feasibility import Feasibility, NetworkShape
from naxcli.search_space.contract import load_space
from naxcli.search_space.enumeration import count_configurations, sample_configs
from naxcli.search_space.networks import build_network
from naxcli.search_space.sizes import measure_config
from naxcli.searchers.candidates import Candidates
from naxcli.settings.limits import Limits

SPACE = load_space("mobileone")
FILE = sys.modules[SPACE.configspace.__module__]
S0 = dict(SPACE.reference["mobileone_s0"])
# Of two blocks, too few for the space.
TINY = S0 | {"depth_1": 1, "depth_2": 0, "depth_3": 0, "depth_4": 1}
SMALL = {"num_classes": 4, "in_channels": 1, "image_size": 8, "width": 0.1}
SHAPE = NetworkShape(num_classes=10, in_channels=3, image_size=32)
Widths = npt.NDArray[np.float64]


def test_the_published_network_is_that_of_timm_and_has_its_counts_in_both_forms() -> None:
    network = build_network(SPACE, S0, variant="full", num_classes=10, in_channels=3, image_size=224)
    published = timm.create_model("mobileone_s0", num_classes=10)
    assert str(network) == str(published)
    assert num_params(network) == 4_278_522
    single = single_branch_form(network)
    assert num_params(single) == 1_063_754 and num_params(network) == 4_278_522
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(single(images), network.eval()(images), atol=1e-4, rtol=1e-4)


def test_the_counts_of_the_limits_are_those_of_built_networks() -> None:
    for config in sample_configs(SPACE.configuration_space(), 20, seed=0):
        depths = [int(config[f"depth_{number}"]) for number in range(1, 5)]
        if sum(depths) > 12 or depths.count(0) > 2:  # not quickly built, or with fewer stages than timm builds
            continue
        measured = measure_config(
            SPACE, config, num_classes=10, in_channels=3, image_size=32, variant="full", is_inference=True
        )
        assert FILE.inference_params(config) == measured["num_params"]


def params_of(depths: tuple[int, ...], widths: Widths, *, has_se: bool) -> npt.NDArray[np.float64]:
    """Return the parameters for inference at rows of four multipliers, by stages and not by layers as the space counts them."""

    def se(channels: Widths) -> Widths:
        squeezed = np.maximum(8, (channels / 16 + 4) // 8 * 8)
        return has_se * (2 * channels * squeezed + squeezed + channels)

    stages = [(depth, widths[:, index] * 64 * 2**index) for index, depth in enumerate(depths) if depth]
    before = np.minimum(64, stages[0][1])
    total = 28 * before
    for depth, channels in stages:
        total += 10 * before + (before + 1) * channels + se(before) + se(channels)
        total += (depth - 1) * (10 * channels + (channels + 1) * channels + 2 * se(channels))
        before = channels
    return total + 10 * before + 10


def test_the_space_has_as_many_architectures_as_it_says() -> None:
    widths = np.array(list(itertools.combinations_with_replacement(np.arange(1, 17) / 4, 4)))
    architectures: set[tuple[object, ...]] = set()
    num_told_apart, used = 0, [set[float](), set[float](), set[float](), set[float]()]
    for depths in itertools.product(FILE.DEPTHS, repeat=4):
        if not 19 <= sum(depths) <= 22:
            continue
        active = [index for index in range(4) if depths[index]]
        for has_se in (False, True):
            params = params_of(depths, widths, has_se=has_se)
            kept = widths[(params >= 0.86e6) & (params <= 1.26e6)]
            num_told_apart += len(kept)
            architectures |= {(depths, has_se, *row) for row in kept[:, active].tolist()}
            for index in active:
                used[index] |= set(kept[:, index].tolist())
    assert 2 * len(architectures) == 33_776  # for each of two numbers of branches
    assert 2 * num_told_apart == 70_550  # with the widths of empty stages told apart
    configuration_space = SPACE.configuration_space()
    assert [set(configuration_space[f"width_{number}"].sequence) for number in range(1, 5)] == used


def test_configspace_holds_the_widths_that_do_not_fall() -> None:
    """Also where a stage between two others is left out: all of them counted in another way."""
    configuration_space = SPACE.configuration_space()
    widths = [configuration_space[f"width_{number}"].sequence for number in range(1, 5)]
    expected = 0
    for active in itertools.product((False, True), repeat=4):
        rising: list[tuple[float, ...]] = [()]
        for choices in itertools.compress(widths, active):
            rising = [(*row, width) for row in rising for width in choices if not row or width >= row[-1]]
        expected += len(rising) * 5 ** sum(active) * 2 * 2
    assert count_configurations(configuration_space) == expected


def test_widths_never_fall_and_searches_keep_the_limits() -> None:
    candidates = Candidates(
        space=SPACE,
        configuration_space=SPACE.configuration_space(seed=0),
        is_feasible=Feasibility(SPACE, Limits(), width=0.1, shape=SHAPE),
    )
    rng = np.random.default_rng(0)
    for _ in range(5):
        config = candidates.draw(rng)
        assert config is not None
        widths = [config[f"width_{number}"] for number in range(1, 5) if f"width_{number}" in config]
        assert widths == sorted(widths) and len(widths) == sum(config[f"depth_{number}"] != 0 for number in range(1, 5))
        assert 860_000 <= FILE.inference_params(config) <= 1_260_000
        assert 19 <= sum(int(config[f"depth_{number}"]) for number in range(1, 5)) <= 22


def test_limits_know_the_counts_of_both_forms() -> None:
    measured = {
        is_inference: measure_config(SPACE, TINY, **SMALL, is_inference=is_inference) for is_inference in (False, True)
    }
    assert measured[True]["num_params"] < measured[False]["num_params"]
    assert measured[True]["flops"] < measured[False]["flops"]
    shape = NetworkShape(num_classes=4, in_channels=1, image_size=8)

    def allows(**limits: float) -> bool:
        space = dataclasses.replace(SPACE, constraints=())
        return Feasibility(space, Limits(**limits), width=0.1, shape=shape)(TINY)

    for quantity, count in {"params": "num_params", "flops": "flops"}.items():
        inferred, trained = measured[True][count], measured[False][count]
        assert allows(**{f"max_inference_{quantity}": inferred, f"max_{quantity}": trained})
        assert not allows(**{f"max_inference_{quantity}": inferred - 1})
        assert not allows(**{f"max_{quantity}": inferred})
        assert not allows(**{f"min_inference_{quantity}": trained})
    with pytest.raises(NaxcliError, match="no network keeps min_inference_params"):
        Limits(min_inference_params=3, max_inference_params=2)


def test_a_network_without_branches_has_one_count() -> None:
    space = load_space("resnet_attention")
    config: Config = space.reference["resnet_18"]
    network = build_network(space, config, **SMALL)
    assert single_branch_form(network) is network
    assert measure_config(space, config, **SMALL) == measure_config(space, config, **SMALL, is_inference=True)


def test_latency_is_that_of_the_form_for_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(SPACE, TINY, **SMALL)
    timed: list[int] = []
    monkeypatch.setattr(type(network), "forward_features", lambda self, x: timed.append(num_params(self)) or x)
    monkeypatch.setattr(type(network), "forward_head", lambda self, x: x)
    latency_ms(network, (1, 8, 8))
    assert set(timed) == {num_params(single_branch_form(network))}
    assert num_params(network) == measure_config(SPACE, TINY, **SMALL)["num_params"]


def test_exports_are_of_one_form_and_tell_the_counts_of_both(tmp_path: Path) -> None:
    counts = [measure_config(SPACE, TINY, **SMALL, is_inference=is_inference) for is_inference in (False, True)]
    request = ExportRequest(space=SPACE, config=TINY, format="onnx", out=tmp_path, variant="reduced", **SMALL)
    bundle = make_bundle(request)
    assert bundle.inference_counts == tuple(counts[1].values())
    facts = network_facts(request, num_params=1, macs=1, inference_counts=bundle.inference_counts)
    assert f"{counts[1]['num_params']:,} parameters" in facts["size for inference"]
    folded = make_bundle(dataclasses.replace(request, fold=True))
    assert folded.inference_counts is None
    for one, expected in ((bundle, counts[0]), (folded, counts[1])):
        assert {"num_params": one.num_params, "flops": one.macs} == expected
    # Two in each block, and the stem: one layer each where they are folded.
    assert sum(isinstance(module, nn.Conv2d) for module in folded.network.modules()) == 5
    torch.testing.assert_close(folded.network(bundle.images), bundle.outputs, atol=1e-4, rtol=1e-4)
