"""open_program: a finished network from a file, an ONNX graph or a torch program, ready to be measured. Needs none of naxcli's spaces."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from naxcli.errors import NaxcliError
from naxcli.export.onnx import FACTS_KEY, open_graph
from naxcli.export.torch_program import FACTS_FILE
from naxcli.measure.timing import torch_runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A network that only infers, in float32.

    Args:
        forward: Function from images to outputs, on the device that the program was opened for.
        input_shape: Shape of one image, (channels, height, width).
        batch_size: The one batch size that the program takes; None takes any.
        num_params: Number of parameters, None where the file does not state it.
        macs: Multiply-adds of one image, None where the file does not state them.
        runtime: Name and version of what runs the program.
    """

    forward: Callable[[Tensor], Any]
    input_shape: tuple[int, int, int]
    batch_size: int | None
    num_params: int | None
    macs: int | None
    runtime: str


def open_program(path: Path, *, device: torch.device, is_trusted: bool) -> Program:
    """Return the program in a file.

    Args:
        path: Path with the suffix `.onnx` or `.pt2`.
        device: Device to run on.
        is_trusted: Whether the user vouches for the file. torch unpickles its programs, which can run any code; a graph
            of ONNX is data, and needs no trust.

    Raises:
        NaxcliError: If the file is damaged, needs trust or a missing package, or cannot run on the device.
    """
    return _open_onnx(path, device) if path.suffix == ".onnx" else _open_torch_program(path, device, is_trusted)


def _open_onnx(path: Path, device: torch.device) -> Program:
    if importlib.util.find_spec("onnxruntime") is None:
        raise NaxcliError(f"{path} needs onnxruntime", hint="pip install 'naxcli[onnx]'")
    if device.type != "cpu":
        raise NaxcliError(f"{path} is measured on the CPU only", hint="--device cpu")
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (images,), _ = session.get_inputs(), session.get_outputs()
        facts = _facts(session.get_modelmeta().custom_metadata_map.get(FACTS_KEY, ""))
        forward = open_graph(path.read_bytes())
    except Exception as error:  # onnxruntime has its own types, and a graph with several inputs is a ValueError
        raise NaxcliError(f"{path} is not a network that onnxruntime opens", why=_first_line(error)) from error
    shape, batch_size = _input_shape(images.shape, path)
    return Program(
        forward=forward,
        input_shape=shape,
        batch_size=batch_size,
        runtime=f"onnxruntime {onnxruntime.__version__}",
        num_params=_count(facts, "num_params"),
        macs=_count(facts, "flops"),
    )


def _open_torch_program(path: Path, device: torch.device, is_trusted: bool) -> Program:
    if not is_trusted:
        raise NaxcliError(
            f"{path} is not opened",
            why="torch unpickles its programs, so that one from elsewhere can run any code on this machine",
            hint="pass --trusted if it is your own; an ONNX export needs no trust",
        )
    extra = {FACTS_FILE: ""}
    try:
        program = torch.export.load(path, extra_files=extra)
    except Exception as error:  # torch raises unrelated types for damaged files
        raise NaxcliError(f"{path} is not a torch program, or is damaged", why=_first_line(error)) from error
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    name = program.graph_signature.user_inputs[0]
    images = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    shape, batch_size = _input_shape(images.shape, path)
    return Program(
        forward=program.module(),
        input_shape=shape,
        batch_size=batch_size,
        runtime=f"{torch_runtime()}, exported program",
        num_params=sum(parameter.numel() for parameter in program.parameters()),
        macs=_count(_facts(extra[FACTS_FILE]), "flops"),
    )


def _input_shape(shape: Sequence[Any], path: Path) -> tuple[tuple[int, int, int], int | None]:
    """Return the shape of one image, and the fixed size of the batch if it is one."""
    batch, *image = shape
    if len(image) != 3 or not all(isinstance(size, int) for size in image):
        raise NaxcliError(
            f"the input of {path} is {tuple(map(str, shape))}",
            why="expected (batch, channels, height, width), with the last three fixed",
        )
    channels, height, width = image
    return (channels, height, width), batch if isinstance(batch, int) else None


def _facts(text: str | bytes) -> Mapping[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _count(facts: Mapping[str, Any], name: str) -> int | None:
    count = facts.get(name)
    return count if isinstance(count, int) and count > 0 else None


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]
