"""The ablations of the ensemble, on a table of the test's own in the place of NAS-Bench-Macro's."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import nat_ablations
from benchmarks import spaces_nas_bench_macro as macro
from naxcli.commands.prepare import prepare_on
from naxcli.search_space.contract import load_space
from tests.inline import InlinePool


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write a table in which wider networks are better; "22222222" and "22222221" are the same and the best."""
    results = {}
    for choices in itertools.product("012", repeat=macro.NUM_LAYERS):
        total = min(15, sum(map(int, choices)))
        accuracies = [70.0 + total + offset for offset in (-0.5, 0.0, 0.5)]
        sizes = {"params": 1000 + 100 * total, "flops": 5000 + choices.count("2")}
        results["".join(choices)] = {"test_acc": accuracies, "mean_acc": 70.0 + total, **sizes}
    (tmp_path / macro.FILE).write_text(json.dumps(results))
    monkeypatch.setenv("NAS_BENCH_MACRO", str(tmp_path))
    monkeypatch.setattr("naxcli.search_space.zero_cost.NUM_MEASURED", 16)
    macro.table.cache_clear()
    yield tmp_path
    macro.table.cache_clear()


def test_arms_are_searched_and_told_with_what_it_found(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, arms = table / "measured.json", ["random", "ensemble", "untrained", "noise"]
    settings = {"data": table, "seeds": 1, "evaluations": 11, "json": kept, "arms": ",".join(arms)}
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["nat_ablations", *flags])
    nat_ablations.main()
    printed = capsys.readouterr().out
    measured = json.loads(kept.read_text())["measured"]
    assert list(measured) == arms and all(f" {name} " in printed for name in arms)
    for (found,) in measured.values():
        spent, ranks = zip(*found, strict=True)
        assert list(spent) == sorted(spent) and spent[-1] <= 11
        assert list(ranks) == sorted(ranks, reverse=True)
    first = {name: found[0][0][0] for name, found in measured.items()}
    assert first["ensemble"] == 1 < first["noise"] < 2  # after a few of the low fidelity


def test_the_ensemble_starts_from_what_a_search_prepares(table: Path) -> None:
    space = load_space(macro.__file__)
    pool: Any = InlinePool()
    usual = prepare_on(pool, space, shape={"num_classes": 10, "in_channels": 3, "image_size": 32, "width": 1.0})
    own, of_one = (nat_ablations.prepared(space, metrics) for metrics in (nat_ablations.ALL, ("flops",)))
    assert usual is not None and own is not None and of_one is not None
    assert own.metric_names == usual.metric_names
    for mine, theirs, other in zip(own.trunk, usual.trunk, of_one.trunk, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert not np.array_equal(mine, other)
    assert nat_ablations.prepared(space, ()) is None


def test_networks_that_are_equal_have_equal_ranks(table: Path) -> None:
    ranks = nat_ablations.ranks_of_networks()
    assert ranks["22222222"] == ranks["22222221"] == 0
    assert ranks["22222211"] == sum(result["mean_acc"] > 84 for result in macro.table().values())


def test_a_best_that_was_never_found_is_a_dash_and_counts_as_the_budget(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"ensemble": [[(1.0, 5), (4.0, 0)], [(1.0, 3)]], "random": [[(1.0, 9)], [(1.0, 7), (20.0, 0)]]}
    nat_ablations.print_table(found, budget=100)
    rows = [re.findall(r"[^│ ][^│]*[^│ ]|–", line) for line in capsys.readouterr().out.splitlines() if line[0] == "│"]
    assert [row[-1] for row in rows] == ["4 (4 to –)", "8.0 (-80.0 to 96.0)"]
