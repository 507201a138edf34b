"""What observational studies found, one file of a run's folder `studies` each, and a study under way that can be interrupted."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from naxcli.errors import NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.files import make_folder, write_atomically

SCHEMA = 1
SECONDS_BETWEEN_WRITES = 5.0
TEXT_COLUMNS = frozenset({"name", "kind", "on"})
COORDINATES = frozenset({"x", "y", "t"})
NUMERIC_FACTS = frozenset({"seconds", "num_train_images", "num_val_images"})
SUMMARY_TEXTS = frozenset({"most_needed", "least_needed"})
SUMMARY_ROWS = frozenset({"cycles"})

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study of one or several trained networks.

    Args:
        name: Its kind and a digest of its settings; the name of its file.
        kind: `landscape`, `lesion`, `path` or another command of `naxcli study`.
        networks: Which networks were looked at, in words.
        settings: Everything that decides the numbers.
        facts: Where they were measured: device, versions, seconds.
        rows: The numbers, None where one is not finite or not there, which no coordinate is; texts under the names of
            `TEXT_COLUMNS`.
        summary: What follows from them, numbers too, but for `SUMMARY_TEXTS` and `SUMMARY_ROWS`; None while the study is not
            finished.
    """

    name: str
    kind: str
    networks: Sequence[str]
    settings: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    summary: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object of its file, which `naxcli study --json` prints."""
        return {
            "schema": SCHEMA,
            "study": self.kind,
            "networks": list(self.networks),
            "settings": dict(self.settings),
            "facts": dict(self.facts),
            "summary": None if self.summary is None else dict(self.summary),
            "rows": list(self.rows),
        }


def study_name(kind: str, settings: Mapping[str, Any]) -> str:
    """Return the name of a study: studies of other settings are others."""
    return f"{kind}-{hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()[:12]}"


def read_studies(run: RunDirectory) -> list[Study]:
    """Return a run's finished studies.

    Raises:
        NaxcliError: If a file is none of this version.
    """
    found = [read_study(run, path) for path in run.study_files() if path.suffix == ".json"]
    return [study for study in found if study.summary is not None]


def read_study(run: RunDirectory, path: Path) -> Study:
    """Return the study of a file, which may be a stranger's, so that its numbers are looked at.

    Raises:
        NaxcliError: If it is none of this version.
    """
    content = run.read_json(path)
    kinds = {"settings": dict, "facts": dict, "rows": list, "networks": list, "study": str}
    is_whole = content.get("schema") == SCHEMA and all(isinstance(content.get(key), of) for key, of in kinds.items())
    summary = content.get("summary")
    if not (is_whole and _is_summary(summary) and _are_facts(content["facts"]) and all(map(_is_row, content["rows"]))):
        raise NaxcliError(
            f"{path} is not a study of this version of naxcli", hint="delete it, and the same study makes it anew"
        )
    return Study(
        name=path.stem,
        kind=content["study"],
        networks=tuple(str(network) for network in content["networks"]),
        settings=content["settings"],
        facts=content["facts"],
        rows=tuple(content["rows"]),
        summary=summary,
    )


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(
        isinstance(value, str)
        if name in TEXT_COLUMNS
        else _is_number(value) or (value is None and name not in COORDINATES)
        for name, value in row.items()
    )


def _are_facts(facts: dict[str, Any]) -> bool:
    return all(_is_number(facts[name]) for name in NUMERIC_FACTS & facts.keys())


def _is_summary(summary: Any) -> bool:
    return summary is None or (
        isinstance(summary, dict) and all(_is_of_summary(name, value) for name, value in summary.items())
    )


def _is_of_summary(name: str, value: Any) -> bool:
    if name in SUMMARY_TEXTS:
        return isinstance(value, str)
    if name in SUMMARY_ROWS:
        return isinstance(value, list) and all(map(_is_row, value))
    return value is None or _is_number(value)


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number; JSON has integers that are larger than any float."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


class StudyFile:
    """The file of a study under way, as a context manager: an interrupted study goes on where it was.

    Attributes:
        study: The study as it is.
    """

    def __init__(self, run: RunDirectory, kind: str, *, networks: Sequence[str], settings: Mapping[str, Any]) -> None:
        name = study_name(kind, settings)
        self.path = run.studies / f"{name}.json"
        self.study = Study(name=name, kind=kind, networks=tuple(networks), settings=settings)
        if self.path.exists():
            self.study = read_study(run, self.path)
        self._rows = list(self.study.rows)
        self._seconds = float(self.study.facts.get("seconds", 0.0))
        self._began = self._written_at = time.monotonic()
        self._is_written = True

    @property
    def state_file(self) -> Path:
        """File for what a study needs beside its rows to go on; deleted when it is finished."""
        return self.path.with_suffix(".safetensors")

    @property
    def rows(self) -> Sequence[Row]:
        """What was recorded so far."""
        return self._rows

    @property
    def is_finished(self) -> bool:
        return self.study.summary is not None

    def __enter__(self) -> StudyFile:
        make_folder(self.path.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if not self._is_written:
            self._write(facts=self.study.facts, summary=None)

    def add(self, row: Row) -> None:
        """Record a row; rows reach the disk every few seconds, and when the study ends, however it ends."""
        self._rows.append(row)
        self._is_written = False
        if time.monotonic() - self._written_at > SECONDS_BETWEEN_WRITES:
            self._write(facts=self.study.facts, summary=None)

    def finish(self, facts: Mapping[str, Any], summary: Mapping[str, Any]) -> Study:
        """Record what follows from the rows, and return the study."""
        self._write(facts=facts, summary=summary)
        self.state_file.unlink(missing_ok=True)
        for leftover in self.path.parent.glob(f".{self.study.name}.*.tmp"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
        return self.study

    def _write(self, *, facts: Mapping[str, Any], summary: Mapping[str, Any] | None) -> None:
        seconds = self._seconds + time.monotonic() - self._began
        self.study = Study(
            name=self.study.name,
            kind=self.study.kind,
            networks=self.study.networks,
            settings=self.study.settings,
            facts={**facts, "seconds": seconds},
            rows=tuple(self._rows),
            summary=summary,
        )
        write_atomically(self.path, json.dumps(self.study.to_json(), indent=1, allow_nan=False))
        self._is_written, self._written_at = True, time.monotonic()
