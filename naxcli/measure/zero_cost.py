"""Zero-cost metrics of a network: what it costs, in its form of training and in that of inference, without training it."""

from __future__ import annotations

from torch import nn

from naxcli.measure.counts import LATENCY_SECONDS, count_forward, latency_ms, num_params, single_branch_form

INFERENCE = "inference_"


def network_metrics(
    network: nn.Module, input_shape: tuple[int, ...], *, with_latency: bool = False
) -> dict[str, float]:
    """Return parameters, multiply-adds and bytes of memory of one image, and latency where asked for.

    Every metric is there in both forms, that of inference under a name that begins with `inference_`: blocks that train as several
    branches infer as one; see `single_branch_form`. Memory is an estimate from the layers' shapes: in training weights,
    gradients and what all layers put out, in inference weights and what the largest layer reads and puts out.

    Args:
        network: Network; its mode is kept.
        input_shape: Shape of one image, (channels, height, width).
        with_latency: Whether the forward pass is timed, on the CPU.
    """
    metrics = _metrics(network, input_shape, with_latency=with_latency)
    fused = single_branch_form(network)
    after = metrics if fused is network else _metrics(fused, input_shape, with_latency=with_latency)
    peak = "peak_memory_bytes"
    return {
        **{name: value for name, value in metrics.items() if name != peak},
        **{f"{INFERENCE}{name}": value for name, value in after.items() if name not in (peak, "memory_bytes")},
        f"{INFERENCE}memory_bytes": after[peak],
    }


def _metrics(network: nn.Module, input_shape: tuple[int, ...], *, with_latency: bool) -> dict[str, float]:
    """Return the metrics of one form, its memory in training and, as `peak_memory_bytes`, in inference."""
    counts = count_forward(network, input_shape)
    num_bytes = sum(parameter.nbytes for parameter in network.parameters())
    latency = {}
    if with_latency:
        latency["latency_ms"] = latency_ms(network, input_shape, max_seconds=2 * LATENCY_SECONDS, is_inference=False)
    return {
        "num_params": num_params(network),
        "flops": counts.macs,
        "memory_bytes": 2 * num_bytes + counts.num_bytes,
        "peak_memory_bytes": num_bytes + counts.peak_bytes,
        **latency,
    }
