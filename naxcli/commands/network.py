"""The network of a selected configuration, as a module to train or use."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from naxcli.commands.export import changed_sizes
from naxcli.commands.network_sizes import NetworkSizes
from naxcli.commands.select import Selection
from naxcli.errors import ExitCode, NaxcliError
from naxcli.search_space.networks import build_network

if TYPE_CHECKING:
    from torch import nn


def build_selected(selection: Selection, sizes: NetworkSizes, *, pretrained: bool = False, seed: int = 0) -> nn.Module:
    """Return the network of a selection on the CPU, in training mode.

    Args:
        selection: The configuration, and its weights where there are some.
        sizes: Variant, width, classes, channels and image size, of `network_sizes`.
        pretrained: Whether it has the selection's trained weights rather than random ones.
        seed: Random seed of the initial weights; the caller's random state stays as it is.

    Raises:
        NaxcliError: If the space makes no networks, or there are no weights, or they are those of another network.
    """
    import torch

    if pretrained:
        _require_weights(selection, sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(selection.space, selection.config, **dataclasses.asdict(sizes))
    if pretrained and selection.weights is not None:
        from naxcli.export.bundle import load_into, read_weights

        load_into(network, read_weights(selection.weights), source=selection.weights)
    return network


def _require_weights(selection: Selection, sizes: NetworkSizes) -> None:
    if selection.weights is None:
        raise NaxcliError(
            f"the run did not keep the weights of trial {selection.trial_id}",
            why="a search keeps those of its incumbent and of trials that may be promoted",
            hint="leave out pretrained; naxcli train makes weights",
            exit_code=ExitCode.FAILED,
        )
    changes = changed_sizes(selection, sizes)
    if changes:
        raise NaxcliError(
            f"the trained weights are those of another network: {', '.join(changes)}",
            hint="leave out pretrained; naxcli train makes weights",
        )
