"""Which network a user means: a run's trial, a configuration file, an exported file, or a space's reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from naxcli.errors import ExitCode, NaxcliError
from naxcli.export.config import read_config
from naxcli.export.read_python import is_exported_file, load_exported_file
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory, open_run
from naxcli.records.history import FinishedTrial
from naxcli.records.incumbent import find_incumbent
from naxcli.records.trial import Config, ConfigValue, Status
from naxcli.search_space.contract import Space, load_space, plain_config, to_configuration
from naxcli.search_space.recorded import load_recorded_space
from naxcli.settings.units import counted

PROGRAM_SUFFIXES = (".onnx", ".pt2")
BEST = "best"  # the trial that is the incumbent


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A configuration with what is known of it. Sizes are None where nothing names them.

    Args:
        mean: per channel, that training subtracted from images in [0, 1]; `std` likewise divided.
        weights: of the trained network, where the run kept them or the export holds them.
        starts_trained: whether the user named weights, so that a training starts from them unless told otherwise.
        network_name: that an exported file registers; empty for the usual one of space, variant and configuration.
        code: the exported Python file that the user named, if it is one.
        trial_id: of the run's trial, if it is one.
    """

    space: Space
    config: Mapping[str, ConfigValue]
    width: float = 1.0
    num_classes: int | None = None
    in_channels: int | None = None
    image_size: int | None = None
    variant: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    weights: Path | None = None
    starts_trained: bool = False
    network_name: str = ""
    code: Path | None = None
    run: RunDirectory | None = None
    trial_id: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def select(*, run: str | None, trial: str, config: str | None, space: str | None = None) -> Selection:
    """Return the configuration that a user names, by a run's trial or by a file or reference, with what is known of it.

    Args:
        run: Run directory; None is the newest run, where `config` is None.
        trial: Number of the run's trial, or `best`.
        config: Configuration file, export, or `SPACE:REFERENCE`, instead of a run. A `.py` file is run.
        space: Space of the run or file, where it does not ship with naxcli. Its file is code, and is run.

    Raises:
        NaxcliError: If there is no such run, trial, file or reference.
    """
    if config is None:
        return _select_trial(open_run(run), trial, space)
    if run is not None:
        raise NaxcliError("a run and --config name two networks", hint="give one of them")
    if trial != "best":
        raise NaxcliError(f"--trial {trial} is one of a run, and --config names none", hint="give one of them")
    return _select_config(config, space)


def _select_config(reference: str, named_space: str | None) -> Selection:
    path = Path(reference)
    space_name, separator, name = reference.rpartition(":")
    if path.suffix == ".py" and path.is_file():
        if named_space is not None:
            raise NaxcliError(
                f"{path} and --space name two spaces", why="a Python export is its own", hint="leave out --space"
            )
        return _select_exported_file(path)
    if path.exists() or not separator:
        if path.suffix in PROGRAM_SUFFIXES:
            raise NaxcliError(
                f"{path} holds no configuration",
                why="it is a finished program, which naxcli bench measures and nothing changes",
                hint="name the run, the configuration, or the weights export that it was made from",
            )
        saved = read_config(path, space=None if named_space is None else _load_named(named_space))
        weights = _weights_beside(path)
        return Selection(
            space=saved.space,
            config=saved.config,
            width=saved.width or 1.0,
            num_classes=saved.num_classes,
            in_channels=saved.in_channels,
            image_size=saved.image_size,
            variant=saved.variant,
            mean=saved.mean,
            std=saved.std,
            provenance=saved.provenance,
            weights=weights,
            starts_trained=weights is not None,
        )
    space = _load_named(space_name)
    known = {**space.reference, "default": space.default_config()}
    if name not in known:
        raise NaxcliError(
            f"space {space.name!r} has no reference configuration {name!r}",
            hint=f"one of {', '.join(known)}, or a configuration file",
        )
    config = plain_config(to_configuration(space.configuration_space(), known[name], what=f"reference {name}"))
    return Selection(space=space, config=config, provenance={"reference": f"{space.name}:{name}"})


