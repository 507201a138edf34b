"""What `naxcli report` says about one fidelity: every method's numbers with their intervals, or why there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from naxcli.analysis.changes import Measured
from naxcli.analysis.encoding import Domain, Encoding, Floats, check_groups, distinct_rows
from naxcli.analysis.entry import no_tables, separation, tables_of
from naxcli.analysis.forest import MANY_TRIALS, Forest, fit_forest, out_of_bag_r2
from naxcli.analysis.importance import Key, ask, estimate
from naxcli.analysis.intervals import Interval, posterior_intervals, with_interval
from naxcli.analysis.request import Request
from naxcli.measure.threads import one_thread

# Below this share of variance explained out of bag, importance describes the forest more than the networks.
WEAK_R2 = 0.2
# Hyperparameters or values that a warning names before it counts the rest.
MAX_NAMED = 5
# What is a share of the variance.
SHARES = frozenset({"lpi", "fanova"})
FAILED_HOW = {
    "out_of_memory": "ran out of memory",
    "timeout": "timed out",
    "infeasible": "broke a limit",
    "stopped": "was stopped early",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Trials without a cost: (num_trials, num_hyperparameters) vector rows, and their statuses."""

    vectors: Floats
    statuses: Sequence[str]

    def how(self, index: int, code: float) -> str | None:
        """Return how the trials with a value failed, None where there are none.

        Args:
            index: column of the hyperparameter.
            code: of the value.
        """
        statuses = [self.statuses[int(row)] for row in np.flatnonzero(self.vectors[:, index] == code)]
        counts = Counter(FAILED_HOW.get(status, status) for status in statuses).most_common()
        if not counts:
            return None
        how = counts[0][0] if len(counts) == 1 else f"failed ({', '.join(f'{num} {how}' for how, num in counts)})"
        return f"its only trial {how}" if len(statuses) == 1 else f"all its {len(statuses)} trials {how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An entry of `importance`, the forest behind it (None where there is none), warnings, and what differences are made of."""

    entry: dict[str, Any]
    forest: Forest | None
    warnings: tuple[str, ...]
    measured: Measured


