"""Time of the search itself: ask + record + tell after 1,000 and 3,000 trials, the rebuild of 3,000, memory at 10,000.

    python -m benchmarks.search_overhead [--searcher smac] [--space nexception] [--repeats 9] [--numbers 100,1000,3000,10000]

The space is nexception (98,304 configurations), or what `naxcli space prepare` made of it for `--searcher ensemble`.
Costs are random numbers: what they are changes neither the forest's size nor the time of its fit by much. Each number
of trials is filled in as records, from which the searcher is rebuilt as after an interruption; then trials are asked
for, recorded, given a result, recorded and told, one after another. What is timed includes both transactions; the
first ask of a session, which also enumerates the space, has a column of its own; trials.parquet is written by the
search loop now and then, and is timed on its own. Seconds of CPU stand beside those of the clock, which other
processes lengthen. Memory is the largest resident size of the process so far, all imports included: the file
of nexception imports torch and timm, as it does in a search.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import ConfigValue, Result, Status, Suggestion, config_id
from naxcli.search_space.contract import Space, load_space
from naxcli.search_space.enumeration import sample_configs
from naxcli.searchers import Asked, Event, FidelityRange, Searcher, Told, make_searcher
from naxcli.settings.choices import SEARCHERS

NUMBERS = (100, 1_000, 3_000, 10_000)
SEED = 1


def distinct_configs(space: Space, number: int) -> list[dict[str, ConfigValue]]:
    """Return canonical configurations without repeats."""
    sampled = sample_configs(space.configuration_space(SEED), 2 * number, seed=SEED)
    canonical = [space.canonicalise(config) for config in sampled]
    return list({config_id(config): config for config in canonical}.values())[:number]


def fill(records: Records, space: Space, number: int, rng: np.random.Generator) -> list[Event]:
    """Record finished trials and return them as the events of a run."""
    events: list[Event] = []
    for config in distinct_configs(space, number):
        suggestion = Suggestion(config=config, fidelity=9.0, seed=SEED)
        cost = float(rng.uniform(0.2, 0.9))
        record_result(records, suggestion, "{}", cost)
        events += [Asked(suggestion=suggestion), Told(suggestion=suggestion, cost=cost)]
    return events


def record_result(records: Records, suggestion: Suggestion, state: str, cost: float) -> None:
    """Write an ask and its result, a transaction each."""
    trial = records.add_trial(suggestion, searcher="smac", state=state)
    records.add_result(trial.trial_id, Result(status=Status.SUCCESS, cost=cost, seconds=30.0, ended_at=time.time()))


def build(name: str, space: Space, events: list[Event]) -> Searcher:
    """Rebuild the searcher from the events of a run."""
    return make_searcher(
        name,
        space=space,
        configuration_space=space.configuration_space(SEED),
        fidelity=FidelityRange(min=9, max=9),
        seed=SEED,
        prepared=space.prepared,
        history=events,
    )


def peak_memory_mb() -> float:
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--searcher", choices=SEARCHERS, default="smac")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--space", default="nexception")
    parser.add_argument("--numbers", default=",".join(map(str, NUMBERS)))
    arguments = parser.parse_args()
    space = load_space(arguments.space)
    print(f"memory once the space is loaded: {peak_memory_mb():.0f} MB")
    rng = np.random.default_rng(SEED)
    build(arguments.searcher, space, []).ask()  # imports and the enumeration
    table = Table(title=f"{arguments.searcher} on {space.name}, medians of {arguments.repeats} (maximum)")
    for column in (
        "trials told",
        "rebuild, s",
        "first ask, s",
        "ask + record + tell, s",
        "of CPU, s",
        "write Parquet, s",
        "memory, MB",
    ):
        table.add_column(column, justify="right")
    for number in map(int, arguments.numbers.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            run = RunDirectory(path=Path(folder))
            with Records.create(run) as records:
                events = fill(records, space, number, rng)
                started = time.perf_counter()
                searcher = build(arguments.searcher, space, events)
                rebuild_seconds = time.perf_counter() - started
                started = time.perf_counter()
                suggestion = searcher.ask()
                first_seconds = time.perf_counter() - started
                assert suggestion is not None
                searcher.tell(suggestion, cost=float(rng.uniform(0.2, 0.9)))
                seconds, cpu_seconds = [], []
                for _ in range(arguments.repeats):
                    started, cpu_started = time.perf_counter(), time.process_time()
                    suggestion = searcher.ask()
                    assert suggestion is not None
                    cost = float(rng.uniform(0.2, 0.9))
                    record_result(records, suggestion, searcher.state(), cost)
                    searcher.tell(suggestion, cost=cost)
                    seconds.append(time.perf_counter() - started)
                    cpu_seconds.append(time.process_time() - cpu_started)
                started = time.perf_counter()
                records.write_parquet(run, space.configuration_space(SEED))
                parquet_seconds = time.perf_counter() - started
        table.add_row(
            f"{number:,}",
            f"{rebuild_seconds:.2f}",
            f"{first_seconds:.2f}",
            f"{np.median(seconds):.2f} ({max(seconds):.2f})",
            f"{np.median(cpu_seconds):.2f}",
            f"{parquet_seconds:.2f}",
            f"{peak_memory_mb():.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
