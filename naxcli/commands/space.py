"""Looking at a space: what it holds, and whether it keeps the contract."""

from __future__ import annotations

import inspect
import itertools
import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config
from naxcli.search_space.contract import Space, name_of, plain_config, space_source, to_configuration
from naxcli.search_space.domains import describe_domain
from naxcli.search_space.enumeration import count_configurations, sample_configs
from naxcli.settings.recipe import without_choices
from naxcli.settings.units import counted, format_config

BATCH_SIZE = 4
NUM_CLASSES = 7
IN_CHANNELS = 3
IMAGE_SIZE = 32
WIDTH = 0.25
MAX_DRAWS_EACH = 100  # of configurations, until the constraints allow one


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at; `detail` says in plain words what is wrong, or what was found."""

    name: str
    is_good: bool
    detail: str = ""


def describe_space(space: Space) -> dict[str, Any]:
    """Return a space's content as plain values: what `naxcli space show --json` prints.

    Args:
        space: A loaded space.
    """
    configuration_space = space.configuration_space()
    conditions = {
        name: " and ".join(str(condition) for condition in configuration_space.parent_conditions_of[name])
        for name in configuration_space
    }
    default = plain_config(configuration_space.get_default_configuration())
    return {
        "name": space.name,
        "version": space.version,
        "paper": space.paper,
        "origin": space.origin,
        "kind": "networks" if space.is_trained else "objective",
        "num_configurations": count_configurations(configuration_space),
        "hyperparameters": [
            {
                "name": name,
                "kind": _kind_of(item),
                "domain": describe_domain(item),
                "default": default.get(name),
                "condition": conditions[name] or None,
            }
            for name, item in configuration_space.items()
        ],
        "groups": {name: list(members) for name, members in space.groups.items()},
        "reference": {name: dict(config) for name, config in space.reference.items()},
        "variants": list(space.variants),
    }


def _kind_of(hyperparameter: Any) -> str:
    """Return a kind of hyperparameter in words: `integer`, `float`, `normal float`, `categorical`."""
    name = type(hyperparameter).__name__.removesuffix("Hyperparameter").removeprefix("Uniform")
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def validate_space(space: Space, *, number: int, seed: int) -> Iterator[Check]:
    """Yield the checks of the space contract, on sampled configurations, the default and the references.

    Args:
        space: A loaded space.
        number: Number of configurations to sample.
        seed: Random seed of the sample.
    """
    configuration_space = space.configuration_space(seed)
    count = count_configurations(configuration_space)
    yield Check(
        name="configspace",
        is_good=True,
        detail="infinitely many configurations" if count is None else counted(count, "configuration"),
    )
    first, second = (
        sample_configs(configuration_space, 5, seed),
        sample_configs(space.configuration_space(seed), 5, seed),
    )
    yield Check(
        name="the same seed samples the same",
        is_good=first == second,
        detail="" if first == second else "configspace(seed) must pass the seed on",
    )
    yield _attempt(space, "values survive JSON", _check_values, configuration_space)
    unknown = {name: set(members) - set(configuration_space) for name, members in space.groups.items()}
    for name, members in unknown.items():
        yield Check(
            name=f"group {name}",
            is_good=not members,
            detail=f"unknown hyperparameters: {', '.join(sorted(members))}" if members else "",
        )
    for name, config in space.reference.items():
        yield _attempt(space, f"reference {name}", to_configuration, configuration_space, config)
    first = [space.default_config(), *map(dict, space.reference.values())]
    sampled = sample_configs(configuration_space, number, seed)
    for predicate in space.predicates:
        yield _attempt(space, f"constraint {name_of(predicate)}", list, map(predicate, first + sampled))
    if space.canonical is not None:
        yield _attempt(space, "canonical", _check_canonical, space, first + sampled)
    configs = [*filter(partial(_is_suggested, space), first), *sample_suggested(space, number, seed)]
    if not configs:
        yield Check(name="constraints", is_good=False, detail="they allowed none of the configurations that were drawn")
    if space.build is not None:
        yield from _run_all(space, configs, seed, _build_and_run, "build, forward and backward")
    if space.evaluate is not None:
        yield from _run_all(space, configs, seed, _evaluate, "evaluate")


def sample_suggested(space: Space, number: int, seed: int) -> list[Config]:
    """Return random configurations that a search may suggest, repeats included: as many as asked for, or all that were found.

    Args:
        space: A loaded space.
        number: How many.
        seed: Random seed of the sample.
    """
    if not space.predicates:
        return list(sample_configs(space.configuration_space(seed), number, seed))
    drawn = (
        config
        for batch in range(MAX_DRAWS_EACH)
        for config in sample_configs(space.configuration_space(seed), number, seed + batch)
    )
    return list(itertools.islice(filter(partial(_is_suggested, space), drawn), number))


def _is_suggested(space: Space, config: Config) -> bool:
    """Return whether the space's constraints allow a configuration; one about which they raise is not suggested."""
    try:
        canonical = space.canonicalise(config)
        return all(space.allows(predicate, canonical) for predicate in space.predicates)
    except NaxcliError:
        return False


