"""Zero-cost metrics of networks in both of their forms."""

from __future__ import annotations

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
