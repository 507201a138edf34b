"""TOML files, with errors that say what is wrong, and nested settings as one flat table."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from naxcli.errors import NaxcliError


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's content.

    Raises:
        NaxcliError: If it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NaxcliError(f"{path} is not valid TOML", why=str(error)) from error
    except OSError as error:
        raise NaxcliError(f"{path} cannot be read", why=error.strerror or str(error)) from error


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names, as `--set` writes them, with lists for tuples and text for paths, as a file holds them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flat_settings(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = json.loads(json.dumps(value, default=str))
    return flat
