"""Space and Variant: the public contract of a search space, and loading one by name, path or module.

A space is a Python file with a module-level `SPACE = Space(...)`. Files of `spaces/` import nothing else of naxcli.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import inspect
import json
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError, did_you_mean
from naxcli.records.trial import Config, ConfigValue
from naxcli.search_space.domains import describe_domain
from naxcli.search_space.encodings import Encodings
from naxcli.search_space.prepared import SUFFIX, PreparedSpace
from naxcli.search_space.recipe_choices import check_recipe_choices
from naxcli.search_space.user_code import import_file, is_user_module, line_of
from naxcli.settings.limits import Limits

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

Constraint = Callable[[Config], bool]
Profile = Callable[[Config], Sequence[float]]

NUM_DIGESTED = 32  # configurations that stand for what a space does with any
LARGE_TEST_CROP = 0.95
"""Share of the side of large test images, which are photographs resized, that their middle square keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A full-size network of a configuration, and how it is used.

    Args:
        build: Function `build(config, *, num_classes, in_channels, width=1.0) -> nn.Module`.
        image_size: Side in pixels of the images that the network was made for, or a function `config -> int`, which gets all of a
            configuration, choices of the recipe too.
        test_crop: Share of the side of test images that their middle square keeps.
        recipe: Settings of the recipe that its training changes, by name: `naxcli train` and an export's header train it so.
        reference: Name of the reference configuration that was published at this size, which `naxcli bench` measures.
    """

    build: Callable[..., Any]
    image_size: int | Callable[[Config], int] = 224
    test_crop: float = LARGE_TEST_CROP
    recipe: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""

    def image_size_for(self, config: Config) -> int:
        """Return the side in pixels of the images that a configuration's network was made for."""
        return self.image_size(config) if callable(self.image_size) else self.image_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A search space: its configurations, and the networks they build, a function that evaluates them, or both.

    Args:
        name: Short identifier, used in run directories and exports (letters, digits, `-`, `_`).
        configspace: Function `seed -> ConfigurationSpace`. Of a space with `build`, hyperparameters named `recipe.<setting>` say how a
            configuration is trained; `build` does not get them.
        build: Function `build(config, *, num_classes, in_channels, image_size, width=1.0) -> nn.Module`. The network maps
            images of shape (batch, in_channels, image_size, image_size), float, to logits of shape (batch, num_classes).
        evaluate: Function `evaluate(config, *, fidelity, seed) -> float | dict` for any other objective; a dict holds `cost`
            (minimised) and optionally `num_params`, `flops` (multiply-adds), `latency_ms`, `val_accuracy`. Beside `build`, which it may
            call, it takes the place of naxcli's training; limits, `ensemble` and exports then know the network.
        version: Version of what the space means; exported configurations name it and are refused by another version.
        constraints: `Limits`, or predicates `config -> bool` that are true where a configuration is allowed.
        groups: Hyperparameters whose importance is reported jointly, by name of the group.
        reference: Configurations worth comparing with, such as a baseline, by name.
        variants: Full-size networks of a configuration, by name: a `Variant`, or its `build` function alone.
        baselines: Networks of timm whose speed `naxcli bench` compares with that of the variants, with their image size.
        canonical: Function `config -> config`, the same for all configurations that are the same network by another name.
        zero_cost: Function `config -> {name: value}` of cheap metrics.
        blocks: Function from a built network to the names, as in its `named_modules`, of the blocks that `naxcli study lesion`
            deletes; None finds the residual ones.
        profiles: Functions `config -> numbers`, one for each block from input to output, by the name of what they are of, such as
            channels: a report shows them against the index of the block for the best, the middle and the worst configurations.
        paper: Citation.
        origin: Reference by which another process loads the space again; filled in by `load_space`.
        prepared: What `naxcli space prepare` measured; filled in by `load_space`, where its file was named.

    Raises:
        NaxcliError: If the arguments contradict each other.
    """

    name: str
    configspace: Callable[[int | None], ConfigurationSpace]
    build: Callable[..., Any] | None = None
    evaluate: Callable[..., float | Mapping[str, float]] | None = None
    version: str = "1"
    constraints: Sequence[Limits | Constraint] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reference: Mapping[str, Config] = field(default_factory=dict)
    variants: Mapping[str, Variant | Callable[..., Any]] = field(default_factory=dict)
    baselines: Mapping[str, int] = field(default_factory=dict)
    canonical: Callable[[Config], Config] | None = None
    zero_cost: Callable[[Config], Mapping[str, float]] | None = None
    blocks: Callable[[Any], Sequence[str]] | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    paper: str = ""
    origin: str = ""
    prepared: PreparedSpace | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise NaxcliError(f"the space's name {self.name!r} is not made of letters, digits, - and _")
        if self.build is None and self.evaluate is None:
            raise NaxcliError(
                f"space {self.name!r} has neither build= nor evaluate=",
                why="build= makes networks that naxcli trains; evaluate= returns a cost itself",
            )
        for constraint in self.constraints:
            if not (isinstance(constraint, Limits) or callable(constraint)):
                raise NaxcliError(f"space {self.name!r} has a constraint that is neither Limits nor a function")
        for name in self.profiles:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise NaxcliError(
                    f"the profile {name!r} of space {self.name!r} is not made of letters, digits, - and _",
                    why="files and parts of a report are named after it",
                )
        for name, variant in self.variants.items():
            if not (isinstance(variant, Variant) or callable(variant)):
                raise NaxcliError(f"variant {name!r} of space {self.name!r} is neither a Variant nor a function")
            if (reference := self.variant(name).reference) and reference not in self.reference:
                raise NaxcliError(f"variant {name!r} of space {self.name!r} names no reference: {reference!r}")

    @classmethod
    def from_encodings(
        cls,
        encodings: Sequence[Sequence[Any]],
        build: Callable[..., Any] | None = None,
        *,
        name: str,
        evaluate: Callable[..., float | Mapping[str, float]] | None = None,
        zero_cost: Callable[..., Mapping[str, float]] | None = None,
        positions: Sequence[str] = (),
        version: str = "1",
        paper: str = "",
    ) -> Space:
        """Return the space of a plain list of encodings, each a sequence of values; the first is its default configuration.

        Args:
            encodings: Sequences of equal length of numbers, texts or truths, without repeats.
            build: Function `encoding -> nn.Module`. It is given those of `num_classes`, `in_channels`, `image_size` and `width` that
                it has parameters for.
            name: As above.
            evaluate: Function `encoding -> float | dict`, given `fidelity` and `seed` where it has parameters for them.
            zero_cost: Function `encoding -> {name: value}`.
            positions: Names of the positions, which are the hyperparameters; none are `x0`, `x1`, ...
            version: As above.
            paper: As above.

        Raises:
            NaxcliError: If they are no such list.
        """
        listed = Encodings(encodings, positions=positions, space_name=name)
        return cls(
            name=name,
            configspace=listed.configspace,
            build=None if build is None else listed.builder(build),
            evaluate=None if evaluate is None else listed.evaluator(evaluate),
            zero_cost=None if zero_cost is None else listed.measurer(zero_cost),
            constraints=() if listed.is_complete else (listed.is_listed,),
            version=version,
            paper=paper,
        )

    @property
    def is_of_encodings(self) -> bool:
        """Whether the space was made by `from_encodings`, whose functions take an encoding."""
        return isinstance(getattr(self.configspace, "__self__", None), Encodings)

    @property
    def is_trained(self) -> bool:
        """Whether naxcli trains the networks; else the space's own `evaluate` tells what a configuration costs."""
        return self.evaluate is None

    def variant(self, name: str) -> Variant:
        """Return the variant of that name; a plain function is one with the usual settings."""
        variant = self.variants[name]
        if isinstance(variant, Variant):
            return variant
        own_size = {"image_size": variant.image_size} if hasattr(variant, "image_size") else {}
        return Variant(build=variant, **own_size)

    def configuration_space(self, seed: int | None = None) -> ConfigurationSpace:
        """Return a new ConfigurationSpace with its own random state."""
        from ConfigSpace import ConfigurationSpace

        configuration_space = self._called("configspace", self.configspace, seed)
        if not isinstance(configuration_space, ConfigurationSpace):
            raise NaxcliError(
                f"configspace of space {self.name!r} returned {type(configuration_space).__name__}",
                hint="return a ConfigSpace.ConfigurationSpace",
            )
        if len(configuration_space) == 0:
            raise NaxcliError(f"space {self.name!r} has no hyperparameters")
        if self.is_trained:
            check_recipe_choices(configuration_space, space_name=self.name)
        return configuration_space

    def canonicalise(self, config: Config) -> dict[str, ConfigValue]:
        """Return the configuration that stands for all names of the same network."""
        return dict(self._called("canonical", self.canonical, config)) if self.canonical else dict(config)

    def cheap_metrics(self, config: Config) -> dict[str, float]:
        """Return the metrics of `zero_cost`, none where there is no such function."""
        return dict(self._called("zero_cost", self.zero_cost, config)) if self.zero_cost else {}

    def blocks_of(self, network: Any) -> list[str] | None:
        """Return the names of a network's blocks, None where the space does not say."""
        return list(self._called("blocks", self.blocks, network)) if self.blocks else None

    def profile(self, name: str, config: Config) -> tuple[float, ...]:
        """Return one of the profiles of a configuration."""
        return tuple(map(float, self._called(f"profile {name}", self.profiles[name], config)))

    def allows(self, predicate: Constraint, config: Config) -> bool:
        """Return whether one of the space's constraints allows a configuration."""
        return bool(self._called(f"constraint {name_of(predicate)}", predicate, config))

    @property
    def predicates(self) -> list[Constraint]:
        """The constraints that are functions of a configuration."""
        return [constraint for constraint in self.constraints if not isinstance(constraint, Limits)]

    def _called(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the space's author; what it raises is theirs to see, with its line."""
        try:
            return function(*arguments)
        except NaxcliError:
            raise
        except Exception as error:  # any exception of the author's code
            code = getattr(inspect.unwrap(function), "__code__", None)
            file = Path(code.co_filename) if code else Path()
            line = line_of(error, file)
            raise NaxcliError(
                f"{what} of space {self.name!r} raised {type(error).__name__}",
                why="".join(traceback.format_exception_only(error)).strip(),
                hint=f"{line} of {file}" if line else "naxcli space validate FILE checks a space",
            ) from error

    def merged_choices(self) -> list[str]:
        """Return the choices, as `name=value`, that `canonical` replaces by another wherever they occur in default and references."""
        known = [self.default_config(), *self.reference.values()]
        merged = []
        for name, hyperparameter in self.configuration_space().items():
            for value in getattr(hyperparameter, "choices", ()):
                named = [{**config, name: value} for config in known if name in config]
                if named and all(self.canonicalise(config)[name] != value for config in named):
                    merged.append(f"{name}={value}")
        return merged

    def legal_references(self, configuration_space: ConfigurationSpace) -> list[dict[str, ConfigValue]]:
        """Return the reference configurations as plain values.

        Raises:
            NaxcliError: naming a reference that is not of the space, and why.
        """
        return [
            plain_config(
                to_configuration(configuration_space, config, what=f"reference {name!r} of space {self.name!r}")
            )
            for name, config in self.reference.items()
        ]

    def default_config(self) -> dict[str, ConfigValue]:
        """Return the space's default configuration as plain values."""
        return plain_config(self.configuration_space().get_default_configuration())


def name_of(predicate: Constraint) -> str:
    """Return how a constraint is named in messages."""
    return str(getattr(predicate, "__name__", "without a name"))


def plain_config(configuration: Configuration | Mapping[str, Any]) -> dict[str, ConfigValue]:
    """Return a configuration as plain Python values: ConfigSpace leaks np.str_, np.int64 and np.True_."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in dict(configuration).items()}


def to_configuration(
    configuration_space: ConfigurationSpace, config: Config, *, what: str = "configuration"
) -> Configuration:
    """Return ConfigSpace's object for plain values, rebuilt from its vector so that it hashes like a sampled one.

    Raises:
        NaxcliError: Naming the unknown, missing or illegal hyperparameter.
    """
    from ConfigSpace import Configuration

    unknown = sorted(set(config) - set(configuration_space))
    if unknown:
        raise NaxcliError(
            f"{what} has unknown hyperparameters: {', '.join(unknown)}",
            why=f"the space has {', '.join(configuration_space)}",
        )
    for name, value in config.items():
        if not configuration_space[name].legal_value(value):
            raise NaxcliError(
                f"{what}: {value!r} is not a value of {name}",
                why=f"legal: {describe_domain(configuration_space[name])}",
            )
    try:
        configuration = Configuration(configuration_space, values=dict(config))
        configuration.check_valid_configuration()
    except Exception as error:  # ConfigSpace raises half a dozen unrelated types here, all of them about the values
        raise NaxcliError(f"{what} is not legal in this space", why=str(error)) from error
    return Configuration(configuration_space, vector=configuration.get_array().copy())


def spaces_folder() -> Path:
    """Return the folder of the spaces that ship with naxcli: inside the wheel, or at the top of a checkout."""
    package = Path(__file__).parent.parent
    packaged = package / "spaces"
    return packaged if packaged.is_dir() else package.parent / "spaces"


def shipped_spaces() -> list[str]:
    """Return the names of the spaces that ship with naxcli."""
    return sorted(path.stem for path in spaces_folder().glob("*.py") if not path.stem.startswith("_"))


def load_space(reference: str) -> Space:
    """Return the space named by a shipped name, a path to a Python file, `package.module:SPACE`, or a prepared space's file.

    A space file is code: it runs when it is loaded, so it is loaded only when the user names it, or a prepared space beside it.

    Raises:
        NaxcliError: If there is no such space, or its file does not import or holds no Space.
    """
    if reference.endswith(SUFFIX):
        return _load_prepared(Path(reference))
    if reference.endswith(".py") or "/" in reference:
        return _load_file(Path(reference))
    if ":" in reference:
        return _load_module(reference)
    path = spaces_folder() / f"{reference}.py"
    if not path.is_file() or reference.startswith("_"):
        raise NaxcliError(
            f"there is no space named {reference!r}",
            why=f"shipped spaces: {', '.join(shipped_spaces())}",
            hint=did_you_mean(
                reference,
                shipped_spaces(),
                otherwise="name one of these, a file (path/to/space.py) or a module (package.module:SPACE)",
            ),
        )
    return dataclasses.replace(_load_file(path), origin=reference)


def space_source(space: Space) -> Path:
    """Return the file that defines a loaded space, which need not be the one that its functions come from."""
    if space.origin.endswith(".py"):
        return Path(space.origin)
    if ":" in space.origin:
        return Path(sys.modules[space.origin.partition(":")[0]].__file__ or "")
    if space.origin:
        return spaces_folder() / f"{space.origin}.py"
    function = space.build or space.evaluate
    return Path(sys.modules[function.__module__].__file__ or "")


def space_text(space: Space) -> str:
    """Return the source of a space: that of its file, then those of the space files that its functions come from, such as one that it
    builds on."""
    own = space_source(space)
    functions = (space.configspace, space.build, space.evaluate, space.canonical, space.zero_cost)
    files = [own, *sorted(filter(None, map(_space_file, functions)))]
    return "\n".join(path.read_text(encoding="utf-8") for path in dict.fromkeys(path.resolve() for path in files))


def _space_file(function: Callable[..., Any] | None) -> Path | None:
    """Return the space file that a function is defined in, None of one from elsewhere."""
    while isinstance(function, functools.partial):
        function = function.func
    module = sys.modules.get(getattr(inspect.unwrap(function), "__module__", "") if function else "")
    is_space = module is not None and is_user_module(module, kind="space")
    return Path(module.__file__ or "") if module is not None and is_space else None


def bare_code(source: str) -> str:
    """Return Python source without comments, docstrings and layout: what may change without a trial being another."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [item for item in body if not _is_text(item)]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def space_digest(space: Space) -> str:
    """Return what tells whether two processes loaded the same space, as `CODE-MEANING`.

    CODE is of its text without comments, docstrings and layout; MEANING of what the loaded file says: its hyperparameters, groups and
    references, and what a sample of configurations is reduced to and whether it is allowed.
    """
    code = bare_code(space_text(space))
    configuration_space = space.configuration_space(seed=0)
    sampled = [plain_config(item) for item in configuration_space.sample_configuration(NUM_DIGESTED)]
    canonical = [space.canonicalise(config) for config in sampled]
    meaning = {
        "space": configuration_space.to_serialized_dict(),
        "name": space.name,
        "version": space.version,
        "groups": dict(space.groups),
        "reference": dict(space.reference),
        "canonical": canonical,
        "limits": [repr(constraint) for constraint in space.constraints if isinstance(constraint, Limits)],
        "allowed": [[space.allows(predicate, config) for predicate in space.predicates] for config in canonical],
    }
    texts = (code, json.dumps(meaning, default=str, sort_keys=True))
    return "-".join(hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in texts)


def _load_prepared(path: Path) -> Space:
    """Return the space that a file of `naxcli space prepare` was made of, if that still is the same."""
    prepared = PreparedSpace.read(path)
    is_shipped = prepared.reference in shipped_spaces()
    if not is_shipped and prepared.reference != path.with_suffix(".py").name:
        raise NaxcliError(
            f"{path} names the space {prepared.reference!r}",
            why="a space is code, and a prepared file loads the one of its own name beside it and no other",
            hint=f"put the space's file at {path.with_suffix('.py')}, and prepare it again",
        )
    space = load_space(prepared.reference if is_shipped else str(path.with_suffix(".py")))
    if space.version != prepared.version or space_digest(space) != prepared.digest:
        changed = f"version {prepared.version} then, {space.version} now"
        raise NaxcliError(
            f"{path} was prepared for another version of space {space.name!r}",
            why=changed if space.version != prepared.version else "the space's code was changed since",
            hint=f"naxcli space prepare {shlex.quote(space.origin)} --out {shlex.quote(str(path))} prepares it again",
        )
    return dataclasses.replace(space, prepared=prepared)


def _load_file(path: Path) -> Space:
    path = path.resolve()
    if not path.is_file():
        raise NaxcliError(f"there is no space file {path}", hint="naxcli space list shows the spaces that ship")
    if path.suffix != ".py":
        raise NaxcliError(
            f"{path} is no Python file", hint="a space is a file such as space.py; docs/spaces.md shows one"
        )
    module = import_file(path, kind="space")
    return dataclasses.replace(_space_of(module, "SPACE", str(path)), origin=str(path))


def _load_module(reference: str) -> Space:
    module_name, _, attribute = reference.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise NaxcliError(
            f"{reference!r} names no space", hint="write package.module:SPACE, or the path of a Python file"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # as above: any exception of the user's module
        raise NaxcliError(
            f"the module {module_name!r} does not import", why="".join(traceback.format_exception_only(error)).strip()
        ) from error
    return dataclasses.replace(_space_of(module, attribute or "SPACE", module_name), origin=reference)


def _space_of(module: Any, attribute: str, where: str) -> Space:
    space = getattr(module, attribute, None)
    if not isinstance(space, Space):
        raise NaxcliError(
            f"{where} has no {attribute} = Space(...)" if space is None else f"{attribute} in {where} is not a Space",
            hint="docs/spaces.md shows how to write a space",
        )
    return space
