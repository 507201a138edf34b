"""The environment and the settings of a run as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from naxcli.report.section import PAGE, Column, Table
from naxcli.report.text import plain, shorten

MAX_SETTING_LENGTH = 400


def table(name: str, caption: str, settings: Mapping[str, Any]) -> Table:
    """Return nested settings as a table of dotted names."""
    return Table(
        name=name,
        caption=caption,
        columns=[
            Column(title="Name", text=lambda row: row["name"]),
            Column(title="Value", text=lambda row: row["value"]),
        ],
        rows=[{"name": key, "value": value} for key, value in _flatten("", settings)],
        empty="n/a: not recorded",
        on=PAGE,
    )


def _flatten(prefix: str, value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flatten(f"{prefix}.{key}" if prefix else str(key), item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield (
            prefix,
            shorten(
                ", ".join(plain(item) if not isinstance(item, Mapping) else json.dumps(item) for item in value),
                MAX_SETTING_LENGTH,
            ),
        )
    else:
        yield prefix, shorten(plain(value), MAX_SETTING_LENGTH)
