"""Memory over many trials: each trial's is returned before the next, and the search itself does not grow."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from naxcli.records.trial import Status
from naxcli.search_space.contract import load_space
from naxcli.settings.recipe import Recipe
from naxcli.training import loop
from naxcli.training.host_memory import free_as_usual, keep_freed_memory
from naxcli.workers.evaluate import evaluate
from naxcli.workers.task import DataRequest, TrialTask
from tests.command_line import start

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")

MB = 10**6
NUM_TRIALS = 200


def resident_bytes(pid: int | str = "self") -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from descendants(child)


@pytest.fixture
def usual_allocator() -> Iterator[None]:
    yield
    free_as_usual()


def test_what_a_failed_trial_held_is_returned_before_the_next(
    monkeypatch: pytest.MonkeyPatch, usual_allocator: None
) -> None:
    space = load_space("nexception")
    task = TrialTask(
        trial_id=0,
        space="nexception",
        config=space.reference["nexception"],
        fidelity=0.05,
        seed=0,
        width=0.02,
        recipe=Recipe(batch_size=64),
        data=DataRequest(name="digits", root="", split_seed=0, validation_fraction=0.2),
    )
    assert evaluate(task).status is Status.SUCCESS

    def failing(*_: object, **__: object) -> None:
        keep_freed_memory()
        held: list[object] = [torch.ones(2**20) for _ in range(60)]  # 4 MiB each, below what the system maps singly
        held.append(held)  # as the graph of a network, which only the garbage collector frees
        raise RuntimeError("no")

    monkeypatch.setattr(loop, "train", failing)
    before = resident_bytes()
    assert evaluate(task).status is Status.CRASHED
    assert resident_bytes() - before < 60 * MB


@pytest.mark.slow
def test_two_hundred_trials_do_not_grow_the_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the process of the search by more than 50 MB from its 20th trial on, nor its worker by more than 100 MB."""
    settings = [
        "width=0.02",
        "threads=1",
        "validation_fraction=0.5",
        "recipe.batch_size=256",
        "recipe.warmup_max_fraction=0.5",
    ]
    search = start(
        "search",
        "--space",
        "nexception",
        "--data",
        "digits",
        "--trials",
        str(NUM_TRIALS),
        "--epochs",
        "1",
        "--workers",
        "1",
        "--run",
        tmp_path / "run",
        "--quiet",
        *(part for item in settings for part in ("--set", item)),
    )
    log = tmp_path / "run" / "log.jsonl"
    samples: list[tuple[int, int, int]] = []  # trials finished, bytes of the search, bytes of its largest child
    while search.poll() is None:
        time.sleep(0.1)
        try:
            num_finished = log.read_text().count('"event": "finished"')
            children = [resident_bytes(child) for child in descendants(search.pid)]
            samples.append((num_finished, resident_bytes(search.pid), max(children, default=0)))
        except OSError:  # not begun, or just ended
            continue
    assert search.returncode == 0, search.stderr.read() if search.stderr else ""

    def median(column: int, first: int, last: int) -> float:
        return statistics.median(sample[column] for sample in samples if first <= sample[0] <= last) / MB

    for name, column, limit in (("search", 1, 50), ("worker", 2, 100)):
        early, late = median(column, 20, 25), median(column, NUM_TRIALS - 5, NUM_TRIALS)
        with capsys.disabled():
            print(f"\n{name}: {early:.0f} MB after 20 trials, {late:.0f} MB after {NUM_TRIALS}")
        assert late - early < limit
