"""Looking at a space: what it holds, and whether it keeps the contract."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from naxcli.enumeration import count_configurations, sample_configs
from naxcli.space import Limits, Space, describe_domain, plain_config, to_configuration
from naxcli.trial import Config, config_id

BATCH_SIZE = 4
NUM_CLASSES = 7
IN_CHANNELS = 3
IMAGE_SIZE = 32
WIDTH = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at; `detail` says in plain words what is wrong, or what was found."""

    name: str
    is_good: bool
    detail: str = ""


def describe_space(space: Space) -> dict[str, Any]:
    """Return a space's content as plain values, ready for JSON."""
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
        "kind": "networks" if space.build else "objective",
        "num_configurations": count_configurations(configuration_space),
        "hyperparameters": [
            {
                "name": name, "kind": type(item).__name__.replace("Hyperparameter", "").lower(),
                "domain": describe_domain(item), "default": default.get(name), "condition": conditions[name] or None,
            }
            for name, item in configuration_space.items()
        ],
        "groups": {name: list(members) for name, members in space.groups.items()},
        "reference": {name: dict(config) for name, config in space.reference.items()},
        "variants": list(space.variants),
    }  # fmt: skip


def validate_space(space: Space, *, number: int, seed: int) -> Iterator[Check]:
    """Yield the checks of the space contract, on `number` sampled configurations, its default and its references."""
    configuration_space = space.configuration_space(seed)
    count = count_configurations(configuration_space)
    yield Check(
        name="configspace",
        is_good=True,
        detail="infinitely many configurations" if count is None else f"{count:,} configurations",
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
    yield _attempt("values survive JSON", _check_values, configuration_space)
    unknown = {name: set(members) - set(configuration_space) for name, members in space.groups.items()}
    for name, members in unknown.items():
        yield Check(
            name=f"group {name}",
            is_good=not members,
            detail=f"unknown hyperparameters: {', '.join(sorted(members))}" if members else "",
        )
    for name, config in space.reference.items():
        yield _attempt(f"reference {name}", to_configuration, configuration_space, config)
    configs = [
        space.default_config(),
        *map(dict, space.reference.values()),
        *sample_configs(configuration_space, number, seed),
    ]
    for constraint in space.constraints:
        if not isinstance(constraint, Limits):
            yield _attempt(f"constraint {constraint.__name__}", list, map(constraint, configs))
    if space.canonical is not None:
        yield _attempt("canonical", _check_canonical, space, configs)
    check = _build_and_run if space.build else _evaluate
    failed = 0
    for config in configs:
        result = _attempt(f"configuration {config_id(config)}", check, space, config, seed)
        if not result.is_good:
            failed += 1
            text = " ".join(f"{name}={value}" for name, value in config.items())
            yield Check(name=result.name, is_good=False, detail=f"{result.detail}\n        {text}")
    done = "build, forward and backward" if space.build else "evaluate"
    yield Check(name=f"{done}: {len(configs) - failed} of {len(configs)} configurations", is_good=not failed)


def _attempt(name: str, action: Callable[..., Any], *arguments: Any) -> Check:
    try:
        action(*arguments)
    except Exception as error:  # noqa: BLE001 - any failure of the user's code is the answer
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "naxcli/" not in frame.filename]
        where = f" (line {frames[0].lineno} of {frames[0].filename})" if frames else ""
        return Check(name=name, is_good=False, detail=f"{type(error).__name__}: {error}{where}")
    return Check(name=name, is_good=True)


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
        dict(config), num_classes=NUM_CLASSES, in_channels=IN_CHANNELS, image_size=IMAGE_SIZE, width=WIDTH
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
    cost = outcome["cost"] if isinstance(outcome, dict) else outcome
    float(cost)  # type: ignore[arg-type]
