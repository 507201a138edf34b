"""Zero-cost metrics of networks in both of their forms."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from timm.models.byobnet import MobileOneBlock
from torch import nn

from naxcli.measure.zero_cost import network_metrics


def test_a_network_of_branches_is_smaller_in_inference_than_in_training() -> None:
    block = nn.Sequential(MobileOneBlock(4, 4, kernel_size=3, num_conv_branches=2))
    metrics = network_metrics(block, (4, 8, 8))
    assert metrics["inference_num_params"] == 4 * 4 * 9 + 4 < metrics["num_params"]
    assert metrics["inference_flops"] == 4 * 4 * 9 * 64 < metrics["flops"]
    assert metrics["inference_memory_bytes"] < metrics["memory_bytes"]
    assert "latency_ms" not in metrics


def test_memory_is_that_of_weights_and_of_what_layers_put_out() -> None:
    network = nn.Sequential(nn.Conv2d(2, 8, 1, bias=False), nn.Conv2d(8, 4, 1, bias=False))
    metrics = network_metrics(network, (2, 10, 10), with_latency=True)
    weights = 4 * (16 + 32)
    assert metrics["memory_bytes"] == 2 * weights + 4 * 100 * (2 + 8 + 4)
    assert metrics["inference_memory_bytes"] == weights + 4 * 100 * (8 + 4)
    assert metrics["inference_latency_ms"] == metrics["latency_ms"] > 0
    assert metrics["inference_num_params"] == metrics["num_params"]


def test_each_form_of_a_network_has_its_own_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    def count_layers(call: Callable[[], object], **_: object) -> SimpleNamespace:
        num_layers = 0

        def count(*_: object) -> None:
            nonlocal num_layers
            num_layers += 1

        with nn.modules.module.register_module_forward_hook(count):
            call()
        return SimpleNamespace(seconds=num_layers)

    monkeypatch.setattr("naxcli.measure.counts.time_until_stable", count_layers)
    network = nn.Sequential(MobileOneBlock(4, 4, kernel_size=3, num_conv_branches=2))
    metrics = network_metrics(network, (4, 8, 8), with_latency=True)
    assert metrics["inference_latency_ms"] < metrics["latency_ms"]