def answer(
    fidelity: float,
    vectors: Floats,
    costs: Floats,
    request: Request,
    *,
    failures: Failures,
    survivors_of: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Answer:
    """Return the importance of the hyperparameters among the successful trials of one fidelity.

    What never varied among them counts as a constant of the space, in every method: it is in no neighbourhood, no sum, no group.

    Args:
        fidelity: of the trials.
        vectors: (num_trials, num_hyperparameters), rows of ConfigSpace vectors.
        costs: (num_trials,), finite.
        request: what is wanted.
        failures: the trials of this fidelity without a cost.
        survivors_of: configurations at the lowest rung of which these are the promoted ones, if they are.
        progress: called with draws done and in all.
    """
    order = np.lexsort([costs, *np.nan_to_num(vectors, nan=-1.0).T])
    vectors, costs = vectors[order], costs[order]
    encoding = request.encoding.varied(vectors, incumbent=request.incumbent, merged=request.merged)
    entry = {"fidelity": fidelity, **_basis(vectors, costs, request, encoding, failures), "survivors_of": survivors_of}
    if entry["note"] is not None:
        nothing = Measured(fidelity=fidelity, estimates={}, draws={})
        return Answer(entry=entry | no_tables(request), forest=None, warnings=(), measured=nothing)
    asked = _within(request, encoding)
    forest = fit_forest(
        encoding,
        vectors,
        costs,
        seed=request.seed,
        is_exact=request.is_exact,
        num_jobs=2 if len(costs) > MANY_TRIALS else 1,
    )
    entry["r2"] = out_of_bag_r2(forest, vectors, costs)
    question = ask(
        forest,
        asked.default,
        asked.incumbent,
        groups=asked.groups,
        methods=asked.methods,
        lpi=asked.lpi,
        lpi_incumbent=asked.lpi_incumbent,
        seed=asked.seed,
    )
    found, explained = estimate(forest, question)
    intervals: dict[Key, Interval] = {}
    if request.num_draws > 0 and not request.is_exact:
        with one_thread():  # of BLAS, beside the threads that draw: worst on a machine that a search keeps busy
            intervals = posterior_intervals(
                vectors, costs, question, num_draws=request.num_draws, seed=request.seed, progress=progress
            )
        found = {
            key: with_interval(value, intervals.get(key), is_share=key[0] in SHARES) for key, value in found.items()
        }
    tables = tables_of(found, asked, question, explained, vectors) | separation(vectors, costs, asked)
    return Answer(
        entry=entry | tables,
        forest=forest,
        warnings=_warnings(entry, tables, asked, vectors=vectors, failures=failures),
        measured=Measured(
            fidelity=fidelity, estimates=found, draws={key: interval.draws for key, interval in intervals.items()}
        ),
    )


def _basis(vectors: Floats, costs: Floats, request: Request, varied: Encoding, failures: Failures) -> dict[str, Any]:
    """Return the head of an entry: what its numbers rest on, or in `note` why there are none."""
    num_configs = len(distinct_rows(vectors)[0]) if len(vectors) else 0
    return {
        "num_trials": len(costs),
        "num_configs": num_configs,
        "r2": None,
        "survivors_of": None,
        "note": _reason(costs, num_configs, request.encoding),
        "never_varied": _never_varied(request.encoding, varied, vectors, failures) if len(costs) else [],
    }


def _within(request: Request, varied: Encoding) -> Request:
    """Return a request in which what never varied is a constant."""
    groups = check_groups(request.groups, varied)
    return replace(request, encoding=varied, groups=groups, default=varied.start(request.default))


def _never_varied(whole: Encoding, varied: Encoding, vectors: Floats, failures: Failures) -> list[dict[str, Any]]:
    """Return the hyperparameters of a space that had fewer than two values, with the one that they had (None: never active)."""
    found = []
    for domain in whole.domains:
        if domain.name in varied.fixed:
            is_seen = bool((vectors[:, domain.index] == varied.fixed[domain.name]).any())
            code = varied.fixed[domain.name] if is_seen else np.nan
            failed = _failed_values(whole, domain, vectors, failures)
            reason = _first([f"{value}: {how}" for value, how in failed.items()]) or None
            found.append({"name": domain.name, "value": whole.value(domain.name, code), "reason": reason})
    return found


def _failed_values(encoding: Encoding, domain: Domain, vectors: Floats, failures: Failures) -> dict[str, str]:
    """Return each listed value that no trial with a cost had because all its trials failed, and how they did."""
    hows = {text: failures.how(domain.index, code) for text, code in encoding.unseen(domain, vectors).items()}
    return {value: how for value, how in hows.items() if how is not None}


def _reason(costs: Floats, num_configs: int, encoding: Encoding) -> str | None:
    if len(costs) == 0:
        return "no trial succeeded at this fidelity"
    if not encoding.domains:
        return "the space has nothing to choose"
    if num_configs < 2:
        return "one configuration only: nothing to compare"
    if np.ptp(costs) == 0:
        return "all costs are equal: no variance to explain"
    return None


def _warnings(
    entry: Mapping[str, Any], tables: Mapping[str, Any], request: Request, *, vectors: Floats, failures: Failures
) -> tuple[str, ...]:
    at = f"at fidelity {entry['fidelity']:g}"
    found = []
    num_hyperparameters = len(request.encoding.domains) + len(entry["never_varied"])
    if entry["num_trials"] < num_hyperparameters:
        found.append(f"{at}: fewer trials ({entry['num_trials']}) than hyperparameters ({num_hyperparameters})")
    if entry["survivors_of"] is not None:
        found.append(
            f"{at}: survivors only, {entry['num_configs']:,} of {entry['survivors_of']:,} configurations: "
            "importance among the best differs from importance in the space"
        )
    if entry["r2"] is not None and entry["r2"] < WEAK_R2:
        found.append(f"{at}: the forest explains little (out-of-bag R² {entry['r2']:.2f}), importance is unreliable")
    if entry["never_varied"]:
        known = [f"{row['name']} ({row['reason']})" if row["reason"] else row["name"] for row in entry["never_varied"]]
        found.append(f"{at}: never varied, so nothing is known about {', '.join(known)}")
    failed: dict[str, str] = {}
    untried: list[str] = []
    for domain in request.encoding.domains:
        if domain.kind != "numeric":
            failed |= _failed_values(request.encoding, domain, vectors, failures)
        if domain.kind == "categorical":
            untried += request.encoding.unseen(domain, vectors)
    if failed:
        found.append(f"{at}: without a result: {_first([f'{value} ({how})' for value, how in failed.items()])}")
    untried = [text for text in untried if text not in request.merged and text not in failed]
    if untried:
        found.append(f"{at}: never tried: {_first(untried)}")
    path = tables["ablation"]
    if len(path) > 1 and path[-1]["cost"] >= path[0]["cost"]:
        found.append(f"{at}: the forest predicts the incumbent no better than the default")
    return tuple(found)


def _first(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MAX_NAMED} more" if len(texts) > MAX_NAMED else ""
    return ", ".join(texts[:MAX_NAMED]) + more
