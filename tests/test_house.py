"""The arrows of the design: who may import whom, and what stays light."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "naxcli"
SPACES = PACKAGE.parent / "spaces"

# The floors of the house, the highest first: a room imports from rooms below it, and from those named after it on its floor.
FLOORS = (
    ("cli",),
    ("commands",),
    ("search", "report", "export"),
    ("workers", "analysis", "studies"),
    ("searchers", "training"),
    ("data", "search_space", "measure"),
    ("records", "settings"),
    ("errors",),
)
# What one floor would allow and the design does not.
FORBIDDEN = {
    ("search", "report"),
    ("search", "export"),
    ("report", "export"),
    ("workers", "analysis", "studies"),
    ("searchers", "training"),
}

# Each of these dependencies has one door.
DOORS = {
    "smac": ("searchers/smac.py",),
    "distributed": (
        "workers/pool.py",
        "workers/scheduler.py",
        "workers/worker_setup.py",
        "workers/slurm.py",
        "workers/certificates.py",
    ),
    "dask": ("workers/pool.py", "workers/scheduler.py"),
    "dask_jobqueue": ("workers/slurm.py",),
    "pyarrow": ("records/parquet.py",),
    "sqlite3": ("records/database.py",),
    "plotly": ("report/",),
    "matplotlib": ("report/",),
    "triton": ("training/kernels/",),
    "torch": (
        "training/",
        "data/",
        "export/",
        "measure/",
        "search_space/networks.py",
        "search_space/sizes.py",
        "studies/",
        "workers/evaluate.py",
        "workers/gpu_sharing.py",
        "commands/bench.py",
        "commands/train.py",
        "commands/network.py",
        "commands/space.py",
        "commands/study.py",
        "commands/study_path.py",
    ),
}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports_of(path: Path, *, for_types_too: bool = False) -> frozenset[str]:
    """Return the modules that a file imports while it runs, at any depth, and those it names in annotations if asked."""
    return frozenset(_imports(tree_of(path), for_types_too=for_types_too))


def _imports(tree: ast.Module, *, for_types_too: bool) -> Iterator[str]:
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types and not for_types_too:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # A folder's own name says nothing of which of its modules is imported.
            yield from (f"{node.module}.{name.name}" for name in node.names)


def python_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.py")) if "assets" not in path.parts]


def test_the_top_has_rooms_and_no_loose_modules() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == {room for floor in FLOORS for room in floor} - {"errors"}
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "__main__", "errors"}


def test_arrows_point_downward() -> None:
    order = [room for floor in FLOORS for room in floor]
    upward = set()
    for path in python_files(PACKAGE):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room not in order:  # __init__ and __main__ are the doors of the house
            continue
        for name in imports_of(path, for_types_too=True):
            other = name.split(".")[1] if name.startswith("naxcli.") else ""
            if other in order and (order.index(other) < order.index(room) or (room, other) in FORBIDDEN):
                upward.add(f"{path.relative_to(PACKAGE)} -> {name}")
    assert not upward


def test_no_module_is_in_a_circle() -> None:
    modules = {
        ".".join(("naxcli", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in python_files(PACKAGE)
    }
    arrows = {
        name.removesuffix(".__init__"): {
            target
            for imported in imports_of(path, for_types_too=True)
            for target in (imported, imported.rpartition(".")[0])
            if target in modules and target != name
        }
        for name, path in modules.items()
    }
    TopologicalSorter(arrows).prepare()  # raises CycleError


@pytest.mark.parametrize("dependency", DOORS)
def test_each_dependency_has_its_doors(dependency: str) -> None:
    strangers = {
        str(path.relative_to(PACKAGE))
        for path in python_files(PACKAGE)
        if any(name.split(".")[0] == dependency for name in imports_of(path))
        and not any(str(path.relative_to(PACKAGE)).startswith(door) for door in DOORS[dependency])
    }
    assert not strangers


def test_spaces_know_only_the_public_contract() -> None:
    contract = {"naxcli.Space", "naxcli.Variant", "naxcli.Limits", "naxcli.load_space"}
    for path in python_files(SPACES):
        assert {name for name in imports_of(path) if name.split(".")[0] == "naxcli"} <= contract, path


def test_what_commands_import_loads_no_torch() -> None:
    modules = (
        "naxcli.cli",
        "naxcli.analysis.summary",
        "naxcli.report.html",
        "naxcli.commands.search",
        "naxcli.search.loop",
        "naxcli.commands.status",
        "naxcli.commands.run",
    )
    program = "import importlib, sys\nfor module in sys.argv[1:]:\n    importlib.import_module(module)\n"
    program += "    if 'torch' in sys.modules: sys.exit(module)"
    done = subprocess.run([sys.executable, "-c", program, *modules], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_generic_code_names_no_variant_or_network_of_a_space() -> None:
    """What only one space knows is a field of its `SPACE`; hints on the command line may name it."""
    known = {"S", "TP", "legacy_xception", "timm:legacy_xception", "nexception", "nexception:nexception"}
    named = set()
    for path in python_files(PACKAGE):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and node.value in known:
                named.add(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.value}")
            # One letter is also a unit; no variant is compared with.
            if isinstance(node, ast.Compare) and any(
                isinstance(value, ast.Constant) and value.value == "T" for value in (node.left, *node.comparators)
            ):
                named.add(f"{path.relative_to(PACKAGE)}:{node.lineno} T")
    assert not named


def test_help_imports_no_heavy_library() -> None:
    program = "import sys, naxcli.cli; print(sorted({'torch', 'pandas', 'numpy', 'ConfigSpace', 'smac', 'dask'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )
