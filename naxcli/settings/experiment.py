"""Experiment: the settings of a run, checked and frozen, and how a file holds them."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w

from naxcli.errors import NaxcliError, did_you_mean
from naxcli.settings.choices import PROMOTIONS, SEARCHER_MODELS, SEARCHERS, searcher_file, searcher_name
from naxcli.settings.connection import Connection
from naxcli.settings.evolution import FORMER_DEFAULTS, evolution_defaults
from naxcli.settings.fidelity import FidelityCosts, FidelityRange
from naxcli.settings.former_names import with_present_names
from naxcli.settings.limits import Limits
from naxcli.settings.prior import PriorSettings, parse_prior
from naxcli.settings.recipe import Recipe
from naxcli.settings.toml import flat_settings
from naxcli.settings.units import parse_count, parse_duration

OBJECTIVES = ("params", "flops", "latency_ms")
# Settings that are tables of settings.
TABLES = frozenset({"recipe", "limits"})
MEMORY_CHOICES = ("auto", "always", "never")
KERNEL_CHOICES = ("auto", "off")
# How workers elsewhere are reached is a fact of one invocation: a file may be untrusted, and a scheduler or job script runs code.
CONNECTION_SETTINGS = frozenset({"cluster", "tls_ca_file", "tls_cert", "tls_key", "insecure"})
# What may differ between two invocations of one run, because no trial's result depends on it, but for the rounding of `kernels` on a
# GPU. A space is compared by its code.
CHANGEABLE = (
    frozenset({"budget", "budget_evaluations", "cost", "trials", "workers", "threads", "data_root", "space", "kernels"})
    | CONNECTION_SETTINGS
)


_NO_CHOICES: Mapping[str, Any] = MappingProxyType({})
RUNG_SCHEDULES = ("warmup_stable_decay", "whole")
_CLUSTER = re.compile(r"\w+://.+:\d+|slurm:.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """The resolved settings of one run. Field names are the keys of experiment.toml and of `--set`.

    Args:
        space: Reference of the search space, as on the command line.
        data: Name of the data source; None where the space evaluates by itself.
        data_root: Folder that holds or receives data sets.
        data_in_memory: Whether images stay in memory: `always`, `never` (timm's loader streams them from their files), or
            `auto`, where they fit.
        skip_corrupt: Whether unreadable image files are left out rather than refused.
        image_size: Side in pixels that images are resized to; None keeps the source's own.
        width: Factor on the network's channels.
        validation_fraction: Share of the training set held out, stratified, for the search's cost.
        images_per_class: Images of every class that trials train on, drawn from what is not held out; None is all of them.
        searcher: Searcher, one of `SEARCHERS`, or `path/to/file.py:NAME` of the user's own.
        searcher_model: Model of `smac`: `gp`, a Gaussian process of the trials of all rungs, or `forest`, a random forest of one rung's.
        evolution_population: Results that `evolution` breeds from, and random trials before it does; None, as a new run's own default,
            is 100 as in the paper, or a quarter of the trials (10 at least) where `trials` or `budget_evaluations` allow fewer than 400.
        evolution_sample: Members of the population that a parent is the best of; None is a quarter of the population, as in the paper.
        promotion: Which trials of a rung go on to the next: `tapered`, two fifths of each and a fifth of the rung below the highest,
            `halving`, two fifths of each, or `hyperband`, as its brackets say.
        references: Whether the space's reference configurations are the first that `smac` and `ensemble` suggest.
        warm_start: Runs or tables whose results `smac` starts from; what they held is kept in the run's records.
        prior: What is believed of good configurations, which `smac` prefers at first: the path of a TOML file, or what it holds.
        seed: The one seed from which split, trial and searcher seeds are derived.
        fidelity: Range of fidelities (epochs) that trials are trained for.
        repeats: Trials of each configuration, of different seeds, that are one result to the searcher; with one fidelity only.
        objective: Further objectives of the Pareto front beside `cost`.
        random_share: Share of trials suggested by the random baseline, which the searcher is compared with.
        limits: Upper limits on every suggested network.
        trial_timeout: Longest time of one trial, a duration; None is no limit.
        early_stop: Whether a training ends where its learning curve says that it can hardly become the best.
        budget: Active time of the whole search, a duration; None is no limit.
        budget_evaluations: What all trials of the search may cost together, in evaluations at the highest fidelity; None is no limit.
        cost: What a trial at each fidelity costs, in any unit, or `measured`; None is in proportion to the epochs that it trains.
        trials: Number of finished trials at which the search ends; None is no limit.
        workers: Number of trials at once, or `auto`.
        threads: CPU threads of one worker; None shares the cores out.
        kernels: Whether networks train with Triton's kernels on a GPU: `auto`, where they are faster, or `off`.
        cluster: Address of a Dask scheduler, or `slurm:FILE`; `local` or None is this machine.
        tls_ca_file: Certificate of the authority that signed those of the scheduler at `tls://...`; None takes Dask's configuration.
        tls_cert: This side's own certificate there.
        tls_key: Private key, where it is not in the certificate's file.
        insecure: Whether a scheduler without TLS may be on another machine.
        recipe: How a network is trained.
        rung_schedule: Learning-rate schedule of a search over several fidelities; see `trial_recipe`.
    """

    space: str
    data: str | None = "cifar100"
    data_root: str = "data"
    data_in_memory: str = "auto"
    skip_corrupt: bool = False
    image_size: int | None = None
    width: float = 1.0
    validation_fraction: float = 0.1
    images_per_class: int | None = None
    searcher: str = "smac"
    searcher_model: str = SEARCHER_MODELS[0]
    evolution_population: int | None = None
    evolution_sample: int | None = None
    promotion: str = PROMOTIONS[0]
    references: bool = True
    warm_start: tuple[str, ...] = ()
    prior: PriorSettings | None = None
    seed: int = 0
    fidelity: FidelityRange = field(default_factory=lambda: FidelityRange(min=1.0, max=1.0))
    repeats: int = 1
    objective: tuple[str, ...] = ()
    random_share: float = 0.0
    limits: Limits = field(default_factory=Limits)
    trial_timeout: str | None = None
    early_stop: bool = False
    budget: str | None = None
    budget_evaluations: float | None = None
    cost: FidelityCosts | None = None
    trials: int | None = None
    workers: int | str = "auto"
    threads: int | None = None
    kernels: str = "auto"
    cluster: str | None = None
    tls_ca_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    insecure: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    rung_schedule: str = "warmup_stable_decay"

    def __post_init__(self) -> None:
        if self.searcher not in SEARCHERS and searcher_file(self.searcher) is None:
            choices = f"choose one of {', '.join(SEARCHERS)}, or path/to/file.py:NAME"
            raise NaxcliError(
                f"there is no searcher {self.searcher!r}",
                hint=did_you_mean(self.searcher, SEARCHERS, otherwise=choices),
            )
        if not (self.workers == "auto" or (isinstance(self.workers, int) and self.workers >= 1)):
            raise NaxcliError(f"workers is {self.workers!r}", hint="write a whole number of at least 1, or auto")
        _require(self.data_in_memory in MEMORY_CHOICES, "data_in_memory", self.data_in_memory, "auto, always or never")
        _require(self.kernels in KERNEL_CHOICES, "kernels", self.kernels, " or ".join(KERNEL_CHOICES))
        _require(self.rung_schedule in RUNG_SCHEDULES, "rung_schedule", self.rung_schedule, " or ".join(RUNG_SCHEDULES))
        models = " or ".join(SEARCHER_MODELS)
        _require(self.searcher_model in SEARCHER_MODELS, "searcher_model", self.searcher_model, models)
        population, sample = self.evolution_population, self.evolution_sample
        _require(population is None or population >= 2, "evolution_population", population, "at least 2")
        is_part = sample is None or 1 <= sample <= (population or sample)
        _require(is_part, "evolution_sample", sample, "at least 1 and at most evolution_population")
        _require(self.promotion in PROMOTIONS, "promotion", self.promotion, " or ".join(PROMOTIONS))
        _require(0 < self.width < math.inf, "width", self.width, "above 0")
        _require(self.image_size is None or self.image_size >= 1, "image_size", self.image_size, "at least 1")
        _require(0 < self.validation_fraction < 1, "validation_fraction", self.validation_fraction, "between 0 and 1")
        _require(
            self.images_per_class is None or self.images_per_class >= 1,
            "images_per_class",
            self.images_per_class,
            "at least 1",
        )
        _require(0 <= self.random_share <= 1, "random_share", self.random_share, "between 0 and 1")
        _require(self.trials is None or self.trials >= 1, "trials", self.trials, "at least 1")
        _require(self.repeats >= 1, "repeats", self.repeats, "at least 1")
        evaluations = self.budget_evaluations
        _require(evaluations is None or 0 < evaluations < math.inf, "budget_evaluations", evaluations, "above 0")
        if self.cost is not None:
            self.cost.require_rungs(self.fidelity)
        if self.repeats > 1 and not self.fidelity.is_single:
            raise NaxcliError(
                "repeats and several fidelities do not go together",
                why="halving spends on more configurations at the low rungs what repeats would spend on each of them",
                hint="use --epochs N with --repeats, or --fidelity alone; naxcli confirm trains the best anew with several seeds",
            )
        _require(self.threads is None or self.threads >= 1, "threads", self.threads, "at least 1")
        _require(self.seed >= 0, "seed", self.seed, "at least 0")
        is_cluster = self.cluster is None or _CLUSTER.fullmatch(self.cluster) is not None
        _require(is_cluster, "cluster", self.cluster, "tls://HOST:PORT, tcp://HOST:PORT, slurm:FILE, or local")
        unknown = set(self.objective) - set(OBJECTIVES)
        if unknown:
            raise NaxcliError(
                f"unknown objective {', '.join(map(repr, sorted(unknown)))}",
                hint=f"cost, and any of {', '.join(OBJECTIVES)}",
            )
        if self.objective and not self.fidelity.is_single:
            raise NaxcliError(
                "several objectives and several fidelities do not go together",
                why="SMAC compares Pareto fronts across fidelities, which is unsound (SMAC3 issues 1050, 1019)",
                hint="use --epochs N with --objective, or --fidelity with the cost alone",
            )
        for duration in (self.budget, self.trial_timeout):
            if duration is not None:
                parse_duration(duration)
        self._refuse_unused_knowledge()
        self._refuse_unsound_stops()

    def _refuse_unsound_stops(self) -> None:
        """Refuse to end trainings early where there are no learning curves, or the best is not that of the lowest cost at their end."""
        reasons = {
            "a space that evaluates by itself": (self.data is None, "its trials have no epochs to look at"),
            "several fidelities": (not self.fidelity.is_single, "successive halving ends trainings early itself"),
            "repeats": (self.repeats > 1, "the mean of several seeds decides, and not one curve"),
            "several objectives": (bool(self.objective), "a network that cannot win by its cost may by another"),
        }
        for what, (is_so, why) in reasons.items():
            if self.early_stop and is_so:
                raise NaxcliError(f"--early-stop and {what} do not go together", why=why, hint="leave one of them out")

    def _refuse_unused_knowledge(self) -> None:
        """Refuse earlier results, or a prior, that the searcher would leave unread."""
        flag = "--from" if self.warm_start else "--prior" if self.prior is not None else ""
        if flag and self.searcher != "smac":
            raise NaxcliError(
                f"the searcher {self.searcher} makes no use of {flag}", hint=f"leave {flag} out, or use --searcher smac"
            )
        if self.warm_start and self.searcher_model != "gp":
            raise NaxcliError(
                f"--from needs the model gp, not {self.searcher_model}",
                why="a model of the earlier results stands beside that of the new ones",
                hint="leave out searcher_model",
            )
        if self.warm_start and self.objective:
            raise NaxcliError(
                "--from and several objectives do not go together",
                why="earlier results are read as costs alone",
                hint="search for the cost alone, or leave --from out",
            )

    def trial_recipe(self, config: Mapping[str, Any] = _NO_CHOICES) -> Recipe:
        """Return how a configuration's trials are trained: by its own choices, else as the recipe says.

        But for the learning rate of a search over several fidelities:

        `whole` writes the recipe's schedule against the highest fidelity, so that a lower rung is the beginning of a long training.
        `warmup_stable_decay` keeps the learning rate constant and decays it at the end of every rung; a promoted trial continues from
        before the decay. Its warm-up is that of the lowest rung. Why that is the default: docs/fidelities.md.
        """
        # Without a training, such a name of a hyperparameter means nothing here.
        recipe = self.recipe if self.data is None else self.recipe.with_choices(config)
        if self.fidelity.is_single or self.rung_schedule == "whole":
            return recipe
        warmup = recipe.warmup_length(self.fidelity.min)
        return dataclasses.replace(recipe, schedule="warmup_stable_decay", warmup_epochs=warmup)

    def continued_share(self, config: Mapping[str, Any] = _NO_CHOICES) -> float:
        """Return the share of a rung's epochs that a promoted trial of a configuration does not train again."""
        recipe = self.trial_recipe(config)
        return (
            1 - recipe.decay_fraction
            if recipe.schedule == "warmup_stable_decay" and not self.fidelity.is_single
            else 1.0
        )

    @property
    def objectives_text(self) -> str:
        """Return what the search minimises, as `--objective` names it: the cost is always the first."""
        return ",".join(("cost", *self.objective))

    @property
    def connection(self) -> Connection | None:
        """Return how the workers of the cluster are reached; None is this machine."""
        if self.cluster is None:
            return None
        return Connection(
            address=self.cluster,
            tls_ca_file=self.tls_ca_file,
            tls_cert=self.tls_cert,
            tls_key=self.tls_key,
            insecure=self.insecure,
        )

    @property
    def uses_kernels(self) -> bool:
        return self.kernels != "off"

    @property
    def budget_seconds(self) -> float | None:
        return None if self.budget is None else parse_duration(self.budget)

    @property
    def trial_timeout_seconds(self) -> float | None:
        return None if self.trial_timeout is None else parse_duration(self.trial_timeout)

    def default_run_dir(self, space_name: str) -> Path:
        """Return `runs/<space>-<data>`."""
        data = "" if self.data is None else "-" + "".join(c if c.isalnum() else "-" for c in self.data).strip("-")
        return Path("runs") / f"{space_name}{data}"

    def to_settings(self) -> dict[str, Any]:
        """Return the nested settings of experiment.toml; None is left out, as TOML has no null."""
        settings = dataclasses.asdict(self)
        settings["warm_start"] = list(self.warm_start)
        settings["fidelity"] = str(self.fidelity)
        settings["objective"] = self.objectives_text
        settings["cost"] = None if self.cost is None else str(self.cost)
        return _without_none(settings)

    def to_toml(self) -> str:
        return tomli_w.dumps(self.to_settings())


def differences(stored: Experiment, wanted: Experiment) -> list[tuple[str, Any, Any]]:
    """Return (setting, stored value, wanted value) for every setting that a run cannot change."""
    before, after = (
        # A searcher's file is compared by its code, as that of a space.
        {**flat_settings(experiment.to_settings()), "searcher": searcher_name(experiment.searcher)}
        for experiment in (stored, wanted)
    )
    return [
        (name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if name.split(".")[0] not in CHANGEABLE and before.get(name) != after.get(name)
    ]


def as_recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recorded run, with what runs did before a setting was recorded where that is not today's default."""
    evolution = FORMER_DEFAULTS if settings.get("searcher") == "evolution" else {}
    return {"searcher_model": "forest", "promotion": "hyperband", "references": False, **evolution, **settings}


def from_settings(settings: Mapping[str, Any], *, has_networks: bool | None = None) -> Experiment:
    """Return the Experiment of nested settings, as experiment.toml holds them.

    Where `has_networks` is None (a recorded run is read back), settings without data are those of a space that evaluates by itself.
    """
    values = with_present_names(settings)
    if "space" not in values:
        raise NaxcliError("no search space was named", hint="naxcli search --space nexception --budget 90s")
    known = {item.name for item in dataclasses.fields(Experiment)} | {"epochs"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise NaxcliError(
            f"unknown setting {', '.join(unknown)}",
            why=f"settings: {', '.join(sorted(known - TABLES))}, {', '.join(f'{table}.*' for table in sorted(TABLES))}",
            hint=_setting_meant(unknown[0], known),
        )
    epochs = values.pop("epochs", None)
    fidelity = values.pop("fidelity", None)
    if epochs is not None:
        number = _convert("epochs", epochs, float)
        _require(0 < number < math.inf, "epochs", number, "above 0")
        values["fidelity"] = FidelityRange(min=number, max=number)
    elif fidelity is not None:
        values["fidelity"] = FidelityRange.parse(str(fidelity))
    if values.get("cost") is not None:
        values["cost"] = FidelityCosts.parse(str(values["cost"]))
    if values.get("cluster") == "local":
        values["cluster"] = None
    values["limits"] = _limits(values.get("limits", {}))
    values["recipe"] = _recipe(values.get("recipe", {}))
    values["warm_start"] = _paths("warm_start", values.get("warm_start", ()))
    values["prior"] = None if values.get("prior") is None else parse_prior(values["prior"])
    objective = values.pop("objective", "cost")
    names = [name.strip() for name in objective.split(",")] if isinstance(objective, str) else list(objective)
    values["objective"] = tuple(name for name in names if name != "cost")
    for name, kind in _simple_kinds(Experiment).items():
        if values.get(name) is not None:
            values[name] = _convert(name, values[name], kind)
    if values.get("searcher") == "evolution":
        values |= evolution_defaults(values)  # recorded, so that they stay where the run is extended
    if isinstance(values.get("workers"), str) and str(values["workers"]).isdigit():
        values["workers"] = int(values["workers"])
    if has_networks is False or (has_networks is None and "data" not in values):
        values["data"] = None
    return Experiment(**values)


_KIND_NAMES: dict[type, str] = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


def _convert(name: str, value: Any, kind: type) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and is_number:
        return float(value)
    if kind is int and is_number and float(value).is_integer():
        return int(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    if isinstance(value, str) and kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    raise NaxcliError(f"setting {name} is {value!r}", why=f"it must be {_KIND_NAMES[kind]}")


@functools.cache
def _simple_kinds(settings: type) -> dict[str, type]:
    """Return the kind of every setting that is text, a truth or a number, None allowed or not, from its annotation."""
    kinds = {}
    for name, annotation in typing.get_type_hints(settings).items():
        allowed = set(typing.get_args(annotation) or (annotation,)) - {type(None)}
        if len(allowed) == 1 and (kind := allowed.pop()) in _KIND_NAMES:
            kinds[name] = kind
    return kinds


def _limits(values: Any) -> Limits:
    names = {item.name for item in dataclasses.fields(Limits)}
    _require_table("limits", values, names)
    return Limits(**{name: parse_count(value, what=f"limits.{name}") for name, value in values.items()})


def _paths(name: str, value: Any) -> tuple[str, ...]:
    paths = [value] if isinstance(value, str | Path) else value
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str | Path) for path in paths):
        raise NaxcliError(f"setting {name} is {value!r}", why="it is a path, or a list of them")
    return tuple(map(str, paths))


def _recipe(values: Any) -> Recipe:
    _require_table("recipe", values, {item.name for item in dataclasses.fields(Recipe)})
    kinds = _simple_kinds(Recipe)
    return Recipe(
        **{
            name: _convert(f"recipe.{name}", value, kinds[name]) if name in kinds else value
            for name, value in values.items()
        }
    )


def _setting_meant(name: str, known: set[str]) -> str:
    """Return the question for an unknown setting; `mixup` is most likely recipe.mixup."""
    tables = {"recipe": Recipe, "limits": Limits}
    inner = [f"{table}.{item.name}" for table, kind in tables.items() for item in dataclasses.fields(kind)]
    same = [full for full in inner if full.endswith(f".{name}")]
    return f"did you mean {same[0]}?" if same else did_you_mean(name, [*known, *inner])


def _require_table(table: str, values: Any, names: set[str]) -> None:
    if not isinstance(values, Mapping):
        raise NaxcliError(
            f"setting {table} is {values!r}", why="it is a table of settings", hint=f"--set {table}.NAME=VALUE"
        )
    unknown = sorted(set(values) - names)
    if unknown:
        raise NaxcliError(
            f"unknown setting {table}.{unknown[0]}",
            why=f"{table} has {', '.join(sorted(names))}",
            hint=did_you_mean(f"{table}.{unknown[0]}", [f"{table}.{name}" for name in names]),
        )


def _require(holds: bool, name: str, value: Any, rule: str) -> None:
    if not holds:
        raise NaxcliError(f"setting {name} is {value}", why=f"it must be {rule}")


def _without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if value is not None
    }
