"""What `naxcli report` says about one fidelity: every method's numbers with their intervals, or why there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from naxcli.analysis.ablation import Step
from naxcli.analysis.components import part_codes
from naxcli.analysis.encoding import Encoding, Floats, distinct_rows
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted of each fidelity; see `summarise`."""

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
    survivors_of: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Answer:
    """Return the importance of the hyperparameters among the successful trials of one fidelity.

    Args:
        fidelity: of the trials.
        vectors: (num_trials, num_hyperparameters), rows of ConfigSpace vectors.
        costs: (num_trials,), finite.
        request: what is wanted.
        survivors_of: configurations at the lowest rung of which these are the promoted ones, if they are.
        progress: called with resamples done and in all.
    """
    order = np.lexsort([costs, *np.nan_to_num(vectors, nan=-1.0).T])
    vectors, costs = vectors[order], costs[order]
    num_configs = len(distinct_rows(vectors)[0]) if len(vectors) else 0
    entry: dict[str, Any] = {
        "fidelity": fidelity,
        "num_trials": len(costs),
        "num_configs": num_configs,
        "r2": None,
        "survivors_of": survivors_of,
        "note": _reason(costs, num_configs, request.encoding),
    }
    if entry["note"] is not None:
        return Answer(entry=entry | _tables({}, request), forest=None, warnings=())
    forest = fit_forest(
        request.encoding,
        vectors,
        costs,
        seed=request.seed,
        is_exact=request.is_exact,
        num_jobs=2 if len(costs) > MANY_TRIALS else 1,
    )
    entry["r2"] = out_of_bag_r2(forest, vectors, costs)
    question = ask(
        forest,
        request.default,
        request.incumbent,
        groups=request.groups,
        methods=request.methods,
        lpi=request.lpi,
        seed=request.seed,
    )
    found, explained = estimate(forest, question)
    if request.num_resamples > 0 and not request.is_exact:
        intervals = resampled_intervals(
            vectors, costs, question, num_resamples=request.num_resamples, seed=request.seed, progress=progress
        )
        found = {key: _with_interval(value, intervals.get(key)) for key, value in found.items()}
    constant = frozenset(
        domain.name for domain in request.encoding.domains if len(distinct_rows(vectors[:, [domain.index]])[0]) == 1
    )
    tables = _tables(found, request, question=question, explained=explained, constant=constant)
    return Answer(
        entry=entry | tables,
        forest=forest,
        warnings=_warnings(entry, tables, request, constant=constant, vectors=vectors),
    )


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


def _tables(
    found: Mapping[Key, Estimate],
    request: Request,
    *,
    question: Question | None = None,
    explained: Effects | None = None,
    constant: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Return the tables of an entry; what has no number is null."""
    names = [domain.name for domain in request.encoding.domains]
    # What never varied among the trials cannot have been learned about: no number, rather than a zero.
    found = {
        key: NOT_AVAILABLE if key[0] in ("lpi", "fanova") and constant.intersection(key[1:]) else value
        for key, value in found.items()
    }
    wants_lpi, wants_fanova = "lpi" in request.methods, "fanova" in request.methods
    inactive = {domain.name for domain in request.encoding.domains if np.isnan(request.incumbent[domain.index])}
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
        "partial_dependence": _partial_dependence(explained, request.encoding),
        **({"lpi_method": request.lpi} if wants_lpi else {}),
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


def _ablation(found: Mapping[Key, Estimate], question: Question | None) -> list[dict[str, Any]]:
    if question is None or question.steps is None:
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


def _partial_dependence(explained: Effects | None, encoding: Encoding) -> list[dict[str, Any]]:
    if explained is None:
        return []
    return [
        {
            "name": domain.name,
            "values": [encoding.value(domain.name, code) for code in part_codes(domain)],
            "mean": explained.marginals[domain.name].mean(axis=0).tolist(),
            "std": explained.marginals[domain.name].std(axis=0).tolist(),
        }
        for domain in encoding.domains
    ]


def _warnings(
    entry: Mapping[str, Any], tables: Mapping[str, Any], request: Request, *, constant: frozenset[str], vectors: Floats
) -> tuple[str, ...]:
    at = f"at fidelity {entry['fidelity']:g}"
    found = []
    num_hyperparameters = len(request.encoding.domains)
    if entry["num_trials"] < num_hyperparameters:
        found.append(f"{at}: fewer trials ({entry['num_trials']}) than hyperparameters ({num_hyperparameters})")
    if entry["survivors_of"] is not None:
        found.append(
            f"{at}: survivors only, {entry['num_configs']:,} of {entry['survivors_of']:,} configurations: "
            "importance among the best differs from importance in the space"
        )
    if entry["r2"] is not None and entry["r2"] < WEAK_R2:
        found.append(f"{at}: the forest explains little (out-of-bag R² {entry['r2']:.2f}), importance is unreliable")
    if constant:
        found.append(f"{at}: never varied, so nothing is known about {', '.join(sorted(constant))}")
    untried = [text for domain in request.encoding.domains for text in _untried(request.encoding, domain.name, vectors)]
    untried = [text for text in untried if text not in request.merged]
    if untried:
        more = f" and {len(untried) - 5} more" if len(untried) > 5 else ""
        found.append(f"{at}: never tried: {', '.join(untried[:5])}{more}")
    path = tables["ablation"]
    if len(path) > 1 and path[-1]["cost"] >= path[0]["cost"]:
        found.append(f"{at}: the forest predicts the incumbent no better than the default")
    return tuple(found)


def _untried(encoding: Encoding, name: str, vectors: Floats) -> list[str]:
    """Return the choices of a categorical hyperparameter that no trial had, unless it had one choice only."""
    domain = encoding.domain(name)
    tried = np.unique(vectors[:, domain.index])
    if domain.kind != "categorical" or domain.values is None or len(tried[~np.isnan(tried)]) < 2:
        return []
    return [f"{name}={encoding.value(name, code)}" for code in np.setdiff1d(domain.values, tried)]
