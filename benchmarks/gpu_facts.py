"""The facts of a study that `make gpu` ran, for the page that its findings are written on.

    python -m benchmarks.gpu_facts OUT

Writes OUT/facts.md from what is there: environment, trials by rung and status, importance by rung with the questions that the
paper answers, the confirmation, the benchmarks. Says nothing about what is missing yet.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu import read_results, table

SMALL = ("stem", "pooling", "se")
SMALL_BELOW = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    sections = [*environment(out / "run"), *trials(out / "run"), *importance(out / "run"), *confirmation(out / "run")]
    results = read_results(out / "bench") if (out / "bench").is_dir() else {}
    if results:
        sections += ["## Benchmarks", table(results)]
    (out / "facts.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def environment(run: Path) -> Iterator[str]:
    found = read(run / "environment.json")
    if not found:
        return
    hardware, packages, data = found["hardware"], found["packages"], found["data"] or {}
    yield "## Where and with what"
    yield "\n".join(
        [
            f"* {', '.join(hardware['gpus']) or 'no GPU'}; {hardware['processor']}, {hardware['cores']} cores",
            f"* Python {found['python']}; " + ", ".join(f"{name} {value}" for name, value in packages.items() if value),
            f"* {data.get('name')}: {data.get('num_images'):,} training images, "
            + ("the official content" if data.get("is_official") else "not the official content"),
            f"* commit {found['git']['commit']}",
        ]
    )


def trials(run: Path) -> Iterator[str]:
    if not (run / "trials.parquet").exists():
        return
    rows = pd.read_parquet(run / "trials.parquet")
    if rows.empty:
        return
    counts = rows.groupby(["fidelity", "status"]).size().unstack(fill_value=0)
    wall = pd.Timedelta(rows["ended_at"].max() - rows["started_at"].min(), unit="s").total_seconds()
    yield "## Trials"
    yield "\n".join(
        [
            f"| epochs | {' | '.join(counts.columns)} | median s |",
            "|---" * (len(counts.columns) + 2) + "|",
            *(
                f"| {fidelity:g} | {' | '.join(str(value) for value in row)} | "
                f"{rows.loc[rows['fidelity'] == fidelity, 'seconds'].median():.1f} |"
                for fidelity, row in zip(counts.index, counts.to_numpy(), strict=True)
            ),
        ]
    )
    yield (
        f"{len(rows)} trials, {rows['config_id'].nunique()} configurations, {rows['seconds'].sum():,.0f} s of trials, "
        f"{wall:,.0f} s from the first one's start to the last one's end."
    )


def importance(run: Path) -> Iterator[str]:
    if not (run / "trials.parquet").exists():
        return
    command = [
        sys.executable,
        "-m",
        "naxcli",
        "report",
        str(run),
        "--json",
        "--at",
        "all",
        "--method",
        "lpi",
        "--quiet",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return
    found = json.loads(done.stdout)
    orders = {}
    yield "## Importance (LPI)"
    for entry in found["importance"]:
        rows = sorted((row for row in entry["lpi"] if row["mean"] is not None), key=lambda row: -row["mean"])
        if not rows:
            continue
        orders[entry["fidelity"]] = [row["name"] for row in rows]
        shares = ", ".join(f"{row['name']} {row['mean']:.3f} ({_interval(row)})" for row in rows)
        small = {row["name"]: row["mean"] for row in rows if row["name"] in SMALL}
        below = ", ".join(f"{name} {'yes' if value < SMALL_BELOW else 'no'}" for name, value in small.items())
        yield (
            f"* {entry['fidelity']:g} epochs, {entry['num_trials']} trials, R2 {_number(entry['r2'])}: {shares}. "
            f"First: {rows[0]['name']}. Below {SMALL_BELOW}: {below}."
        )
    ranks = pd.DataFrame({name: pd.Series({item: i for i, item in enumerate(order)}) for name, order in orders.items()})
    if len(orders) > 1 and ranks.notna().all(axis=1).sum() > 2:
        correlation = ranks.corr(method="spearman").round(2)
        pairs = [
            f"{first:g} and {second:g} epochs {correlation.loc[first, second]:.2f}"
            for index, first in enumerate(orders)
            for second in list(orders)[index + 1 :]
        ]
        yield f"Rank correlation of the importances: {'; '.join(pairs)}."
    incumbent = found["incumbent"]
    yield f"Incumbent: cost {incumbent['cost']:.4f} at {incumbent['fidelity']:g} epochs, `{json.dumps(incumbent['config'])}`."
    if found["warnings"]:
        yield "\n".join(f"* warning: {warning}" for warning in found["warnings"])


def confirmation(run: Path) -> Iterator[str]:
    found: Mapping[str, Any] = read(run / "confirmation.json")
    if not found or not found.get("verdict"):
        return
    settings, verdict = found["settings"], found["verdict"]
    yield f"## Confirmation on the test set, {settings['num_seeds']} fresh seeds, {settings['epochs']:g} epochs"
    yield "\n".join(
        f"* {row['name']}: {_number(row['mean'])} ({_interval(row)}), search's {_number(row['search_cost'])}"
        for row in verdict["costs"]
    )
    yield str(verdict["sentence"])


def _interval(row: Mapping[str, Any]) -> str:
    return "no interval" if row.get("low") is None else f"{row['low']:.3f} to {row['high']:.3f}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    main()
