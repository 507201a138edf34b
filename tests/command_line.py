"""Running naxcli, and what it exported, as a user does, for tests."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from naxcli.cli import app

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def naxcli(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in this process, which has imported already what it needs; a bug is raised."""
    command = [str(argument) for argument in arguments]
    with contextlib.chdir(cwd or Path.cwd()):
        result = CliRunner().invoke(app, command, prog_name="naxcli", env={**ENVIRONMENT, "COLUMNS": "80"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(command, result.exit_code, result.stdout, result.stderr)


def naxcli_process(
    *arguments: str | Path, timeout: float = 300, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a process of its own, for what signals, streams and imports do to one."""
    command = [sys.executable, "-m", "naxcli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, check=False, cwd=cwd
    )


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a terminal does."""
    command = [sys.executable, "-m", "naxcli", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    )


def load_alone(path: Path) -> Any:
    """Return a file as a module that importlib ran and nobody entered in sys.modules."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
