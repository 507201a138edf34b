"""Workers that the search did not start itself: a running scheduler, and SLURM through a stand-in for sbatch."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from distributed import LocalCluster, Security

from naxcli import __version__
from naxcli.errors import NaxcliError
from naxcli.settings.connection import Connection
from naxcli.settings.sources import resolve
from naxcli.workers import pool as workers
from naxcli.workers.admission import refusal
from naxcli.workers.pool import WorkerPool
from naxcli.workers.slurm import SlurmSettings, make_slurm_cluster, read_settings
from tests.command_line import ENVIRONMENT, naxcli_process, start

SLURM_FILE = """
jobs = 2
queue = "gpu"
walltime = "1-00:00:00"
job_cpu = 8
memory = "32GB"
account = "nas"
directives = ["--qos=long"]
prologue = ["export HERE=1"]
"""
LOOPBACK = ["--host", "127.0.0.1", "--no-dashboard"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """The files of one authority, which has signed one certificate, for all sides."""

    ca_file: Path
    cert: Path
    key: Path

    @property
    def flags(self) -> list[str]:
        return ["--tls-ca-file", str(self.ca_file), "--tls-cert", str(self.cert), "--tls-key", str(self.key)]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return write_certificates(tmp_path)


def write_certificates(folder: Path) -> Certificates:
    made, files = Security.temporary(), Certificates(ca_file=folder / "ca", cert=folder / "cert", key=folder / "key")
    files.ca_file.write_text(made.tls_ca_file)
    files.cert.write_text(made.tls_client_cert)
    files.key.write_text(made.tls_client_key)
    return files


@contextlib.contextmanager
def dask(command: str, *arguments: str, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{command}", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, **(environment or {})},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def running_scheduler(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A scheduler on a port of its own, and its address."""
    with dask("scheduler", "--port", "0", *LOOPBACK, *flags) as process:
        assert process.stderr is not None
        yield (
            process,
            next(found.group() for line in process.stderr if (found := re.search(r"t(cp|ls)://127.0.0.1:\d+", line))),
        )


def worker_of(address: str, *flags: str, environment: dict[str, str] | None = None) -> Any:
    return dask("worker", address, "--nthreads", "1", "--no-nanny", *LOOPBACK, *flags, environment=environment)


def search_on(address: str, space: Path, run: Path, *more: str, trials: int = 12) -> list[Any]:
    return [
        "search",
        "--space",
        space,
        "--trials",
        str(trials),
        "--run",
        run,
        "--searcher",
        "random",
        "--cluster",
        address,
        *more,
    ]


def num_trials(run: Path) -> int:
    table = run / "trials.parquet"
    return len(pd.read_parquet(table)) if table.exists() else 0


def wait_for_trial(search: subprocess.Popen[str], trial_id: int) -> None:
    assert search.stderr is not None
    lines = iter(search.stderr.readline, "")
    assert any(re.match(rf"trial +{trial_id} ", line) for line in lines)


