"""Checkpoints of a training: everything needed to go on as if it had never stopped, and nothing that could run code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from naxcli.errors import NaxcliError
from naxcli.records.files import replaced

FORMAT = 1


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write the state whole or not at all.

    Raises:
        NaxcliError: If the disk is full or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        torch.save({"format": FORMAT, **state}, file)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the state written by `save_checkpoint`, its tensors on a device; only plain data is ever unpickled.

    Raises:
        NaxcliError: If the file is missing, damaged, or of another format.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise NaxcliError(f"there is no checkpoint {path}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise NaxcliError(f"the checkpoint {path} cannot be read", why=str(error).split("\n", maxsplit=1)[0]) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise NaxcliError(
            f"{path} is not a checkpoint of this version", why=f"it needs format {FORMAT}", hint="train from the start"
        )
    return state


def load_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict of the trained network on the CPU, as it was validated.

    Those are the averaged weights where the training kept them. In a checkpoint of before the decay, from which a training
    continues, those after it.
    """
    state = load_checkpoint(path)
    weights: dict[str, Tensor] | None = state.get("evaluated", state["average"])
    return state["network"] if weights is None else weights
