from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.command_line import naxcli
from tests.inline import InlinePool, use_pool


@pytest.fixture
def run(tiny_space: Path, tmp_path: Path) -> Path:
    """A finished search whose objective has noise that depends on the seed and the configuration."""
    noisy = tiny_space.read_text().replace(
        "    cost = 0.1", "    cost = 0.02 * ((seed * 31 + hash(tuple(map(str, config.values())))) % 7) + 0.1"
    )
    tiny_space.write_text(
        noisy.replace("hash(tuple(map(str, config.values())))", "sum(map(ord, ''.join(map(str, config.values()))))")
    )
    folder = tmp_path / "run"
    arguments = ["--space", tiny_space, "--trials", "40", "--run", folder, "--searcher", "random", "--workers", "1"]
    with pytest.MonkeyPatch.context() as patch:
        use_pool(InlinePool, patch)
        done = naxcli("search", *arguments)
    assert done.returncode == 0, done.stderr
    return folder


def test_winners_and_references_are_trained_with_the_same_fresh_seeds(run: Path, tiny_space: Path) -> None:
    arguments = ["confirm", run, "--space", tiny_space, "--top", "2", "--seeds", "4", "--workers", "1"]
    done = naxcli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    seeds: dict[str, set[int]] = {}
    for row in found["results"]:
        seeds.setdefault(row["name"], set()).add(row["seed"])
    assert set(seeds) >= {"top 1", "top 2", "plain"} and len(set(map(frozenset, seeds.values()))) == 1
    assert all(seed > 1_000_000 for seed in seeds["plain"])  # searches use small ones
    verdict = found["verdict"]
    gain = next(entry for entry in verdict["gains"] if entry["reference"] == "plain")
    assert gain["low"] < gain["gain"] < gain["high"] and gain["low"] > 0
    assert verdict["sentence"] and verdict["winner"] in ("top 1", "top 2")
    again = naxcli(*arguments)
    assert again.returncode == 0 and "4/" not in again.stderr  # nothing was left to train
    assert "Verdict" in again.stdout


def test_a_run_from_elsewhere_needs_its_space_named(run: Path) -> None:
    done = naxcli("confirm", run)
    assert done.returncode == 2 and "--space" in done.stderr and "Traceback" not in done.stderr


def test_an_export_of_the_best_says_which_trial_was_confirmed_to_be_better(
    run: Path, tiny_space: Path, tmp_path: Path
) -> None:
    done = naxcli("confirm", run, "--space", tiny_space, "--top", "2", "--seeds", "2", "--workers", "1", "--json")
    found = json.loads(done.stdout)
    configs = {row["name"]: row["config"] for row in found["results"]}
    export = [
        "export",
        run,
        "--space",
        tiny_space,
        "--format",
        "config",
        "--overwrite",
        "--out",
        tmp_path / "network.json",
    ]
    for winner, is_told in (("top 1", False), ("top 2", True)):
        found["verdict"] = {**found["verdict"], "winner": winner, "config": configs[winner]}
        (run / "confirmation.json").write_text(json.dumps(found))
        exported = naxcli(*export)
        assert exported.returncode == 0, exported.stderr
        told = re.findall(r"trial (\d+) came out better: --trial \1", exported.stdout + exported.stderr)
        assert bool(told) == is_told
    assert naxcli(*export, "--trial", told[0]).returncode == 0
    assert json.loads((tmp_path / "network.json").read_text())["config"] == configs["top 2"]
