"""Size of a configuration's network, and the width at which it has a wanted size."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import torch

from naxcli.errors import ExitCode, NaxcliError
from naxcli.measure.counts import count_macs, num_params, single_branch_form
from naxcli.records.trial import Config
from naxcli.search_space.contract import Space
from naxcli.search_space.networks import REDUCED, build_network

TARGET_TOLERANCE = 0.02
_MIN_WIDTH = 0.01
_MAX_WIDTH = 64.0
_NUM_HALVINGS = 24

T = TypeVar("T")


def measure_config(
    space: Space,
    config: Config,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
    variant: str = REDUCED,
    is_inference: bool = False,
) -> dict[str, int]:
    """Return `num_params` and `flops`, the multiply-adds of one image forward, of a configuration's network.

    The network is built on the meta device: it has shapes, but no memory. A builder that needs real tensors gets them.
    With `is_inference` the counts are those of its form for inference, in which branches are one layer.

    Raises:
        NaxcliError: If the space makes no networks, or has no such variant.
    """

    def measure() -> dict[str, int]:
        network = build_network(
            space,
            config,
            variant=variant,
            num_classes=num_classes,
            in_channels=in_channels,
            image_size=image_size,
            width=width,
        )
        network = single_branch_form(network) if is_inference else network
        return {
            "num_params": num_params(network),
            "flops": count_macs(network, (in_channels, image_size, image_size)),
        }

    return without_memory(measure)


def without_memory(measure: Callable[[], T]) -> T:
    """Return what a function returns on torch's meta device, or off it where it needs tensors that have values."""
    try:
        with torch.device("meta"):
            return measure()
    except RuntimeError:
        # Torch says so where a value is asked of a tensor that has none; a real mistake raises again below.
        return measure()


def width_for_target(
    space: Space,
    config: Config,
    *,
    variant: str = REDUCED,
    num_classes: int,
    in_channels: int,
    image_size: int,
    target_params: float | None = None,
    target_flops: float | None = None,
) -> float:
    """Return the width, rounded to 4 digits, at which a configuration's network meets a target size within 2 %.

    Channel counts are rounded, so the size grows with the width in steps; the widths nearest to the target on both sides
    are found by bisection, and the better one is returned.

    Args:
        space: Space of the configuration.
        config: Configuration of the network.
        variant: `reduced`, or one of the space's full-size networks.
        num_classes: Classes of the classifier.
        in_channels: Channels of the images.
        image_size: Side in pixels of the images that multiply-adds are counted for.
        target_params: Number of parameters wanted.
        target_flops: Multiply-adds of one image wanted; exactly one of the two targets is given.

    Raises:
        NaxcliError: If both or neither target is given, or no width comes within 2 %; the nearest is named.
    """
    if (target_params is None) == (target_flops is None):
        raise NaxcliError(
            "a target is either a number of parameters or one of multiply-adds", hint="give one of the two"
        )
    measure, target = ("num_params", target_params) if target_params is not None else ("flops", target_flops)
    assert target is not None

    @functools.cache
    def size_at(width: float) -> int:
        return measure_config(
            space,
            config,
            variant=variant,
            num_classes=num_classes,
            in_channels=in_channels,
            image_size=image_size,
            width=width,
        )[measure]

    width = _nearest_width(size_at, target)
    if abs(size_at(width) - target) > TARGET_TOLERANCE * target:
        what = "parameters" if measure == "num_params" else "multiply-adds"
        raise NaxcliError(
            f"no width gives variant {variant} within {TARGET_TOLERANCE:.0%} of {target:,.0f} {what}",
            why=f"the nearest is {size_at(width):,} at width {width:g}",
            hint="choose a target near that, or another variant",
            exit_code=ExitCode.FAILED,
        )
    return width


def _nearest_width(size_at: Callable[[float], int], target: float) -> float:
    """Return the width with the size nearest to a target, of those that a bisection tries."""
    low, high = _MIN_WIDTH, 1.0
    sizes = {high: size_at(high)}
    while sizes[high] < target and high < _MAX_WIDTH:
        low, high = high, 2 * high
        sizes[high] = size_at(high)
    for _ in range(_NUM_HALVINGS):
        middle = round((low + high) / 2, 4)
        # A tenth of the tolerance is as good as exact, and spares building a dozen networks more.
        is_near = any(abs(size - target) <= TARGET_TOLERANCE / 10 * target for size in sizes.values())
        if middle in (low, high) or is_near:
            break
        sizes[middle] = size_at(middle)
        low, high = (middle, high) if sizes[middle] < target else (low, middle)
    return min(sizes, key=lambda width: abs(sizes[width] - target))