def _select_exported_file(path: Path) -> Selection:
    file = load_exported_file(path)
    return Selection(
        space=file.space,
        config=file.config,
        width=file.width,
        num_classes=file.num_classes,
        in_channels=file.in_channels,
        image_size=file.image_size,
        variant=file.variant,
        mean=file.mean,
        std=file.std,
        weights=file.weights,
        network_name=file.name,
        code=path,
        provenance={"exported_file": path.name},
    )


def _load_named(space: str) -> Space:
    """Return the space that a user names, which may be that of an exported file."""
    path = Path(space)
    return load_exported_file(path).space if is_exported_file(path) else load_space(space)


def _weights_beside(path: Path) -> Path | None:
    """Return the weights of a `weights` export, where the named path is one."""
    folder = path if path.is_dir() else path.parent
    weights = folder / "model.safetensors"
    return weights if weights.is_file() and (path.is_dir() or path.name == "config.json") else None


def select_of_run(run: RunDirectory, config: Config, named_space: str | None, *, what: str) -> Selection:
    """Return a configuration with the sizes that a run trains it at, without weights.

    Args:
        run: Directory of the run.
        config: Configuration of the run's space.
        named_space: Space of the run, where it does not ship with naxcli. Its file is code, and is run.
        what: What it is called in errors.

    Raises:
        NaxcliError: If it is not of the run's space.
    """
    experiment = run.experiment()
    space = load_recorded_space(run.settings(), named=named_space)
    to_configuration(space.configuration_space(), config, what=what)
    sizes = run.read_json(run.environment_file).get("data") or {}
    recipe = experiment.trial_recipe(config)
    return Selection(
        space=space,
        config=config,
        width=experiment.width,
        num_classes=sizes.get("num_classes"),
        in_channels=sizes.get("in_channels"),
        image_size=recipe.resolution or sizes.get("image_size"),
        mean=tuple(sizes["mean"]) if "mean" in sizes else None,
        std=tuple(sizes["std"]) if "std" in sizes else None,
        run=run,
        provenance={
            "run": run.name,
            "data": experiment.data,
            **({} if not space.is_trained else {"recipe": dataclasses.asdict(recipe)}),
        },
    )


def _select_trial(run: RunDirectory, trial: str, named_space: str | None) -> Selection:
    with Records.open(run) as records:
        finished = records.finished()
    chosen = _find_trial(run, finished, trial)
    found = select_of_run(run, chosen.trial.config, named_space, what=f"trial {chosen.trial.trial_id}")
    checkpoint = run.checkpoint(chosen.trial.trial_id)
    facts = {
        "trial_id": chosen.trial.trial_id,
        "cost": chosen.cost,
        "fidelity": chosen.trial.fidelity,
        "seed": chosen.trial.seed,
        "searcher": chosen.trial.searcher,
    }
    return dataclasses.replace(
        found,
        trial_id=chosen.trial.trial_id,
        weights=checkpoint if checkpoint.is_file() else None,
        provenance={"run": run.name, **facts, **found.provenance},
    )


def _find_trial(run: RunDirectory, finished: list[FinishedTrial], trial: str) -> FinishedTrial:
    by_id = {item.trial.trial_id: item for item in finished}
    if trial == BEST:
        incumbent = find_incumbent(finished)
        if incumbent is None:
            raise NaxcliError(
                f"{run.path} has no successful trial",
                why=f"{counted(len(finished), 'trial')} finished",
                exit_code=ExitCode.FAILED,
                hint="naxcli report shows why they failed",
            )
        return by_id[incumbent.trial.trial_id]
    if not trial.isdigit() or int(trial) not in by_id:
        last = max(by_id, default=0)
        raise NaxcliError(f"{run.path} has no finished trial {trial}", hint=f"best, or a number up to {last}")
    chosen = by_id[int(trial)]
    if chosen.status != Status.SUCCESS:
        raise NaxcliError(f"trial {trial} of {run.path} ended as {chosen.status}", exit_code=ExitCode.FAILED)
    return chosen
