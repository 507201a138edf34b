"""The cells of a benchmark's table, measured in worker processes and kept as they are done, so that an interrupted one goes on."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

Cell = tuple[Any, ...]  # of what JSON can hold


def add_cell_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument(
        "--into", type=Path, help="JSON Lines file of what is measured; what it holds is not measured again"
    )


def measured_cells(
    arguments: argparse.Namespace, cells: Sequence[Cell], measure: Callable[[Any], Any]
) -> dict[Cell, Any]:
    """Return what each cell measures.

    Args:
        arguments: of `add_cell_options`. The file is of one release and one set of settings, but for what a cell names.
        cells: in the order in which they are measured.
        measure: returns what JSON can hold; of a module, as worker processes call it.
    """
    found = read(arguments.into) if arguments.into is not None and arguments.into.exists() else {}
    missing = [cell for cell in cells if cell not in found]
    context = multiprocessing.get_context("spawn")  # threads that were started here do not survive a fork
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        futures = {pool.submit(measure, cell): cell for cell in missing}
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                cell = futures[future]
                found[cell] = json.loads(json.dumps(future.result(), default=lambda value: value.tolist()))
                if arguments.into is not None:
                    with arguments.into.open("a") as lines:
                        lines.write(json.dumps({"cell": cell, "measured": found[cell]}) + "\n")
                print(f"{number} of {len(missing)}: {cell}", file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {cell: found[cell] for cell in cells}


def read(path: Path) -> dict[Cell, Any]:
    """Return what a file holds, and drop a last line that a kill has cut."""
    complete, newline, cut = path.read_text().rpartition("\n")
    if cut:
        path.write_text(complete + newline)
    rows = map(json.loads, complete.splitlines())
    return {tuple(row["cell"]): row["measured"] for row in rows}