def _run_all(
    space: Space, configs: Sequence[Config], seed: int, action: Callable[[Space, Config, int], None], name: str
) -> Iterator[Check]:
    """Yield one check per kind of failure of an action, with one of its configurations, and the sum."""
    function = space.evaluate if action is _evaluate else space.build
    failed: dict[tuple[str, str], list[Config]] = {}
    details: dict[tuple[str, str], str] = {}
    for config in configs:
        try:
            action(space, config, seed)
        except Exception as error:  # noqa: BLE001 - as in `_attempt`
            # A message may name the configuration: what fails at the same line of the user's fails for the same reason.
            where = _place_of(error, space)
            key = (type(error).__name__, where or str(error))
            failed.setdefault(key, []).append(config)
            details.setdefault(key, _describe(error, where or _definition_of(function)))
    for key, examples in failed.items():
        found = f"{counted(len(examples), 'configuration')}, such as {format_config(examples[0])}"
        yield Check(name=f"{name}: {key[0]}", is_good=False, detail=f"{details[key]}\n{found}")
    num_good = len(configs) - sum(map(len, failed.values()))
    yield Check(
        name=f"{name}: {num_good:,} of {counted(len(configs), 'configuration')}", is_good=num_good == len(configs)
    )


def _attempt(space: Space, name: str, action: Callable[..., Any], *arguments: Any) -> Check:
    try:
        action(*arguments)
    except Exception as error:  # noqa: BLE001 - any failure of the user's code is the answer
        return Check(name=name, is_good=False, detail=_describe(error, _place_of(error, space)))
    return Check(name=name, is_good=True)


def _describe(error: Exception, where: str) -> str:
    message = "".join(traceback.format_exception_only(error)).strip()
    return f"{message}\n{where}" if where else message


def _place_of(error: Exception, space: Space) -> str:
    """Return the line of the space's own file that an error came through last, nothing where it came through none."""
    file = str(space_source(space).resolve())
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if str(Path(frame.filename).resolve()) == file
    ]
    return f"line {frames[-1].lineno} of {file}: {frames[-1].line}" if frames else ""


def _definition_of(function: Any) -> str:
    """Return where the function begins that broke the contract without an exception of its own."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    return "" if code is None else f"{function.__name__} is at line {code.co_firstlineno} of {code.co_filename}"


def _check_values(configuration_space: Any) -> None:
    for name, hyperparameter in configuration_space.items():
        values = getattr(hyperparameter, "choices", None) or getattr(hyperparameter, "sequence", None) or ()
        for value in values:
            if not isinstance(value.item() if hasattr(value, "item") else value, str | int | float | bool):
                raise TypeError(
                    f"{name} has the value {value!r}; use text, numbers or booleans, as tuples do not survive JSON"
                )


def _check_canonical(space: Space, configs: list[dict[str, Any]]) -> None:
    configuration_space = space.configuration_space()
    for config in configs:
        once = space.canonicalise(config)
        to_configuration(configuration_space, once, what="canonical(config)")
        if space.canonicalise(once) != once:
            raise ValueError(f"canonical(canonical(config)) differs from canonical(config) for {config}")


def _build_and_run(space: Space, config: Config, seed: int) -> None:
    import torch

    assert space.build is not None
    torch.manual_seed(seed)
    network = space.build(
        without_choices(config), num_classes=NUM_CLASSES, in_channels=IN_CHANNELS, image_size=IMAGE_SIZE, width=WIDTH
    )
    output = network(torch.randn(BATCH_SIZE, IN_CHANNELS, IMAGE_SIZE, IMAGE_SIZE))
    if tuple(output.shape) != (BATCH_SIZE, NUM_CLASSES):
        raise ValueError(
            f"the output is {tuple(output.shape)}, expected (batch, num_classes) = {(BATCH_SIZE, NUM_CLASSES)}"
        )
    if not torch.isfinite(output).all():
        raise ValueError("the output is not finite")
    output.float().square().mean().backward()
    silent = [
        name for name, parameter in network.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    if silent:
        raise ValueError(f"no gradient reaches {', '.join(silent[:3])}")


def _evaluate(space: Space, config: Config, seed: int) -> None:
    assert space.evaluate is not None
    outcome = space.evaluate(dict(config), fidelity=1.0, seed=seed)
    if isinstance(outcome, Mapping) and "cost" not in outcome:
        raise ValueError(f"evaluate returned no cost, only {', '.join(map(str, outcome)) or 'an empty dict'}")
    cost: Any = outcome["cost"] if isinstance(outcome, Mapping) else outcome
    try:
        number = float(cost)
    except (TypeError, ValueError) as error:
        raise TypeError(f"evaluate returned the cost {cost!r}, which is not a number") from error
    if not math.isfinite(number):
        raise ValueError(f"the cost is {number}")
