"""The format `torch`: a `torch.export` program with a dynamic batch, which loads with torch alone."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from naxcli.errors import ExitCode, NaxcliError
from naxcli.export.bundle import Bundle, checked_difference
from naxcli.export.inference import inference_form
from naxcli.export.request import ExportRequest

TOLERANCE = 1e-4


def write(request: ExportRequest, bundle: Bundle, folder: Path) -> float:
    """Write NAME.pt2, load it, run it on two sizes of batch, and return the largest difference.

    Raises:
        NaxcliError: if the network's code cannot be exported by torch, or the output differs.
    """
    path = folder / f"{request.network_name}.pt2"
    # Through a buffer, so that a full disk is an OSError and not an error of torch's file format.
    buffer = io.BytesIO()
    torch.export.save(export_program(bundle), buffer)
    path.write_bytes(buffer.getvalue())
    loaded = torch.export.load(path).module()
    with torch.no_grad():
        return max(
            checked_difference(
                loaded(bundle.images[:size]), bundle.outputs[:size], what="the program", tolerance=TOLERANCE
            )
            for size in (1, len(bundle.images))
        )


def export_program(bundle: Bundle) -> torch.export.ExportedProgram:
    """Return the network as a program for any number of images.

    Raises:
        NaxcliError: if the network's code cannot be exported by torch, or not be folded where the request wants that.
    """
    batch = torch.export.Dim("batch", min=1)
    network = inference_form(bundle.network) if bundle.request.fold else bundle.network
    try:
        return torch.export.export(network, (bundle.images[:2],), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch's exporter raises dozens of unrelated types, all about the network's code
        raise NaxcliError(
            "torch cannot export this network with a dynamic batch",
            why=str(error).strip().split("\n", maxsplit=1)[0],
            hint="its forward must not depend on values or on the number of images; --format python always works",
            exit_code=ExitCode.FAILED,
        ) from error
