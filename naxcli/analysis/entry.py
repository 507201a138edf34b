"""The tables of one fidelity in `report --json`, from the estimates of every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from naxcli.analysis.ablation import Step
from naxcli.analysis.components import NUM_CELLS, part_codes
from naxcli.analysis.encoding import Domain, Encoding, Flags, Floats
from naxcli.analysis.fanova import Effects, pairs_of
from naxcli.analysis.importance import NOT_AVAILABLE, Estimate, Key, Question, ranked_numbers
from naxcli.analysis.ped_anova import ped_anova
from naxcli.analysis.request import Request


def no_tables(request: Request) -> dict[str, Any]:
    """Return the tables of an entry without any number."""
    tables = ("lpi", "fanova", "groups", "ablation", "shapley", "ped_anova", "tunability", "partial_dependence")
    return {**{name: [] for name in tables}, "quantiles": None, **_lpi_method(request)}


def _lpi_method(request: Request) -> dict[str, str]:
    return {"lpi_method": request.lpi} if "lpi" in request.methods else {}


def tables_of(
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
        "tunability": _tunability(found, question),
        "partial_dependence": _partial_dependence(explained, request.encoding, vectors),
        **_lpi_method(request),
    }


def _spread(found: Estimate) -> dict[str, float | None]:
    return {"mean": found.mean, "std": found.std, "low": found.low, "high": found.high}


def _ranked(found: Mapping[Key, Estimate], keys: Sequence[Key]) -> list[tuple[Key, dict[str, Any]]]:
    """Return the estimates with their rank groups, largest first; those without a number come last, by name."""
    rows = zip(keys, ranked_numbers([found.get(key, NOT_AVAILABLE) for key in keys]), strict=True)
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


def _tunability(found: Mapping[Key, Estimate], question: Question) -> list[dict[str, Any]]:
    """Return what tuning each hyperparameter gains, with its value in the default and its best one."""
    if question.tuning is None:
        return []
    encoding, best = question.encoding, question.best_values
    return [
        {
            "name": key[1],
            **numbers,
            "from": encoding.value(key[1], question.default[encoding.domain(key[1]).index]),
            "to": encoding.value(key[1], best[key[1]]),
        }
        for key, numbers in _ranked(found, [("tunability", name) for name in question.tuning.parts])
    ]


def separation(vectors: Floats, costs: Floats, request: Request) -> dict[str, Any]:
    """Return what tells the best trials from the good ones, and how many there are of both."""
    if "ped_anova" not in request.methods:
        return {"ped_anova": [], "quantiles": None}
    separated = ped_anova(
        request.encoding,
        vectors,
        costs,
        request.quantiles,
        seed=request.seed,
        has_intervals=request.num_draws > 0 and not request.is_exact,
    )
    found: dict[Key, Estimate] = {("ped_anova", name): row.estimate for name, row in separated.rows.items()}
    return {
        "ped_anova": [
            {"name": key[1], **numbers, "optuna": separated.rows[key[1]].optuna, **separated.rows[key[1]].typical}
            for key, numbers in _ranked(found, list(found))
        ],
        "quantiles": separated.counts(request.quantiles),
    }


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
