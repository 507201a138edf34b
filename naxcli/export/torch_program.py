"""The format `torch`: a `torch.export` program with a dynamic batch, which loads with torch alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch

from naxcli.errors import ExitCode, NaxcliError
from naxcli.export.bundle import Bundle, checked_difference
from naxcli.export.config import describe
from naxcli.export.request import ExportRequest, Written
from naxcli.measure.timing import torch_runtime

TOLERANCE = 1e-4
FACTS_FILE = "naxcli.json"
"""Extra file of the program that says what the network is, as the format `config` does."""


def write(request: ExportRequest, bundle: Bundle, folder: Path) -> Written:
    """Write NAME.pt2, load it, run it on two sizes of batch, and return the largest difference.

    Raises:
        NaxcliError: If the network's code cannot be exported by torch, or the output differs.
    """
    path = folder / f"{request.network_name}.pt2"
    program = export_program(bundle)
    if request.bench:
        bundle = bundle.with_speed(program.module(), runtime=f"{torch_runtime()}, exported program")
    facts = json.dumps(describe(request, bundle), ensure_ascii=False)
    # Through a buffer, so that a full disk is an OSError and not an error of torch's file format.
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={FACTS_FILE: facts})
    path.write_bytes(buffer.getvalue())
    loaded = torch.export.load(path).module()
    with torch.no_grad():
        difference = max(
            checked_difference(
                loaded(bundle.images[:size]), bundle.outputs[:size], what="the program", tolerance=TOLERANCE
            )
            for size in (1, len(bundle.images))
        )
    return bundle.written(difference)


def export_program(bundle: Bundle) -> torch.export.ExportedProgram:
    """Return the network as a program for any number of images.

    Raises:
        NaxcliError: If the network's code cannot be exported by torch.
    """
    batch = torch.export.Dim("batch", min=1)
    try:
        return torch.export.export(bundle.network, (bundle.images[:2],), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch's exporter raises dozens of unrelated types, all about the network's code
        raise NaxcliError(
            "torch cannot export this network with a dynamic batch",
            why=str(error).strip().split("\n", maxsplit=1)[0],
            hint="its forward must not depend on values or on the number of images; --format python always works",
            exit_code=ExitCode.FAILED,
        ) from error
