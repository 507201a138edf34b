"""What TLS between search and workers costs a trial: the time from its start to its result, less the trial's own.

    python -m benchmarks.tls_cost [--rounds 20] [--trials 50]

Two clusters of one worker on loopback, one with TLS and one without, take turns: in each round both run the same trials one after
another, in changing order. A trial does nothing but report an epoch and return a result with a learning curve of 27 epochs, so what
is timed is what lies around every trial: its task, its message and its result on their way. Half of all rounds' values lie between
the quartiles. The last line is what a search pays once, for its certificate.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from distributed import LocalCluster, Security, get_worker

from naxcli.settings.connection import Connection
from naxcli.workers.pool import HEARTBEAT_TOPIC, WorkerPool

EPOCH = {"epoch": 1, "train_loss": 2.5, "val_accuracy": 0.4, "val_loss": 2.4, "learning_rate": 1e-3, "seconds": 20.0}


def report(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Do what every trial does beside training."""
    get_worker().log_event(HEARTBEAT_TOPIC, {"trial_id": 0, **EPOCH})
    return {"status": "success", "cost": 0.5, "curve": [EPOCH] * 27, "config": payload["config"]}


@contextlib.contextmanager
def pool_of_one(folder: Path, *, with_tls: bool) -> Iterator[WorkerPool]:
    security = Security.temporary() if with_tls else None
    files = {}
    if security is not None:
        files = {"tls_ca_file": "tls_ca_file", "tls_cert": "tls_client_cert", "tls_key": "tls_client_key"}
        for name in files.values():
            (folder / name).write_text(getattr(security, name))
        files = {setting: str(folder / name) for setting, name in files.items()}
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            security=security,
            protocol="tls://" if with_tls else "tcp://",
        ) as cluster,
        WorkerPool(report, slots=[], cluster=Connection(address=cluster.scheduler_address, **files)) as pool,
    ):
        yield pool


def cpu_seconds() -> float:
    """Return what this process, with its scheduler and nannies, and its workers have used."""
    here = psutil.Process()
    used = [process.cpu_times() for process in (here, *here.children())]
    return sum(item.user + item.system for item in used)


def seconds_per_trial(pool: WorkerPool, num: int) -> tuple[float, float]:
    """Run trials one after another and return the mean time of one, by the clock and of CPU."""
    payload = {"config": {f"hyperparameter_{index}": index for index in range(15)}, "fidelity": 27.0, "seed": 1}
    started, started_cpu = 0.0, 0.0
    for number in range(num + 1):  # the first is not timed
        while (worker := pool.free_worker()) is None:
            time.sleep(0.01)
        if number == 1:
            started, started_cpu = time.perf_counter(), cpu_seconds()
        pool.submit(number, payload, worker=worker)
        while not list(pool.wait(1.0)):
            pass
    return (time.perf_counter() - started) / num, (cpu_seconds() - started_cpu) / num


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=50)
    arguments = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {"with TLS": [], "without": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        pool_of_one(Path(folder), with_tls=True) as with_tls,
        pool_of_one(Path(folder), with_tls=False) as without,
    ):
        pools = [("with TLS", with_tls), ("without", without)]
        for number in range(arguments.rounds):
            for name, pool in pools if number % 2 else pools[::-1]:
                times[name].append(seconds_per_trial(pool, arguments.trials))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"milliseconds around a trial, n = {arguments.rounds} rounds of {arguments.trials} trials each:")
    for index, kind in enumerate(("clock", "CPU")):
        values = {name: [1000 * pair[index] for pair in pairs] for name, pairs in times.items()}
        values["difference"] = [a - b for a, b in zip(values["with TLS"], values["without"], strict=True)]
        for name, numbers in values.items():
            low, median, high = statistics.quantiles(numbers, n=4)
            print(f"  {kind:<5} {name:<10} median {median:6.2f}, quartiles {low:.2f} to {high:.2f}")
    made = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        Security.temporary()
        made.append(1000 * (time.perf_counter() - started))
    print(
        f"a certificate: median {statistics.median(made):.0f} ms, {min(made):.0f} to {max(made):.0f}, n = {len(made)}"
    )


if __name__ == "__main__":
    main()
