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
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from naxcli.errors import NaxcliError
from naxcli.experiment import read_toml
from naxcli.quantities import parse_duration

PREFIX = "slurm:"
# A worker leaves this long before its job ends, so that it is not cut off in the middle of a trial's last write.
LEAVE_BEFORE_END_SECONDS = 300.0


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
        if not isinstance(self.jobs, int) or self.jobs < 1:
            raise NaxcliError(f"jobs is {self.jobs!r} in the SLURM file", why="it is the number of trials at once")
        parse_duration(self.walltime)

    @property
    def walltime_seconds(self) -> float:
        return parse_duration(self.walltime)


def read_settings(cluster: str) -> SlurmSettings:
    """Return the settings of `slurm:FILE`.

    Raises:
        NaxcliError: if the file is missing, or a setting is unknown or missing.
    """
    path = Path(cluster.removeprefix(PREFIX))
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


def make_slurm_cluster(settings: SlurmSettings) -> Any:
    """Return a Dask cluster without jobs yet; `scale(jobs=N)` submits them.

    Raises:
        NaxcliError: if dask-jobqueue is not installed.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise NaxcliError("SLURM needs dask-jobqueue", hint="pip install 'naxcli[slurm]'") from error
    seconds = int(settings.walltime_seconds)
    hours, rest = divmod(seconds, 3600)
    directives = [*([f"--gres=gpu:{settings.gpus}"] if settings.gpus else []), *settings.directives]
    lifetime = max(60, seconds - int(LEAVE_BEFORE_END_SECONDS))
    return SLURMCluster(
        cores=1, processes=1, memory=settings.memory, queue=settings.queue, account=settings.account, job_cpu=settings.job_cpu,
        walltime=f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}", job_extra_directives=directives,
        job_script_prologue=[f"export OMP_NUM_THREADS={settings.job_cpu}", *settings.prologue],
        worker_extra_args=["--lifetime", f"{lifetime}s"], python=sys.executable, interface=settings.interface,
        job_name="naxcli", n_workers=0, scheduler_options={"dashboard": False, "dashboard_address": ":0"},
    )  # fmt: skip


def render_job_script(settings: SlurmSettings) -> str:
    """Return the script that would be submitted for each job."""
    with make_slurm_cluster(settings) as cluster:
        script: str = cluster.job_script()
    return script
