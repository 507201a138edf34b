"""TOML files, with errors that say what is wrong."""

from __future__ import annotations

import tomllib
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
