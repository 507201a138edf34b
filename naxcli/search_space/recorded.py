"""The space of a recorded run, which may be a stranger's."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.search_space.contract import Space, load_space, shipped_spaces

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace


def load_recorded_space(settings: Mapping[str, Any], *, named: str | None = None) -> Space:
    """Return the space of a recorded run: the one the user names, else the recorded one if it ships with naxcli.

    Raises:
        NaxcliError: for a recorded path or module: a run may come from a stranger, and a space file is code.
    """
    recorded = str(settings.get("space"))
    if named is None and recorded not in shipped_spaces():
        raise NaxcliError(
            f"the run's space is the file {recorded}",
            why="a space file is code, and is only loaded when you name it",
            hint=f"add --space {shlex.quote(recorded)}",
        )
    return load_space(named or recorded)


def read_space(path: Path) -> ConfigurationSpace:
    """Return the ConfigurationSpace of a space.json.

    Raises:
        NaxcliError: if the file is missing, or is not ConfigSpace's serialization.
    """
    from ConfigSpace import ConfigurationSpace

    if not path.is_file():
        raise NaxcliError(f"there is no file {path}", hint="a search writes it into its run, beside the trials")
    try:
        return ConfigurationSpace.from_serialized_dict(json.loads(path.read_text(encoding="utf-8")))
    # json's and ConfigSpace's ways to refuse
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NaxcliError(
            f"{path} is not a serialized ConfigSpace",
            why=str(error).splitlines()[0] if str(error) else "",
            hint="ConfigurationSpace.to_json(path) writes one",
        ) from error
