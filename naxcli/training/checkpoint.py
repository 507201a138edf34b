"""Checkpoints of a training: everything needed to go on as if it had never stopped, and nothing that could run code."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
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


class CheckpointWriter:
    """Writes checkpoints in a thread of its own, one after another, while the training goes on. Use as a context manager.

    All of them are on disk when its block ends; an error of writing one is raised by then.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: list[Future[None]] = []

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()

    def write(self, state: dict[str, Any], *paths: Path) -> None:
        """Begin to write the state as it is now, whole or not at all, into each of the files."""
        self.write_copied(on_host(state), *paths)

    def write_copied(self, state: dict[str, Any], *paths: Path) -> None:
        """Begin to write a state that is on the CPU and that nobody changes any more."""
        self._pending += [self._thread.submit(save_checkpoint, state, path) for path in paths]

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            NaxcliError: If the disk is full or cannot be written.
        """
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()


def on_host(value: Any) -> Any:
    """Return a copy of a state in which all tensors are on the CPU and nobody else's."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copied = copy.copy(value)  # with what a module's state dict carries beside its items
        copied.update({name: on_host(item) for name, item in value.items()})
        return copied
    if isinstance(value, list | tuple):
        return type(value)(on_host(item) for item in value)
    return value


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
