"""What `naxcli report` says about one fidelity: every method's numbers with their intervals, or why there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from naxcli.analysis.ablation import Step
from naxcli.analysis.components import NUM_CELLS, part_codes
from naxcli.analysis.encoding import Domain, Encoding, Flags, Floats, check_groups, distinct_rows
from naxcli.analysis.fanova import Effects, pairs_of
from naxcli.analysis.forest import MANY_TRIALS, Forest, fit_forest, out_of_bag_r2
from naxcli.analysis.importance import (
    NOT_AVAILABLE,
    Estimate,
    Key,
    Question,
    ask,
    estimate,
    rank_groups,
    resampled_intervals,
)

# Below this share of variance explained out of bag, importance describes the forest more than the networks.
WEAK_R2 = 0.2
# Hyperparameters or values that a warning names before it counts the rest.
MAX_NAMED = 5
FAILED_HOW = {"out_of_memory": "ran out of memory", "timeout": "timed out", "infeasible": "broke a limit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted of each fidelity; see `summarise`.

    `incumbent` is that of the highest fidelity; DeepCAVE's LPI takes `lpi_incumbent` where there is one.
    """

    encoding: Encoding
    groups: Mapping[str, tuple[str, ...]]
    default: Floats
    incumbent: Floats
    methods: Sequence[str]
    lpi: str
    num_resamples: int
    seed: int
    is_exact: bool
    merged: frozenset[str] = frozenset()
    lpi_incumbent: Floats | None = None


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
    """An entry of `importance`, the forest behind it (None where there is none), and warnings."""

    entry: dict[str, Any]
    forest: Forest | None
    warnings: tuple[str, ...]


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
        progress: called with resamples done and in all.
    """
    order = np.lexsort([costs, *np.nan_to_num(vectors, nan=-1.0).T])
    vectors, costs = vectors[order], costs[order]
    encoding = request.encoding.varied(vectors, incumbent=request.incumbent)
    entry = {"fidelity": fidelity, **_basis(vectors, costs, request, encoding, failures), "survivors_of": survivors_of}
    if entry["note"] is not None:
        return Answer(entry=entry | _no_tables(request), forest=None, warnings=())
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
    if request.num_resamples > 0 and not request.is_exact:
        intervals = resampled_intervals(
            vectors, costs, question, num_resamples=request.num_resamples, seed=request.seed, progress=progress
        )
        found = {key: _with_interval(value, intervals.get(key)) for key, value in found.items()}
    tables = _tables(found, asked, question, explained, vectors)
    return Answer(
        entry=entry | tables,
        forest=forest,
        warnings=_warnings(entry, tables, asked, vectors=vectors, failures=failures),
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
    if domain.values is None:
        return {}
    codes = np.setdiff1d(domain.values, vectors[:, domain.index])
    hows = {f"{domain.name}={encoding.value(domain.name, code)}": failures.how(domain.index, code) for code in codes}
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


def _with_interval(found: Estimate, interval: tuple[float, float] | None) -> Estimate:
    if found.mean is None or interval is None:
        return found
    # A resample holds fewer different trials, which moves its estimates a little; the interval always holds the estimate itself.
    low, high = min(interval[0], found.mean), max(interval[1], found.mean)
    return Estimate(mean=found.mean, std=found.std, low=low, high=high)


def _no_tables(request: Request) -> dict[str, Any]:
    tables = ("lpi", "fanova", "groups", "ablation", "shapley", "partial_dependence")
    return {**{name: [] for name in tables}, **_lpi_method(request)}


def _lpi_method(request: Request) -> dict[str, str]:
    return {"lpi_method": request.lpi} if "lpi" in request.methods else {}


def _tables(
    found: Mapping[Key, Estimate], request: Request, question: Question, explained: Effects | None, vectors: Floats
) -> dict[str, Any]:
    """Return the tables of an entry; what has no number is null."""
    names = [domain.name for domain in request.encoding.domains]
    wants_lpi, wants_fanova = "lpi" in request.methods, "fanova" in request.methods
    inactive = {domain.name for domain in request.encoding.domains if np.isnan(question.lpi_incumbent[domain.index])}
    lpi = _ranked(found, [("lpi", name) for name in names]) if wants_lpi else []
    mains = _ranked(found, [("fanova", name) for name in names]) if wants_fanova else []
    pairs = _ranked(found, [("fanova", *pair) for pair in pairs_of(request.encoding)]) if wants_fanova else []
    return {
        "lpi": [{"name": key[1], **numbers, "inactive": key[1] in inactive} for key, numbers in lpi],
        "fanova": [{"names": list(key[1:]), **numbers} for key, numbers in (*mains, *pairs)],
        "groups": [
            {
                "name": group,
                "members": list(members),
                "lpi": _spread(found.get(("group lpi", group), NOT_AVAILABLE)),
                "fanova": _spread(found.get(("group fanova", group), NOT_AVAILABLE)),
            }
            for group, members in request.groups.items()
        ],
        "ablation": _ablation(found, question),
        "shapley": _shapley(found, request),
        "partial_dependence": _partial_dependence(explained, request.encoding, vectors),
        **_lpi_method(request),
    }


def _spread(found: Estimate) -> dict[str, float | None]:
    return {"mean": found.mean, "std": found.std, "low": found.low, "high": found.high}


def _ranked(found: Mapping[Key, Estimate], keys: Sequence[Key]) -> list[tuple[Key, dict[str, Any]]]:
    """Return the estimates with their rank groups, largest first; those without a number come last, by name."""
    estimates = [found.get(key, NOT_AVAILABLE) for key in keys]
    rows = [
        (key, _spread(value) | {"rank_group": group})
        for key, value, group in zip(keys, estimates, rank_groups(estimates), strict=True)
    ]
    return sorted(rows, key=lambda row: (row[1]["mean"] is None, -(row[1]["mean"] or 0.0), row[0]))


def _ablation(found: Mapping[Key, Estimate], question: Question) -> list[dict[str, Any]]:
    if question.steps is None:
        return []
    encoding = question.encoding

    def point(number: int, name: str, before: Any, after: Any) -> dict[str, Any]:
        cost = found["ablation", str(number)]
        return {"name": name, "from": before, "to": after, "cost": cost.mean, "low": cost.low, "high": cost.high}

    def values(step: Step, row: Floats) -> Any:
        chosen = [encoding.value(name, row[encoding.domain(name).index]) for name in step.names]
        return chosen[0] if len(chosen) == 1 else ", ".join(map(str, chosen))

    return [point(0, "default", None, None)] + [
        point(number, ", ".join(step.names), values(step, step.before), values(step, step.after))
        for number, step in enumerate(question.steps, start=1)
    ]


def _shapley(found: Mapping[Key, Estimate], request: Request) -> list[dict[str, Any]]:
    if "shapley" not in request.methods:
        return []
    rows = []
    for domain in request.encoding.domains:
        default, incumbent = request.default[domain.index], request.incumbent[domain.index]
        if not np.array_equal(default, incumbent, equal_nan=True):
            value = found.get(("shapley", domain.name), NOT_AVAILABLE)
            rows.append(
                {
                    "name": domain.name,
                    "value": value.mean,
                    "low": value.low,
                    "high": value.high,
                    "standard_error": value.std,
                }
            )
    return sorted(rows, key=lambda row: (row["value"] is None, -abs(row["value"] or 0.0), row["name"]))


def _partial_dependence(explained: Effects | None, encoding: Encoding, vectors: Floats) -> list[dict[str, Any]]:
    if explained is None:
        return []
    curves = []
    for domain in encoding.domains:
        seen = _seen_parts(domain, vectors)
        marginal = explained.marginals[domain.name][:, seen]
        curves.append(
            {
                "name": domain.name,
                "values": [encoding.value(domain.name, code) for code in part_codes(domain)[seen]],
                "mean": marginal.mean(axis=0).tolist(),
                "std": marginal.std(axis=0).tolist(),
            }
        )
    return curves


def _seen_parts(domain: Domain, vectors: Floats) -> Flags:
    """Return which parts of a domain some trial had; of a number, those between the lowest and the highest that any had."""
    codes = vectors[:, domain.index]
    lower, upper = domain.cells(NUM_CELLS)
    if domain.kind == "numeric":
        within: Flags = (upper >= np.nanmin(codes)) & (lower <= np.nanmax(codes))
        return within
    return np.isin(lower, codes)


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
        untried += _untried(request.encoding, domain, vectors)
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


def _untried(encoding: Encoding, domain: Domain, vectors: Floats) -> list[str]:
    """Return the choices of a categorical hyperparameter that no trial with a cost had."""
    if domain.kind != "categorical" or domain.values is None:
        return []
    codes = np.setdiff1d(domain.values, vectors[:, domain.index])
    return [f"{domain.name}={encoding.value(domain.name, code)}" for code in codes]
