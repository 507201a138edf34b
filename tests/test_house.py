"""The arrows of the design: who may import whom, and what stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "naxcli"
SPACES = PACKAGE.parent / "spaces"

# Each of these dependencies has one door.
DOORS = {
    "smac": {"searchers/smac.py"},
    "distributed": {"workers.py", "worker_setup.py", "slurm.py", "certificates.py"},
    "dask": {"workers.py"},
    "dask_jobqueue": {"slurm.py"},
    "pyarrow": {"records.py"},
    "sqlite3": {"records.py"},
    "plotly": {"report/"},
    "matplotlib": {"report/"},
    "torch": {
        "training/",
        "searchers/ensemble.py",
        "export/",
        "measure.py",
        "networks.py",
        "evaluate.py",
        "packing.py",
        "inspection.py",
        "final_training.py",
        "bench",
        "devices.py",
        "roofline.py",
        "timing.py",
        "trackers.py",
    },
}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the top-level names of the modules that a file imports while it runs, at any depth."""
    tree = ast.parse(path.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def python_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.py")) if "assets" not in path.parts]


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
    for path in python_files(SPACES):
        assert [name for name in imports_of(path) if name.split(".")[0] == "naxcli"] in (["naxcli"], []), path


@pytest.mark.parametrize(
    "module",
    ["naxcli.cli", "naxcli.analysis.summary", "naxcli.report.html", "naxcli.session", "naxcli.search", "naxcli.status"],
)
def test_what_commands_import_loads_no_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_help_imports_no_heavy_library() -> None:
    program = "import sys, naxcli.cli; print(sorted({'torch', 'pandas', 'numpy', 'ConfigSpace', 'smac', 'dask'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )
