"""load_exported_file: the network of a `python` export, as a space of one configuration.

The file is code, which runs when it is loaded: it is loaded only because the user named it.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config, ConfigValue
from naxcli.search_space.contract import Space

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

FULL_SIZE = "full"
"""The variant of a file whose network has one image size of its own."""
_BINDS = {"CONFIG", "create", "load_weights", "default_cfgs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """What a `python` export says of its network.

    Args:
        space: Space of this network only, whose `build` is the file's `create`.
        name: Name under which the network is registered with timm.
        variant: `reduced` where the file's `create` takes an image size, else `FULL_SIZE`.
        weights: File of the trained weights that the export names; None where it is missing.
    """

    space: Space
    config: Mapping[str, ConfigValue]
    name: str
    variant: str
    width: float
    num_classes: int
    in_channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: Path | None


def is_exported_file(path: Path) -> bool:
    """Return whether a Python file is a `python` export, without running it."""
    if path.suffix != ".py" or not path.is_file():
        return False
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError):
        return False
    bound = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    bound |= {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return bound >= _BINDS and "SPACE" not in bound


def import_file(path: Path) -> Any:
    """Return a Python file as a module of its own, which runs it.

    Raises:
        NaxcliError: If it raises anything.
    """
    # Not under its stem: a file may be called as a library is.
    name = "naxcli_exported_" + re.sub(r"\W", "_", str(path.resolve().with_suffix("")))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # timm asks for the module of what registers itself
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a file from elsewhere may fail in any way
        sys.modules.pop(name, None)
        raise NaxcliError(
            f"{path} does not import", why="".join(traceback.format_exception_only(error)).strip()
        ) from error
    return module


def load_exported_file(path: Path) -> ExportedFile:
    """Run a `python` export and return its network.

    Raises:
        NaxcliError: If the file is no export, or does not import.
    """
    if not is_exported_file(path):
        raise NaxcliError(
            f"{path} is not a Python export of naxcli",
            why=f"such a file has {', '.join(sorted(_BINDS))}",
            hint="naxcli export --format python writes one; a space file is named with --space",
        )
    import timm

    module = import_file(path)
    name = next(iter(module.default_cfgs))
    settings = timm.get_pretrained_cfg(name)
    parameters = inspect.signature(module.create).parameters
    variant = "reduced" if "image_size" in parameters else FULL_SIZE
    channels, image_size, _ = settings.input_size
    weights = Path(settings.file) if settings.file else None
    return ExportedFile(
        space=_space(module, name, path, image_size=image_size, is_reduced=variant != FULL_SIZE),
        config=_config(module),
        name=name,
        variant=variant,
        width=float(parameters["width"].default),
        num_classes=settings.num_classes,
        in_channels=channels,
        image_size=image_size,
        mean=tuple(settings.mean),
        std=tuple(settings.std),
        weights=weights if weights is not None and weights.is_file() else None,
    )


def _config(module: Any) -> dict[str, ConfigValue]:
    """Return the configuration of a file: of its network, and what it chooses of the recipe."""
    return {**module.CONFIG, **getattr(module, "RECIPE_CHOICES", {})}


def _space(module: Any, name: str, path: Path, *, image_size: int, is_reduced: bool) -> Space:
    config = _config(module)

    def configspace(seed: int | None = None) -> ConfigurationSpace:
        from ConfigSpace import Categorical, ConfigurationSpace

        space = ConfigurationSpace(seed=seed)
        space.add(*(Categorical(key, [value]) for key, value in config.items()))
        return space

    def build(
        config: Config, *, num_classes: int, in_channels: int, image_size: int | None = None, width: float = 1.0
    ) -> Any:
        sizes = {"image_size": image_size} if is_reduced else {}
        return module.create(num_classes=num_classes, in_channels=in_channels, width=width, **sizes)

    # Whoever asks where the network's code is finds the file.
    build.__module__, build.__name__ = module.__name__, "create"
    build.image_size = image_size  # type: ignore[attr-defined]
    return Space(
        name=name,
        configspace=configspace,
        build=build,
        variants={} if is_reduced else {FULL_SIZE: build},
        reference={name: config},
        origin=str(path.resolve()),
    )
