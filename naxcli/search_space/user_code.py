"""Python files that users write: importing one, and naming the line at which it fails."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from naxcli.errors import NaxcliError


def import_file(path: Path, *, kind: str) -> ModuleType:
    """Return the module of a Python file, which runs.

    Args:
        path: of the file, absolute.
        kind: what the file is to its user, such as `space`.

    Raises:
        NaxcliError: if the file does not import, with the line.
    """
    module_name = _prefix(kind) + re.sub(r"\W", "_", str(path.with_suffix("")))
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle inside the file look their module up
    try:
        spec.loader.exec_module(module)
    except NaxcliError:
        raise
    except Exception as error:  # whatever the user's file raises is the user's to see
        sys.modules.pop(module_name, None)
        raise NaxcliError(
            f"the {kind} file {path} does not import",
            why="".join(traceback.format_exception_only(error)).strip(),
            hint=line_of(error, path),
        ) from error
    return module


def is_user_module(module: ModuleType, *, kind: str) -> bool:
    """Return whether a module is a file of this kind that `import_file` imported."""
    return module.__name__.startswith(_prefix(kind))


def _prefix(kind: str) -> str:
    return f"naxcli_{kind}_"


def line_of(error: BaseException, path: Path) -> str:
    """Return the last line of a file that an exception came through as `see line N`, empty if there is none."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.lineno:
        lines.append(error.lineno)
    return f"see line {lines[-1]}" if lines else ""
