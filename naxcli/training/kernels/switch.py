"""The kernels switched on for a network, where Triton works, and off again; what imports this module does not import Triton."""

from __future__ import annotations

import torch
from torch import nn

from naxcli.measure.devices import device_name
from naxcli.training.kernels.choice import choices_of_worker, works_on


def switch_on(network: nn.Module, device: torch.device) -> bool:
    """Let a network in training mode be computed with the kernels, and return whether it is: on a GPU where Triton works."""
    if not works_on(device):
        return False
    from naxcli.training.kernels.network import use_kernels

    use_kernels(network, choices_of_worker(device_name(device)))
    return True


def switch_off(network: nn.Module) -> None:
    """Undo `switch_on`, where it was of effect."""
    from naxcli.training.kernels.network import restore_modules

    restore_modules(network)
