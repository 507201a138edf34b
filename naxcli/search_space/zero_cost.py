"""Zero-cost metrics of configurations: what a network costs, measured without training it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from naxcli.records.trial import Config
from naxcli.search_space.contract import Space, plain_config
from naxcli.search_space.enumeration import sample_vectors
from naxcli.search_space.networks import build_network

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

NUM_MEASURED = 256
SAMPLE_SEED = 0  # of no search in particular, so that what was measured once serves them all

_logger = logging.getLogger(__name__)


def sample_to_measure(configuration_space: ConfigurationSpace) -> npt.NDArray[np.float64]:
    """Return ConfigSpace's vectors of the configurations whose metrics stand for the space, (num, num_hyperparameters)."""
    return sample_vectors(configuration_space, NUM_MEASURED, SAMPLE_SEED)


def config_of(space: Space, configuration_space: ConfigurationSpace, vector: npt.NDArray[np.float64]) -> Config:
    """Return the canonical configuration of a vector."""
    from ConfigSpace import Configuration

    return space.canonicalise(plain_config(Configuration(configuration_space, vector=vector)))


def has_metrics(space: Space) -> bool:
    """Return whether a space has zero-cost metrics: its own, or those of its networks."""
    return space.zero_cost is not None or space.build is not None


def zero_cost_metrics(
    space: Space,
    config: Config,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float,
    with_latency: bool = False,
) -> dict[str, float]:
    """Return the space's own `zero_cost`, or the `network_metrics` of what it builds; none where that fails, and those that are finite.

    Args:
        space: Space of the configuration.
        config: Configuration of the network.
        num_classes: Classes of the classifier.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels.
        width: Factor on the channels.
        with_latency: Whether the network is also run, which takes weights and time. Else it is built on the meta device.

    """
    if space.zero_cost is None:  # a space without networks does without torch
        from naxcli.measure.zero_cost import network_metrics
        from naxcli.search_space.sizes import without_memory

    def measure() -> dict[str, float]:
        if space.zero_cost is not None:
            return space.cheap_metrics(config)
        network = build_network(
            space, config, num_classes=num_classes, in_channels=in_channels, image_size=image_size, width=width
        )
        return network_metrics(network, (in_channels, image_size, image_size), with_latency=with_latency)

    try:
        metrics = measure() if with_latency or space.zero_cost is not None else without_memory(measure)
        values = {name: float(value) for name, value in metrics.items()}
    except Exception as error:  # noqa: BLE001 - any of the author's code; the trial of such a network fails, and is learned from then
        _logger.info("%s cannot be measured: %s", dict(config), str(error).split("\n", maxsplit=1)[0])
        return {}
    return {name: value for name, value in values.items() if math.isfinite(value)}
