"""The environment of a run: versions, code, hardware and data, as environment.json records them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Changes = dict[str, tuple[Any, Any]]  # what was recorded, and what it is now, by name

PACKAGES = (
    "naxcli",
    "torch",
    "torchvision",
    "timm",
    "smac",
    "ConfigSpace",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "distributed",
)
MAX_PATCH_CHARACTERS = 200_000
COMMIT_VARIABLE = "NAXCLI_COMMIT"


def describe_environment(data: dict[str, Any] | None) -> dict[str, Any]:
    """Return versions, the git commit with its uncommitted patch, hardware, and the given description of the data."""
    return {
        "schema": 1,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "command": sys.argv,
        "git": _git(Path.cwd()),
        "hardware": {
            "host": platform.node(),
            "system": platform.platform(),
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "memory_bytes": _memory_bytes(),
            "gpus": _gpus(),
        },
        "data": data,
    }


def with_changes(recorded: Mapping[str, Any], now: Mapping[str, Any], *, at: float) -> tuple[dict[str, Any], Changes]:
    """Return the environment of a run that goes on in another one, and what has changed since it ran last.

    The recorded one stays as it was; what has changed of Python, packages, commit, processor and GPUs is added to its `changes`, with
    the time.

    Args:
        recorded: Of the run, as `describe_environment` returned it and this function went on.
        now: Of `describe_environment`.
        at: Unix time, in seconds.
    """
    last = _comparable(recorded)
    for session in recorded.get("changes", ()):
        last |= {name: after for name, (_, after) in session["changed"].items()}
    changes: Changes = {
        name: (last[name], value) for name, value in _comparable(now).items() if last.get(name, value) != value
    }
    if not changes:
        return dict(recorded), changes
    return {**recorded, "changes": [*recorded.get("changes", ()), {"at": at, "changed": changes}]}, changes


def _comparable(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of what trials may depend on, by the name that a user reads."""
    hardware, git = environment.get("hardware") or {}, environment.get("git") or {}
    facts = {"python": environment.get("python"), **(environment.get("packages") or {})}
    facts |= {"commit": git.get("commit"), "processor": hardware.get("processor")}
    if "gpus" in hardware:
        facts["GPUs"] = ", ".join(hardware["gpus"]) or "none"
    return {name: value for name, value in facts.items() if value is not None}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, str | None]:
    commit = output_of("git", "-C", str(folder), "rev-parse", "HEAD")
    if commit is None:  # of a copy without its history, whoever made it can say
        return {"commit": os.environ.get(COMMIT_VARIABLE) or None, "patch": None}
    patch = output_of("git", "-C", str(folder), "diff", "HEAD")
    return {"commit": commit, "patch": patch[:MAX_PATCH_CHARACTERS] if patch else None}


def _gpus() -> list[str]:
    listing = output_of("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return listing.splitlines() if listing else []


def processor_name() -> str:
    """Return the processor's model as the system calls it, empty where it does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def output_of(*command: str) -> str | None:
    """Return what a command prints, None where there is no such command, or it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
