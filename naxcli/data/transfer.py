"""Arrays of the host on their way to a device."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


def sent_to(device: torch.device, values: npt.NDArray[Any]) -> Tensor:
    """Return an array as a tensor on a device, which a GPU need not have reached when this returns.

    From memory that is not pinned CUDA copies all but small arrays only after everything it was given before.
    """
    tensor = torch.from_numpy(values)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
