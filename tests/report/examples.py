"""Made-up runs to render: a noisy function over a space like `nexception`, with every kind of failure and a random arm."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from naxcli.records.trial import config_id
from naxcli.report import ReportData

BITS = [*(f"activation_{position}" for position in ("1", "2", "3", "end")), *(f"normalization_{i}" for i in (1, 2, 3))]
CHOICES: dict[str, list[Any]] = {
    "kernel_size": [3, 5, 7, 9],
    "stem": ["conv", "patchify"],
    "pooling": ["max", "conv", "blur"],
    "block": ["xception", "bottleneck"],
    "se": ["no", "yes"],
    "activation": ["relu", "gelu", "elu", "celu"],
    "normalization": ["batch", "layer"],
    **{name: ["no", "yes"] for name in BITS},
}
GROUPS = {"activation_positions": BITS[:4], "normalization_positions": BITS[4:]}
XCEPTION = {name: values[0] for name, values in CHOICES.items()} | {
    name: "yes" for name in BITS if name != "activation_end"
}
NEXCEPTION = XCEPTION | {
    "kernel_size": 5,
    "stem": "patchify",
    "pooling": "blur",
    "block": "bottleneck",
    "se": "yes",
    "activation": "gelu",
    "activation_1": "no",
    "activation_3": "no",
    "normalization_3": "no",
}
FAILURES = {
    "crashed": "Traceback (most recent call last):\nRuntimeError: mat1 and mat2 shapes cannot be multiplied",
    "out_of_memory": "CUDA out of memory: tried to allocate 1.2 GiB",
    "diverged": "loss is nan in epoch 2",
    "timeout": "stopped after 900 s",
    "infeasible": "6.1M parameters, the limit is 5M",
}
FIDELITIES = (3, 9, 27)
_WEIGHTS = {
    "kernel_size": 0.02,
    "stem": 0.006,
    "pooling": 0.008,
    "block": 0.07,
    "se": 0.009,
    "activation": 0.005,
    "normalization": 0.03,
    **dict(zip(BITS, (0.004, 0.012, 0.003, 0.002, 0.018, 0.022, 0.006), strict=True)),
}


def true_cost(config: dict[str, Any], fidelity: float) -> float:
    """Return the noise-free cost of a configuration: block first, a kernel × block interaction, better with more epochs."""
    level = {name: CHOICES[name].index(config[name]) / (len(CHOICES[name]) - 1) for name in CHOICES}
    gain = sum(_WEIGHTS[name] * level[name] for name in ("stem", "pooling", "se", "activation", "block"))
    gain += _WEIGHTS["kernel_size"] * (1 - 4 * (level["kernel_size"] - 1 / 3) ** 2) * (0.5 + level["block"])
    gain -= sum(
        _WEIGHTS[name] * level[name] for name in ("normalization", "activation_1", "activation_3", "normalization_3")
    )
    gain += sum(
        _WEIGHTS[name] * level[name]
        for name in ("normalization_1", "normalization_2", "activation_2", "activation_end")
    )
    return 0.34 + 0.9 / (fidelity + 1.5) - gain


def example_data(num_trials: int = 400, *, seed: int = 0, hostile: str = "") -> ReportData:
    """Return a run of successive halving with `num_trials` trials, a tenth of them random, some failed.

    Args:
        hostile: text to put in every place that a stranger may write: names, values, errors, notes, settings.
    """
    rng = np.random.default_rng(seed)
    rows, curves = [], []
    clock = 1_790_000_000.0
    fidelities = rng.choice(FIDELITIES, size=num_trials, p=(0.68, 0.23, 0.09))
    pool: list[dict[str, Any]] = []
    for trial_id, fidelity in enumerate(map(int, fidelities), start=1):
        if fidelity > FIDELITIES[0] and pool:
            candidates = [pool[i] for i in rng.integers(len(pool), size=4)]
            config = min(candidates, key=lambda item: true_cost(item, fidelity))
        else:
            config = {name: values[rng.integers(len(values))] for name, values in CHOICES.items()}
            pool.append(config)
        status = str(rng.choice(["success", *FAILURES], p=[0.94, *[0.012] * 5]))
        cost = true_cost(config, fidelity) + float(rng.normal(0, 0.006)) if status == "success" else None
        seconds = float(fidelity * rng.uniform(8, 14)) if status != "infeasible" else 0.0
        started, clock = clock, clock + seconds / 4
        params = (
            300_000
            + 90_000 * CHOICES["kernel_size"].index(config["kernel_size"])
            + 700_000 * (config["block"] == "bottleneck")
        )
        rows.append(
            {
                "trial_id": trial_id,
                "config_id": config_id(config),
                "searcher": "random" if rng.random() < 0.1 else "smac",
                "bracket": 0,
                "rung": FIDELITIES.index(fidelity),
                "fidelity": float(fidelity),
                "seed": 0,
                "status": status,
                "cost": cost,
                "val_accuracy": None if cost is None else 1 - cost,
                "train_loss": None if cost is None else 3 * cost,
                "num_params": params + int(rng.integers(5_000)),
                "flops": 40 * params,
                "latency_ms": None,
                "peak_memory_bytes": 900 * 2**20,
                "seconds": seconds,
                "started_at": started,
                "ended_at": started + seconds,
                "worker": "w0",
                "device": "cuda:0",
                "parent_trial_id": None,
                "error": None if status == "success" else FAILURES[status] + hostile,
                **{f"config.{name}": value for name, value in config.items()},
            }
        )
        if cost is not None:
            for epoch in range(1, fidelity + 1):
                accuracy = 1 - cost - 0.5 * (1 / (epoch + 0.8) - 1 / (fidelity + 0.8))
                curves.append(
                    (
                        trial_id,
                        epoch,
                        4.6 - 3.5 * accuracy,
                        accuracy,
                        4.5 - 3.3 * accuracy,
                        0.002 * (1 - epoch / 28),
                        seconds / fidelity,
                    )
                )
    # As in the records: in the order in which the trials ended.
    trials = (
        pd.DataFrame(rows)
        .sort_values("ended_at", ignore_index=True)
        .astype({"cost": float, "val_accuracy": float, "latency_ms": float})
    )
    names = ["trial_id", "epoch", "train_loss", "val_accuracy", "val_loss", "learning_rate", "seconds"]
    data = ReportData(
        summary=_summary(trials, rng),
        trials=trials,
        curves=pd.DataFrame(curves, columns=names),
        environment={
            "schema": 1,
            "python": "3.11.7",
            "packages": {"naxcli": "0.1.0", "torch": "2.15.0", "smac": "2.4.1"},
            "command": ["naxcli", "search", "--space", "nexception"],
            "git": {"commit": "0123abcd4567ef890123abcd4567ef890123abcd", "patch": None},
            "hardware": {
                "host": "node7",
                "cores": 16,
                "memory_bytes": 64 * 2**30,
                "gpus": ["NVIDIA GeForce RTX 3090 Ti, 24564 MiB"],
            },
            "data": {"name": "cifar100", "sha256": "85cd44d02ba6437773c5bbd22e183051"},
        },
        experiment={
            "space": "nexception",
            "data": "cifar100",
            "searcher": "smac",
            "budget": "3d",
            "seed": seed,
            "random_share": 0.1,
        },
    )
    return _with_hostile_text(data, hostile) if hostile else data


def with_numbers(data: ReportData) -> ReportData:
    """Return the run with a log float, a conditional float, a log integer, a small integer, and an ordinal of floats as well."""
    rng = np.random.default_rng(1)
    config = data.trials.groupby("config_id").ngroup().to_numpy()
    count = config.max() + 1
    block = data.trials.groupby("config_id")["config.block"].first().to_numpy()
    columns: dict[str, Any] = {
        "learning_rate": 10.0 ** rng.uniform(-5, 0, count),
        "momentum": np.where(block == "xception", rng.uniform(0.5, 0.99, count), np.nan),
        "hidden_width": (2 ** rng.uniform(4, 10, count)).astype(int),
        "num_layers": rng.integers(1, 9, count),
        "epsilon": rng.choice([1e-8, 1e-6, 1e-4], count),
    }
    values: dict[str, list[Any]] = {
        "learning_rate": list(10.0 ** np.linspace(-5, 0, 16)),
        "momentum": list(np.linspace(0.5, 0.99, 16)),
        "hidden_width": [int(width) for width in 2 ** np.linspace(4, 10, 16)],
        "num_layers": list(range(1, 9)),
        "epsilon": [1e-8, 1e-6, 1e-4],
    }
    # The incumbent is a bottleneck: without momentum.
    incumbent = data.summary["incumbent"]["config"] | {
        "learning_rate": 3e-4,
        "hidden_width": 300,
        "num_layers": 4,
        "epsilon": 1e-6,
    }
    curves = [
        {"name": name, "values": chosen, "mean": list(np.linspace(0.3, 0.25, len(chosen))), "std": [0.01] * len(chosen)}
        for name, chosen in values.items()
    ]
    importance = [
        entry | {"partial_dependence": [*entry["partial_dependence"], *curves]} for entry in data.summary["importance"]
    ]
    return replace(
        data,
        summary={
            **data.summary,
            "importance": importance,
            "incumbent": data.summary["incumbent"] | {"config": incumbent},
        },
        trials=data.trials.assign(**{f"config.{name}": column[config] for name, column in columns.items()}),
        scales={"learning_rate": "log", "momentum": "linear", "hidden_width": "log", "num_layers": "linear"},
    )


def _config(row: pd.Series) -> dict[str, Any]:
    return {name: row[f"config.{name}"] for name in CHOICES}


def _spread(mean: float, rng: np.random.Generator) -> dict[str, Any]:
    half = 0.02 + 0.15 * mean
    return {
        "mean": mean,
        "std": half / 2 * float(rng.uniform(0.7, 1.3)),
        "low": max(0.0, mean - half),
        "high": min(1.0, mean + half),
    }


def _importance(
    trials: pd.DataFrame, incumbent: dict[str, Any], fidelity: int, rng: np.random.Generator
) -> dict[str, Any]:
    weights = {name: (_WEIGHTS[name] * (1 + 0.3 * rng.normal())) ** 2 for name in CHOICES}
    if fidelity == FIDELITIES[0]:
        weights["normalization"], weights["block"] = weights["block"], weights["normalization"] * 2
    total = sum(weights.values())
    order = sorted(CHOICES, key=lambda name: -weights[name])
    lpi = [
        {"name": n, **_spread(weights[n] / total, rng), "rank_group": 1 + order.index(n) // 3, "inactive": False}
        for n in CHOICES
    ]
    lpi[-1] |= {"mean": None, "std": None, "low": None, "high": None, "rank_group": None, "inactive": True}
    mains = [
        {"names": [n], **_spread(0.85 * weights[n] / total, rng), "rank_group": 1 + order.index(n) // 3}
        for n in CHOICES
    ]
    pairs = [
        {
            "names": list(pair),
            **_spread(float(0.1 * weights[pair[0]] * weights[pair[1]] / total**2), rng),
            "rank_group": 1,
        }
        for pair in itertools.combinations(CHOICES, 2)
    ]
    default, path, cost = dict(XCEPTION), [], true_cost(XCEPTION, fidelity)
    path.append({"name": "default", "from": None, "to": None, "cost": cost})
    shapley = []
    for name in [name for name in order if XCEPTION[name] != incumbent[name]]:
        default[name] = incumbent[name]
        path.append({"name": name, "from": XCEPTION[name], "to": incumbent[name], "cost": true_cost(default, fidelity)})
        gain = path[-2]["cost"] - path[-1]["cost"]
        shapley.append({"name": name, "value": gain, "low": gain - 0.003, "high": gain + 0.003})
    here = trials[(trials["fidelity"] == fidelity) & (trials["status"] == "success")]
    return {
        "fidelity": float(fidelity),
        "num_trials": len(here),
        "num_configs": here["config_id"].nunique(),
        "r2": 0.81,
        "survivors_of": None if fidelity == FIDELITIES[0] else int(trials["config_id"].nunique()),
        "note": None,
        "lpi": lpi,
        "fanova": mains + pairs,
        "groups": [
            {
                "name": group,
                "members": members,
                "lpi": _spread(sum(weights[n] for n in members) / total, rng) | {"rank_group": 2},
                "fanova": _spread(0.9 * sum(weights[n] for n in members) / total, rng) | {"rank_group": 2},
            }
            for group, members in GROUPS.items()
        ],
        "ablation": path,
        "shapley": shapley,
        "ped_anova": [
            {
                "name": name,
                **_spread(weights[name] / total, rng),
                "matters": number < 5,
                "value": incumbent[name],
                "target_share": 0.9,
                "region_share": 0.55,
                "region_value": None,
            }
            for number, name in enumerate(order)
        ],
        "quantiles": {"target": 0.1, "region": 0.5, "num_target": len(here) // 10, "num_region": len(here) // 2},
        "tunability": [
            {
                "name": name,
                **_spread(_WEIGHTS[name], rng),
                "matters": number < 4,
                "from": XCEPTION[name],
                "to": incumbent[name],
            }
            for number, name in enumerate(order)
        ],
        "partial_dependence": [
            {
                "name": name,
                "values": CHOICES[name],
                "mean": [true_cost(incumbent | {name: value}, fidelity) for value in CHOICES[name]],
                "std": [0.01] * len(CHOICES[name]),
            }
            for name in CHOICES
        ],
    }


def _tenth(name: str, trials: pd.DataFrame, number: int) -> dict[str, Any]:
    """Return the entry of a tenth: its channels rise straight at the top and late at the bottom; the last have no spread."""
    widths = [24 + 70 * (block / 8) ** (1 + 2 * number) for block in range(9)]
    return {
        "tenth": name,
        "num_configs": 4,
        "cost": {"mean": 0.2 + 0.1 * number, "std": 0.01},
        "val_accuracy": {"mean": 0.8 - 0.1 * number, "std": 0.01},
        "num_params": {"mean": float(trials["num_params"].mean()), "std": 2_000.0},
        "flops": {"mean": None, "std": None},
        "profiles": {
            "channels": [
                {"block": block, "num_configs": 4, "mean": width, "std": None if block == 9 else 2.0 + number}
                for block, width in enumerate(widths, start=1)
            ]
        },
    }


def _summary(trials: pd.DataFrame, rng: np.random.Generator) -> dict[str, Any]:
    successes = trials[trials["status"] == "success"].sort_values("ended_at")
    top = successes[successes["fidelity"] == successes["fidelity"].max()]
    best = top.loc[top["cost"].idxmin()]
    incumbent, fidelity = _config(best), int(best["fidelity"])
    spent = trials.sort_values("ended_at")["seconds"].cumsum()
    trajectory, lowest = [], np.inf
    for index, row in top.iterrows():
        if row["cost"] < lowest:
            lowest = row["cost"]
            trajectory.append(
                {
                    "trial_id": int(row["trial_id"]),
                    "ended_at": row["ended_at"],
                    "cost": lowest,
                    "elapsed_seconds": row["ended_at"] - trials["started_at"].min(),
                    "trial_seconds_sum": spent[index],
                }
            )
    references = [
        {
            "name": name,
            "config": config,
            "cost": cost,
            "fidelity": fidelity if cost else None,
            "num_seeds": 1 if cost else 0,
            "predicted_cost": true_cost(config, fidelity),
            "difference": true_cost(config, fidelity) - float(best["cost"]),
        }
        for name, config, cost in (
            ("xception", XCEPTION, true_cost(XCEPTION, fidelity)),
            ("default", XCEPTION, None),
            ("nexception", NEXCEPTION, None),
        )
    ]
    failed = trials[trials["status"] != "success"]
    front, smallest = [], np.inf
    for _, row in top.sort_values("cost").iterrows():
        if row["num_params"] < smallest:
            smallest = row["num_params"]
            front.append(
                {
                    "trial_id": int(row["trial_id"]),
                    "config_id": row["config_id"],
                    "cost": row["cost"],
                    "num_params": int(row["num_params"]),
                    "flops": int(row["flops"]),
                    "latency_ms": None,
                }
            )
    return {
        "run": "runs/nexception-cifar100",
        "space": "nexception",
        "seed": 0,
        "incumbent": {
            "config": incumbent,
            "cost": float(best["cost"]),
            "fidelity": float(fidelity),
            "num_seeds": 1,
            "config_id": best["config_id"],
            "trial_id": int(best["trial_id"]),
        },
        "references": references,
        "trials": trials["status"].value_counts().to_dict(),
        "failures": [
            {"status": status, "count": len(rows), "example": str(rows["error"].iloc[0]).splitlines()[-1]}
            for status, rows in failed.groupby("status")
        ],
        "failure_rates": [
            {
                "name": "kernel_size",
                "value": value,
                "from": None,
                "to": None,
                "num_trials": 80,
                "num_failed": num_failed,
                "rate": num_failed / 80,
                "low": num_failed / 100,
                "high": num_failed / 60,
                "other_rate": 0.06,
                "matters": value == 9,
                "statuses": {"out_of_memory": num_failed - 1, "crashed": 1},
            }
            for value, num_failed in ((9, 18), (7, 5), (5, 4), (3, 5))
        ],
        "trajectory": trajectory,
        "importance": [
            _importance(trials, incumbent, level, rng) for level in FIDELITIES if (successes["fidelity"] == level).any()
        ],
        "importance_changes": [
            {
                "fidelity": fidelity,
                "to": 27.0,
                "changes": [
                    {
                        "method": method,
                        "name": name,
                        "before": 0.5 - change,
                        "after": 0.5,
                        "difference": change,
                        "low": change - 0.1,
                        "high": change + 0.1,
                        "matters": abs(change) > 0.1,
                    }
                    for method in ("lpi", "fanova")
                    for name, change in (("block", 0.22), ("normalization", -0.31), ("stem", 0.04))
                ],
                "orders": [
                    {"method": method, "num_hyperparameters": 5, "kendall": 0.4, "low": -0.2, "high": 0.8}
                    for method in ("lpi", "fanova")
                ],
            }
            for fidelity in (3.0, 9.0)
        ],
        "proxy_audit": [
            {
                "fidelity": 3.0,
                "to": 27.0,
                "num_configs": 31,
                "spearman": 0.58,
                "kendall": 0.42,
                "low": 0.28,
                "high": 0.79,
                "verdict": "weak: 3 epochs misleads at the top",
            },
            {
                "fidelity": 9.0,
                "to": 27.0,
                "num_configs": 31,
                "spearman": 0.86,
                "kendall": 0.69,
                "low": 0.72,
                "high": 0.94,
                "verdict": "good",
            },
        ],
        "random_arm": {
            "num_searcher": 360,
            "num_random": 40,
            "num_searcher_in_all": 360,
            "num_random_in_all": 40,
            "is_equal_time": True,
            "searcher_best": 0.2301,
            "random_best": 0.2388,
            "difference": -0.0087,
            "low": -0.0151,
            "high": -0.0012,
            "verdict": "the searcher beat random",
        },
        "marginal_value": {
            "per_day_improvement": 0.0021,
            "low": 0.0,
            "high": 0.0063,
            "method": "power law through the trajectory",
        },
        "pareto": front,
        "tenths": [_tenth(name, top, number) for number, name in enumerate(("top", "middle", "bottom"))],
        "trade_offs": [
            {
                "objective": "num_params",
                "fidelity": 27.0,
                "num_trials": 31,
                "weights": [
                    {
                        "cost_weight": weight,
                        "fanova": [
                            {
                                "name": name,
                                **_spread(weight * share + (1 - weight) * (0.5 - share), rng),
                                "rank_group": 1,
                                "matters": share < 0.45 or weight > 0,
                            }
                            for name, share in (("block", 0.3), ("kernel_size", 0.1), ("normalization", 0.49))
                        ],
                    }
                    for weight in (1.0, 0.75, 0.5, 0.25, 0.0)
                ],
            }
        ],
        "warnings": [
            "rank correlation of 3 epochs to 27 is 0.58: promotions from this rung may drop good configurations",
            "fewer trials (30) at 27 epochs than needed to tell apart the ranks below 3",
        ],
    }


def _empty_summary(trials: pd.DataFrame, importance: list[dict[str, Any]]) -> dict[str, Any]:
    failed = trials[trials["status"] != "success"] if len(trials) else trials
    return {
        "run": "runs/empty",
        "space": "nexception",
        "seed": 0,
        "incumbent": None,
        "references": [],
        "trials": trials["status"].value_counts().to_dict() if len(trials) else {},
        "failures": [
            {"status": s, "count": len(rows), "example": rows["error"].iloc[0]} for s, rows in failed.groupby("status")
        ]
        if len(failed)
        else [],
        "trajectory": [],
        "importance": importance,
        "proxy_audit": [],
        "random_arm": None,
        "marginal_value": None,
        "pareto": [],
        "warnings": ["no trial has succeeded"],
    }


def empty_run() -> ReportData:
    """Return a run in which no trial has finished."""
    trials = example_data(5).trials.iloc[:0]
    return ReportData(summary=_empty_summary(trials, []), trials=trials)


def all_failed() -> ReportData:
    """Return a run in which every trial failed."""
    trials = example_data(20).trials.copy()
    trials["status"], trials["error"], trials["cost"], trials["val_accuracy"] = "crashed", "boom", np.nan, np.nan
    return ReportData(summary=_empty_summary(trials, []), trials=trials)


def one_trial() -> ReportData:
    """Return a run with one success, where no importance can be computed."""
    data = example_data(60)
    trials = data.successes[data.successes["trial_id"] == data.summary["incumbent"]["trial_id"]]
    entry = {
        "fidelity": 27.0,
        "num_trials": 1,
        "num_configs": 1,
        "r2": None,
        "survivors_of": None,
        "lpi": None,
        "fanova": None,
        "note": "importance needs at least 2 configurations, there is 1",
        "groups": None,
        "ablation": None,
        "shapley": None,
        "partial_dependence": None,
    }
    summary = _empty_summary(trials, [entry]) | {
        "incumbent": data.summary["incumbent"],
        "warnings": [],
        "trials": {"success": 1},
    }
    return ReportData(summary=summary, trials=trials)


def _with_hostile_text(data: ReportData, text: str) -> ReportData:
    def poison(value: Any) -> Any:
        if isinstance(value, str):
            # Names of methods and tenths are naxcli's own.
            return value if value in ("lpi", "fanova", "top", "middle", "bottom") else value + text
        if isinstance(value, dict):
            return {key if key in FIXED_KEYS else f"{key}{text}": poison(item) for key, item in value.items()}
        return [poison(item) for item in value] if isinstance(value, list) else value

    summary = poison({**data.summary}) | {"trials": data.summary["trials"]}
    trials = data.trials.rename(columns=lambda name: name + text if name.startswith("config.") else name)
    for name in [
        *(name for name in trials if name.startswith("config.") and trials[name].dtype == object),
        "worker",
        "config_id",
    ]:
        trials[name] = trials[name] + text
    scales = {name + text: scale for name, scale in data.scales.items()}
    return ReportData(
        summary=summary,
        trials=trials,
        scales=scales,
        curves=data.curves,
        environment=poison({**data.environment}),
        experiment=poison({**data.experiment}),
        confirmation=poison(CONFIRMATION),
    )


CONFIRMATION = {
    "schema": 1,
    "settings": {"num_seeds": 5},
    "results": [],
    "sentence": "trial 7 gains 3.1 points over xception.",
    "verdict": {
        "winner": "trial 7",
        "num_seeds": 5,
        "num_candidates": 1,
        "left_out": [],
        "gains": [],
        "optimism": None,
        "sentence": "trial 7 gains 3.1 points over xception.",
        "costs": [
            {"name": "trial 7", "mean": 0.226, "low": 0.221, "high": 0.231, "search_cost": 0.207},
            {"name": "xception", "mean": 0.257, "low": 0.251, "high": 0.263, "search_cost": None},
        ],
    },
}


# Keys of the summary itself; the others are names of hyperparameters, versions and settings.
FIXED_KEYS = frozenset(
    """
    run space seed incumbent config cost fidelity num_seeds config_id trial_id references name predicted_cost difference trials
    failures status count example trajectory ended_at elapsed_seconds trial_seconds_sum importance num_trials num_configs r2
    survivors_of note lpi fanova names mean std low high rank_group matters inactive groups members ablation from to shapley value
    trade_offs objective weights cost_weight fanova
    importance_changes changes orders before after num_hyperparameters
    failure_rates num_failed rate other_rate statuses
    ped_anova target_share region_share region_value quantiles target region num_target num_region tunability
    partial_dependence values proxy_audit spearman kendall verdict random_arm num_searcher num_random searcher_best random_best
    num_searcher_in_all num_random_in_all is_equal_time
    difference marginal_value per_day_improvement method pareto num_params flops latency_ms warnings
    schema settings results sentence winner num_candidates
    left_out gains optimism costs search_cost
    tenths tenth val_accuracy profiles block
    """.split()  # noqa: SIM905
)