def test_the_job_script_asks_for_what_the_file_says(tiny_space: Path, tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text(SLURM_FILE)
    done = naxcli_process(*search_on(f"slurm:{file}", tiny_space, tmp_path / "run"), "--dry-run")
    assert done.returncode == 0, done.stderr
    for line in ("-p gpu", "-A nas", "-t 24:00:00", "--cpus-per-task=8", "--gres=gpu:1", "--qos=long", "export HERE=1"):
        assert line in done.stdout
    assert "tls://HOST:PORT" in done.stdout and "--tls-key KEY" in done.stdout
    assert "--lifetime 86100s" in done.stdout and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("jobs = 2", "walltime is missing"),
        ('jobs = 0\nwalltime = "1h"', "jobs"),
        ('jobs = true\nwalltime = "1h"', "jobs"),
        ('jobs = "2"\nwalltime = "1h"', "jobs"),
        ('jobs = 2.5\nwalltime = "1h"', "jobs"),
        ('jobs = 1\nwalltime = "soon"', "soon"),
        ("jobs = 1\nwalltime = 60", "walltime"),
        ("jobs = 1\nwalltime = 01:00:00", "walltime"),
        ('jobs = 1\nwalltime = "1h"\nx = 1', "unknown x"),
        ('jobs = 1\nwalltime = "1h"\njob_cpu = 0', "job_cpu"),
        ('jobs = 1\nwalltime = "1h"\ngpus = -1', "gpus"),
        ('jobs = 1\nwalltime = "1h"\nmemory = 32', "memory"),
        ('jobs = 1\nwalltime = "1h"\nmemory = "plenty"', "memory"),
        ('jobs = 1\nwalltime = "1h"\nqueue = ["gpu"]', "queue"),
        ('jobs = 1\nwalltime = "1h"\nqueue = "gpu\\n#SBATCH --uid=0"', "line breaks"),
        ('jobs = 1\nwalltime = "1h"\naccount = "a\\u001b[2J"', "control characters"),
        ('jobs = 1\nwalltime = "1h"\ndirectives = "--qos=long"', "directives"),
        ('jobs = 1\nwalltime = "1h"\ndirectives = ["--a\\n--b"]', "line breaks"),
        ('jobs = 1\nwalltime = "1h"\ndirectives = [1]', "directives"),
        ('jobs = 1\nwalltime = "1h"\nprologue = "module load"', "prologue"),
        ('jobs = 1\nwalltime = "1h"\nprologue = ["a\\r\\nb"]', "line breaks"),
        ("jobs = 1\njobs = 2", "TOML"),
    ],
)
def test_a_wrong_slurm_file_is_refused(text: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text(text)
    with pytest.raises(NaxcliError) as error:
        read_settings(f"slurm:{file}")
    assert named in str(error.value)


def test_a_network_interface_that_is_not_there_is_refused(tmp_path: Path) -> None:
    settings = SlurmSettings(jobs=1, walltime="1h", interface="ib77")
    with (
        pytest.raises(NaxcliError, match="no network interface ib77"),
        make_slurm_cluster(settings, shared_folder=tmp_path),
    ):
        pass


@pytest.mark.slow
def test_a_search_runs_in_slurm_jobs(tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an sbatch that runs the script here, and notes who may read the files of its certificates."""
    tools = tmp_path / "bin"
    tools.mkdir()
    pids, modes = tmp_path / "pids", tmp_path / "modes"
    (tools / "sbatch").write_text(
        # The real one copies the script too: dask-jobqueue deletes it at once.
        f'#!/bin/bash\njob=$(mktemp -p {tmp_path})\ncp "${{@: -1}}" $job\nsetsid bash $job >/dev/null 2>&1 &\n'
        f"echo $! >> {pids}\n"
        f"""for file in $(grep -oE '/[^ ]*/\\.tls-[^ ]*' $job); do stat -c %a $file $(dirname $file) >> {modes}; done\n"""
        'echo "Submitted batch job $!"\n'
    )
    (tools / "scancel").write_text("#!/bin/bash\nkill -- -$1 2>/dev/null; true\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{tools}:{os.environ['PATH']}")
    file = tmp_path / "slurm.toml"
    file.write_text('jobs = 1\nwalltime = "1h"\ngpus = 0\n')
    run = tmp_path / "run"
    try:
        done = naxcli_process(*search_on(f"slurm:{file}", tiny_space, run))
        assert done.returncode == 0, done.stderr
        assert len(pd.read_parquet(run / "trials.parquet")) == 12
        assert modes.read_text().split() == ["600", "700"] * 3  # authority, certificate, key
        assert not list(run.glob(".tls-*"))
    finally:
        for pid in pids.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(pid), signal.SIGKILL)


@pytest.mark.slow
def test_a_running_scheduler_is_used_and_a_dead_worker_costs_one_trial(slow_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running_scheduler() as (_, address), worker_of(address) as first, worker_of(address):
        search = start(*search_on(address, slow_space, run, trials=40))
        wait_for_trial(search, 3)
        first.kill()
        _, errors = search.communicate(timeout=180)
    assert search.returncode == 0, errors
    trials = pd.read_parquet(run / "trials.parquet")
    assert len(trials) == 40 and (trials["status"] == "success").all() and trials["config_id"].is_unique


@pytest.mark.slow
def test_a_search_whose_scheduler_died_goes_on_with_another(slow_space: Path, tmp_path: Path) -> None:
    """The trial that was running is not to blame: it runs again."""
    slow_space.write_text(slow_space.read_text().replace("SLEEP_SECONDS = 0.2", "SLEEP_SECONDS = 1.0"))
    run = tmp_path / "run"
    with running_scheduler() as (scheduler, address), worker_of(address):
        search = start(*search_on(address, slow_space, run, trials=60))
        wait_for_trial(search, 3)
        scheduler.kill()
        _, errors = search.communicate(timeout=180)
    assert search.returncode == 4 and "Traceback" not in errors, errors
    assert f"the Dask scheduler of {address} is gone" in errors and "resumes" in errors
    before = num_trials(run)
    with running_scheduler() as (_, address), worker_of(address):
        done = naxcli_process(*search_on(address, slow_space, run, trials=before + 3))
    assert done.returncode == 0, done.stderr
    trials = pd.read_parquet(run / "trials.parquet")
    assert 0 < before < len(trials) == before + 3
    assert trials["trial_id"].tolist() == [*range(1, before + 4)] and (trials["status"] == "success").all()


@pytest.mark.slow
def test_a_scheduler_with_tls_is_used_by_flags_or_by_dasks_configuration(
    tiny_space: Path, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = certificates.flags
    with running_scheduler("--protocol", "tls", *tls) as (_, address), worker_of(address, *tls):
        assert address.startswith("tls://")
        done = naxcli_process(*search_on(address, tiny_space, tmp_path / "run", *tls))
        assert done.returncode == 0, done.stderr
        other = tmp_path / "other"
        other.mkdir()
        refused = naxcli_process(
            *search_on(address, tiny_space, tmp_path / "refused", *write_certificates(other).flags)
        )
        assert refused.returncode == 2 and "Traceback" not in refused.stderr and address in refused.stderr
        for name, file in (("CA_FILE", "ca_file"), ("CLIENT__CERT", "cert"), ("CLIENT__KEY", "key")):
            monkeypatch.setitem(ENVIRONMENT, f"DASK_DISTRIBUTED__COMM__TLS__{name}", str(getattr(certificates, file)))
        done = naxcli_process(*search_on(address, tiny_space, tmp_path / "run", trials=15))
        assert done.returncode == 0, done.stderr
    assert len(pd.read_parquet(tmp_path / "run" / "trials.parquet")) == 15


@pytest.mark.parametrize(
    "address", ["tcp://10.1.2.3:8786", "tcp://node1:8786", "ucx://node1:8786", "tcp://[fe80::1]:8786"]
)
def test_another_machine_without_tls_takes_insecure(address: str) -> None:
    flags = {"space": "nexception", "cluster": address}
    with pytest.raises(NaxcliError, match="without TLS") as error:
        resolve(flags=flags, environment={})
    assert "--insecure" in error.value.hint and "runs code as you" in error.value.why
    for source in (
        {"flags": {**flags, "insecure": True}},
        {"flags": flags, "environment": {"NAXCLI_INSECURE": "true"}},
    ):
        assert resolve(**{"environment": {}, **source}).cluster == address
    # A recorded run, or a stranger's file, does not say so for the user.
    stored = resolve(flags={**flags, "insecure": True}, environment={}).to_settings()
    with pytest.raises(NaxcliError, match="without TLS"):
        resolve(flags={"cluster": address}, stored=stored, environment={})
    assert not resolve(flags={"cluster": "local"}, stored=stored, environment={}).insecure


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:1", "tcp://localhost:1", "tcp://[::1]:1", "tls://node1:1", "slurm:x"]
)
def test_loopback_tls_and_slurm_take_no_insecure(address: str) -> None:
    assert resolve(flags={"space": "nexception", "cluster": address}, environment={}).cluster == address


def test_certificates_that_are_missing_or_would_do_nothing_are_refused(
    certificates: Certificates, tmp_path: Path
) -> None:
    flags = {"space": "nexception", "tls_cert": str(certificates.cert)}
    with pytest.raises(NaxcliError, match="without TLS"):
        resolve(flags={**flags, "cluster": "tcp://127.0.0.1:1"}, environment={})
    with pytest.raises(NaxcliError, match="there is no file"):
        resolve(flags={**flags, "cluster": "tls://a:1", "tls_key": str(tmp_path / "gone")}, environment={})
    for connection, named in (
        (Connection(address="tls://127.0.0.1:9"), "--tls-ca-file"),
        (Connection(address="tls://127.0.0.1:9", tls_ca_file=str(certificates.ca_file)), "--tls-cert"),
        (
            Connection(address="tls://127.0.0.1:9", tls_ca_file=str(certificates.key), tls_cert=str(certificates.cert)),
            "cannot be used",
        ),
    ):
        with pytest.raises(NaxcliError) as error, WorkerPool(len, slots=[], cluster=connection):
            pass
        assert named in str(error.value)


def test_a_resumed_run_may_be_reached_by_other_certificates(certificates: Certificates) -> None:
    named = {"tls_ca_file": str(certificates.ca_file), "tls_cert": str(certificates.cert)}
    stored = resolve(flags={"space": "nexception", "cluster": "tls://a:1", **named}, environment={}).to_settings()
    with pytest.raises(NaxcliError, match="name the cluster tls://a:1") as error:
        resolve(flags={}, stored=stored, environment={})
    assert f"--cluster tls://a:1 --tls-ca-file {certificates.ca_file}" in error.value.hint
    resumed = resolve(flags={"cluster": "tls://b:2"}, stored=stored, environment={})
    assert (resumed.cluster, resumed.tls_ca_file, resumed.tls_cert) == ("tls://b:2", None, None)


def test_a_scheduler_that_does_not_answer_is_named(tiny_space: Path, tmp_path: Path) -> None:
    done = naxcli_process(*search_on("tcp://127.0.0.1:9", tiny_space, tmp_path / "run"))
    assert done.returncode == 2
    assert "tcp://127.0.0.1:9" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_worker_with_another_naxcli_or_none_is_refused_with_the_reason(tiny_space: Path, tmp_path: Path) -> None:
    stubs = {"none": "raise ModuleNotFoundError(\"No module named 'naxcli'\")", "old": "__version__ = '0.0.1'"}
    for name, code in stubs.items():
        (tmp_path / name / "naxcli").mkdir(parents=True)
        (tmp_path / name / "naxcli" / "__init__.py").write_text(code)
    run = tmp_path / "run"
    with running_scheduler() as (_, address), contextlib.ExitStack() as stack:
        for name in stubs:
            # `python -m` looks into the folder where it is started first.
            changed = {"PYTHONPATH": str(tmp_path / name), "PYTHONSAFEPATH": "1"}
            stack.enter_context(worker_of(address, environment=changed))
        search = start(*search_on(address, tiny_space, run))
        assert search.stderr is not None
        said = ""
        while not ("No module named 'naxcli'" in said and "it has naxcli 0.0.1" in said):
            said += (line := search.stderr.readline())
            assert line, said
        assert num_trials(run) == 0
        stack.enter_context(worker_of(address))
        _, errors = search.communicate(timeout=180)
    assert search.returncode == 0, said + errors
    assert (pd.read_parquet(run / "trials.parquet")["status"] == "success").all()


def test_a_worker_with_another_python_is_refused() -> None:
    own = platform.python_version()
    assert refusal(own, __version__) is None
    assert refusal(".".join([*own.split(".")[:2], "99"]), __version__) is None
    assert "Python 3.9.1" in (refusal("3.9.1", __version__) or "")
    assert "naxcli 99" in (refusal(own, "99") or "")


def test_a_cluster_without_workers_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "NO_WORKERS_SECONDS", 0.2)
    monkeypatch.setattr(workers, "CHECK_INTERVAL_SECONDS", 0.05)
    notices: list[str] = []
    with (
        LocalCluster(
            n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        WorkerPool(
            len, slots=[], cluster=Connection(address=cluster.scheduler_address), on_notice=notices.append
        ) as pool,
    ):
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            assert list(pool.wait(0.05)) == [] and pool.free_worker() is None
    (notice,) = notices
    assert notice.startswith("no workers") and cluster.scheduler_address in notice
