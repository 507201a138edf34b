"""Making a benchmark of recorded trials: the file of a space in which a forest of them tells what a training costs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from naxcli.errors import NaxcliError
from naxcli.records.files import check_target, write_file
from naxcli.search_space.contract import Space
from naxcli.search_space.surrogate_benchmark import SurrogateBenchmark, read_benchmark

_TEMPLATE = '''"""{num_configs} recorded configurations as a benchmark; their costs are what a random forest makes of them.

Made by `naxcli space from-trials`. The {num_trials} trainings were of fidelity {fidelities}: search with --fidelity {ladder}.
"""

from pathlib import Path

from naxcli import {imports}

SPACE = space_from_trials(
    {path},
    name={name},{space}
    content_hash={content_hash},
)
'''


def write_space_from_trials(trials: Path, out: Path, *, name: str, space: Space | None = None) -> SurrogateBenchmark:
    """Write the file of a space that answers from recorded trials, and return what it answers with.

    Args:
        trials: Parquet file with the columns of a run's trials.parquet. The file of the space names it by its path from there.
        out: File to write, `NAME.py`.
        name: Name of the new space.
        space: As for `space_from_trials`.

    Raises:
        NaxcliError: If the trials make no space, or the file cannot be written.
    """
    if out.suffix != ".py":
        raise NaxcliError(f"{out} is not named as a space", hint=f"name it {out.with_suffix('.py')}")
    check_target(out, is_folder=False)
    benchmark = read_benchmark(trials, space=space)
    benchmark.as_space(name, like=space)  # refuses a name that no space may have
    folder = out.resolve().parent
    text = _TEMPLATE.format(
        name=json.dumps(name),
        num_configs=benchmark.num_configs,
        num_trials=len(benchmark.trials),
        fidelities=", ".join(f"{fidelity:g}" for fidelity in benchmark.fidelities),
        ladder=benchmark.ladder,
        imports="space_from_trials" if space is None else "load_space, space_from_trials",
        path=_path_in_file(trials, folder),
        space="" if space is None else f"\n    space=load_space({_reference_in_file(space, folder)}),",
        content_hash=json.dumps(benchmark.content_hash),
    )
    write_file(out, text)
    return benchmark


def _path_in_file(path: Path, folder: Path) -> str:
    """Return the code for a path, as seen from the folder of the file, so that both can move together."""
    return f"Path(__file__).parent / {json.dumps(os.path.relpath(path.resolve(), folder))}"


def _reference_in_file(space: Space, folder: Path) -> str:
    """Return the code for what a space is loaded by."""
    is_file = space.origin.endswith(".py")
    return f"str({_path_in_file(Path(space.origin), folder)})" if is_file else json.dumps(space.origin)
