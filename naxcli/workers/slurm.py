"""Workers as SLURM jobs, one GPU and one trial at a time each; the only door to dask-jobqueue.

`--cluster slurm:FILE` names a TOML file:

    jobs = 8                     # trials at once
    queue = "gpu"
    walltime = "1-00:00:00"
    job_cpu = 8
    memory = "32GB"
    gpus = 1
    account = "nas"              # optional, as are the following
    directives = ["--qos=long"]
    prologue = ["source ~/venv/bin/activate"]
    interface = "ib0"            # network interface that workers reach the scheduler by

Scheduler and workers speak TLS only, with certificates made for this one cluster. The workers' lie in a folder of the run that only
its user can read; a job script names the files.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import tempfile
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from naxcli.errors import NaxcliError
from naxcli.settings.connection import SLURM_PREFIX
from naxcli.settings.toml import read_toml
from naxcli.settings.units import parse_duration

# A worker leaves this long before its job ends, so that it is not cut off in the middle of a trial's last write.
LEAVE_BEFORE_END_SECONDS = 300.0
# What a job does before the prologue of the user's file: Dask would take any folder of this name in /tmp, whoever made it, and
# serve its pages to the network.
PROLOGUE = (
    "export DASK_TEMPORARY_DIRECTORY=$(mktemp -d)",
    """trap 'rm -rf "$DASK_TEMPORARY_DIRECTORY"' EXIT""",
    "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSettings:
    """What a job asks SLURM for. `walltime` is a duration in naxcli's or SLURM's notation."""

    jobs: int
    walltime: str
    queue: str | None = None
    account: str | None = None
    job_cpu: int = 4
    memory: str = "16GB"
    gpus: int = 1
    directives: list[str] = field(default_factory=list)
    prologue: list[str] = field(default_factory=list)
    interface: str | None = None

    def __post_init__(self) -> None:
        for name, kind in typing.get_type_hints(SlurmSettings).items():
            _require_kind(name, getattr(self, name), kind)
        for name, least in (("jobs", 1), ("job_cpu", 1), ("gpus", 0)):
            if getattr(self, name) < least:
                raise _wrong(name, getattr(self, name), f"at least {least}")
        if not re.fullmatch(r"\d+(\.\d+)?\s*[KMGT]i?B?", self.memory, re.IGNORECASE):
            raise _wrong("memory", self.memory, 'a size such as "32GB"')
        try:
            parse_duration(self.walltime)
        except NaxcliError as error:
            raise _wrong("walltime", self.walltime, 'a duration such as "1-00:00:00" or "24h"') from error

    @property
    def walltime_seconds(self) -> float:
        return parse_duration(self.walltime)


_KIND_NAMES: dict[Any, str] = {int: "a whole number", str: "text in quotes", list[str]: 'a list such as ["--qos=long"]'}


def _require_kind(name: str, value: Any, kind: Any) -> None:
    """Refuse a value of another kind, and text of several lines: it would be lines of the job script of its own."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in kinds:
        return
    expected = _KIND_NAMES[kinds[0]]
    texts = value if isinstance(value, list) else [value]
    if kinds[0] is int:
        is_right = isinstance(value, int) and not isinstance(value, bool)
    else:
        is_right = isinstance(value, list) == (kinds[0] == list[str]) and all(isinstance(text, str) for text in texts)
    if not is_right:
        raise _wrong(name, value, expected)
    if any(isinstance(text, str) and not text.isprintable() for text in texts):
        raise _wrong(name, value, f"{expected}, without line breaks or other control characters")


def _wrong(name: str, value: Any, rule: str) -> NaxcliError:
    return NaxcliError(f"{name} is {value!r} in the SLURM file", why=f"it must be {rule}")


def read_settings(cluster: str) -> SlurmSettings:
    """Return the settings of `slurm:FILE`.

    Raises:
        NaxcliError: If the file is missing, or a setting is unknown, missing or of the wrong kind.
    """
    path = Path(cluster.removeprefix(SLURM_PREFIX))
    if not path.is_file():
        raise NaxcliError(f"there is no SLURM file {path}", hint="docs/clusters.md shows one")
    values = read_toml(path)
    known = {item.name for item in fields(SlurmSettings)}
    unknown = sorted(set(values) - known)
    missing = sorted({"jobs", "walltime"} - set(values))
    if unknown or missing:
        raise NaxcliError(
            f"{path}: "
            + "; ".join([f"unknown {name}" for name in unknown] + [f"{name} is missing" for name in missing]),
            why=f"settings: {', '.join(sorted(known))}",
        )
    return SlurmSettings(**values)


@contextlib.contextmanager
def make_slurm_cluster(settings: SlurmSettings, *, shared_folder: Path) -> Iterator[Any]:
    """Yield a Dask cluster without jobs yet; `scale(jobs=N)` submits them.

    Args:
        settings: What a job asks for.
        shared_folder: Folder that jobs see under the same path; a folder in it that only its user can read holds their certificates.

    Raises:
        NaxcliError: If dask-jobqueue is not installed, or this machine has no such network interface.
    """
    options = _job_options(settings)
    from dask_jobqueue import SLURMCluster

    from naxcli.workers.certificates import make_security
    from naxcli.workers.worker_setup import LocalScheduler

    interfaces = [name for _, name in socket.if_nameindex()]
    if settings.interface is not None and settings.interface not in interfaces:
        raise NaxcliError(
            f"this machine has no network interface {settings.interface}",
            why=f"it has {', '.join(interfaces)}",
            hint="interface of the SLURM file names the one by which workers reach the search",
        )
    shared_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tls-", dir=shared_folder, ignore_cleanup_errors=True) as certificates:
        yield SLURMCluster(
            **options,
            security=make_security(),
            shared_temp_directory=str(Path(certificates).resolve()),
            n_workers=0,
            scheduler_cls=LocalScheduler,
            scheduler_options={"dashboard": False},
        )


def render_job_script(settings: SlurmSettings) -> str:
    """Return the script that would be submitted for each job, with placeholders for what only a running search has."""
    options = _job_options(settings)
    from dask_jobqueue.slurm import SLURMJob
    from distributed import Security

    security = Security(tls_ca_file="CA_FILE", tls_worker_cert="CERTIFICATE", tls_worker_key="KEY")
    job = SLURMJob("tls://HOST:PORT", name="NAME", security=security, protocol="tls://", **options)
    script: str = job.job_script()
    return script


def _job_options(settings: SlurmSettings) -> dict[str, Any]:
    """Return the arguments of dask-jobqueue that describe a job.

    Raises:
        NaxcliError: If dask-jobqueue is not installed.
    """
    try:
        import dask_jobqueue  # noqa: F401
    except ImportError as error:
        raise NaxcliError("SLURM needs dask-jobqueue", hint="pip install 'naxcli[slurm]'") from error
    seconds = int(settings.walltime_seconds)
    hours, rest = divmod(seconds, 3600)
    lifetime = max(60, seconds - int(LEAVE_BEFORE_END_SECONDS))
    return {
        "cores": 1,
        "processes": 1,
        "memory": settings.memory,
        "queue": settings.queue,
        "account": settings.account,
        "job_cpu": settings.job_cpu,
        "walltime": f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}",
        "job_extra_directives": [*([f"--gres=gpu:{settings.gpus}"] if settings.gpus else []), *settings.directives],
        "job_script_prologue": [*PROLOGUE, f"export OMP_NUM_THREADS={settings.job_cpu}", *settings.prologue],
        "worker_extra_args": ["--lifetime", f"{lifetime}s", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"],
        "python": sys.executable,
        "interface": settings.interface,
        "job_name": "naxcli",
    }
