"""Earlier results: of a run, a Parquet file or an Optuna study's CSV, as far as they are results of this space's configurations."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import Config, Status, config_id
from naxcli.search_space.contract import Space
from naxcli.search_space.recorded import read_space
from naxcli.search_space.result_tables import ResultTable, legal_config, read_table
from naxcli.settings.experiment import Experiment, differences
from naxcli.settings.units import counted

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

# Settings that costs depend on; fidelities are a model's to compare.
COST_SETTINGS = frozenset(
    {"data", "image_size", "width", "validation_fraction", "images_per_class", "recipe", "rung_schedule"}
)
MAX_SHOWN = 8  # differences that a notice names


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierResult:
    """The mean cost of a configuration at a fidelity."""

    config: Config
    fidelity: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierResults:
    """The results that one source has of a space's configurations, one at least."""

    source: str
    results: tuple[EarlierResult, ...]

    @property
    def content_hash(self) -> str:
        """The first 16 digits of the SHA-256 of the results."""
        return hashlib.sha256(json.dumps(self._rows(), sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "content_hash": self.content_hash, "results": self._rows()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EarlierResults:
        return cls(source=content["source"], results=tuple(EarlierResult(**row) for row in content["results"]))

    def _rows(self) -> list[dict[str, Any]]:
        return [asdict(result) for result in self.results]


def read_earlier(
    source: str, *, space: Space, configuration_space: ConfigurationSpace, experiment: Experiment
) -> tuple[EarlierResults, list[str]]:
    """Return the results of a source, and what a user should know of them.

    A hyperparameter that the source has not is taken to have had its default; one that only the source has is left out. Results with a
    value that is not one of the space are left out, and those of one configuration at one fidelity averaged.

    Args:
        source: Run directory, Parquet file with the columns of trials.parquet or of hyperparameters' names, or CSV file, also of
            Optuna's `study.trials_dataframe()`.
        space: Space of the search.
        configuration_space: Of the search.
        experiment: Settings of the search.

    Raises:
        NaxcliError: If it cannot be read, or has no result of a configuration of the space.
    """
    path = Path(source)
    found = _read_run(path, experiment) if path.is_dir() else read_table(path, configuration_space)
    shared = [name for name in configuration_space if name in found.names]
    if not shared:
        raise NaxcliError(
            f"{source} has no hyperparameter of space {space.name!r}",
            why=f"it has {', '.join(found.names) or 'none'}; the space has {', '.join(configuration_space)}",
            hint="name a run, or a table, over a space with the same hyperparameters",
        )
    if not found.trials:
        raise NaxcliError(f"{source} has no successful trial with a finite cost to start from")
    costs: dict[tuple[str, float], list[float]] = defaultdict(list)
    configs: dict[str, Config] = {}
    illegal: Counter[str] = Counter()
    for values, fidelity, cost in found.trials:
        config, reason = legal_config({name: values.get(name) for name in shared}, configuration_space)
        if config is None:
            illegal[reason] += 1
            continue
        config = space.canonicalise(config)
        identity = config_id(config)
        configs[identity] = config
        costs[identity, fidelity].append(cost)
    if not costs:
        raise NaxcliError(
            f"{source} has no configuration of space {space.name!r}",
            why=f"of its {counted(len(found.trials), 'result')}, " + _counts(illegal),
        )
    results = tuple(
        EarlierResult(config=configs[identity], fidelity=fidelity, cost=statistics.fmean(values))
        for (identity, fidelity), values in costs.items()
    )
    earlier = EarlierResults(source=source, results=results)
    return earlier, list(_notices(earlier, found, illegal, configuration_space))


def _notices(
    earlier: EarlierResults, found: ResultTable, illegal: Counter[str], configuration_space: ConfigurationSpace
) -> Iterator[str]:
    source = earlier.source
    fidelities = ", ".join(f"{fidelity:g}" for fidelity in sorted({result.fidelity for result in earlier.results}))
    yield (
        f"starting from {source}: {counted(len(earlier.results), 'result')} at fidelity {fidelities} "
        f"(content hash {earlier.content_hash})"
    )
    if found.differences:
        yield f"{source} differs: {'; '.join(found.differences[:MAX_SHOWN])}"
    missing = [name for name in configuration_space if name not in found.names and configuration_space[name].size > 1]
    if missing:
        defaults = ", ".join(f"{name}={configuration_space[name].default_value}" for name in missing)
        yield f"{source} has not all hyperparameters: its results count as those of {defaults}"
    others = [name for name in found.names if name not in configuration_space]
    if others:
        yield f"{source} has hyperparameters that this space has not, and that are left out: {', '.join(others)}"
    if found.num_failed:
        illegal = illegal + Counter({"failed, or have no finite cost": found.num_failed})
    if illegal:
        yield f"left out of {source}: {_counts(illegal)}"


def _counts(reasons: Counter[str]) -> str:
    shown = [f"{number} {reason}" for reason, number in reasons.most_common(MAX_SHOWN)]
    return ", ".join(shown)


def _read_run(path: Path, experiment: Experiment) -> ResultTable:
    run = RunDirectory(path=path)
    recorded = run.experiment()
    with Records.open(run) as records:
        finished = records.finished()
    trials = [
        (item.trial.config, item.trial.fidelity, item.cost)
        for item in finished
        if item.status == Status.SUCCESS and item.cost is not None
    ]
    differing = [
        f"{name} is {before!r} there, {after!r} here"
        for name, before, after in differences(recorded, experiment)
        if name.split(".")[0] in COST_SETTINGS
    ]
    return ResultTable(
        trials=trials,
        names=list(read_space(run.space_file)),
        num_failed=len(finished) - len(trials),
        differences=differing,
    )
