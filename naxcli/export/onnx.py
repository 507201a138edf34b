"""The format `onnx`: a graph with a dynamic batch, run with onnxruntime before it is handed over. Needs the extra `onnx`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from naxcli.errors import NaxcliError
from naxcli.export.bundle import Bundle, checked_difference
from naxcli.export.config import describe
from naxcli.export.request import ExportRequest, Written
from naxcli.export.torch_program import export_program

TOLERANCE = 1e-4
FACTS_KEY = "naxcli"
"""Metadata of the graph that say what the network is, as the format `config` does."""
MIN_OPSET = 18
"""The opset that torch's exporter writes; it has no translation to older ones."""


def check(request: ExportRequest) -> None:
    """Raise NaxcliError if a package is missing, or the opset cannot be written."""
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise NaxcliError(f"--format onnx needs {', '.join(missing)}", hint="pip install 'naxcli[onnx]'")
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if request.opset is not None and not MIN_OPSET <= request.opset <= newest:
        raise NaxcliError(
            f"opset {request.opset} cannot be written",
            why=f"torch and onnx as installed know opsets {MIN_OPSET} to {newest}",
            hint=f"--opset {MIN_OPSET} runs in the oldest runtimes",
        )


def write(request: ExportRequest, bundle: Bundle, folder: Path) -> Written:
    """Write NAME.onnx with input `images` and output `logits`, run it, and return the largest difference.

    Raises:
        NaxcliError: If the network cannot be exported, or its output differs.
    """
    import onnx
    import onnxruntime

    opset = request.opset or MIN_OPSET
    program = torch.onnx.export(
        export_program(bundle),
        input_names=["images"],
        output_names=["logits"],
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    onnx.checker.check_model(model, full_check=True)
    written_opset = next(entry.version for entry in model.opset_import if not entry.domain)
    if written_opset != opset:
        raise NaxcliError(
            f"opset {opset} cannot be written",
            why=f"this network came out in opset {written_opset}",
            hint=f"--opset {MIN_OPSET} runs in the oldest runtimes",
        )
    if request.bench:
        forward = open_graph(model.SerializeToString())
        bundle = bundle.with_speed(forward, runtime=f"onnxruntime {onnxruntime.__version__}")
    facts = json.dumps(describe(request, bundle), ensure_ascii=False)
    model.metadata_props.add(key=FACTS_KEY, value=facts)
    path = folder / f"{request.network_name}.onnx"
    path.write_bytes(model.SerializeToString())

    forward = open_graph(path.read_bytes())
    difference = max(
        checked_difference(forward(bundle.images[:size]), bundle.outputs[:size], what="the graph", tolerance=TOLERANCE)
        for size in (1, len(bundle.images))
    )
    return bundle.written(difference)


def open_graph(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return a function images -> outputs that runs a graph of one input and one output on as many CPU threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (images,), (outputs,) = session.get_inputs(), session.get_outputs()

    def forward(batch: Tensor) -> Tensor:
        return torch.from_numpy(session.run([outputs.name], {images.name: batch.numpy()})[0])

    return forward
