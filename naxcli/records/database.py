"""Records: what a search did. SQLite is the truth, Parquet its copy for readers; the only door to SQLite.

One transaction per ask (the trial and the searcher's state) and one per result. An event number orders asks and results, so that
a resumed searcher is told the past in the order in which it happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.files import discard_on_error, disk_full, guard_disk
from naxcli.records.history import OBJECTIVE_COLUMNS, FinishedTrial, HistoryEvent, objective_costs
from naxcli.records.parquet import CURVE_COLUMNS, SCHEMA_VERSION, curves_table, replace_parquet, trials_table
from naxcli.records.trial import CONFIG_PREFIX, TRIAL_COLUMNS, Result, Status, Suggestion, Trial

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from ConfigSpace import ConfigurationSpace

# Rewriting Parquet costs time in proportion to the run's length: this share of the run's time at most.
PARQUET_TIME_SHARE = 0.01
PARQUET_MIN_INTERVAL_SECONDS = 1.0

_ASK_COLUMNS = {
    "trial_id": "INTEGER PRIMARY KEY",
    "config_id": "TEXT NOT NULL",
    "searcher": "TEXT NOT NULL",
    "bracket": "INTEGER",
    "rung": "INTEGER",
    "fidelity": "REAL NOT NULL",
    "seed": "INTEGER NOT NULL",
    "parent_trial_id": "INTEGER",
    "config": "TEXT NOT NULL",
    "asked_event": "INTEGER NOT NULL",
    "attempts": "INTEGER NOT NULL DEFAULT 0",
}
_RESULT_COLUMNS = {
    "status": "TEXT",
    "cost": "REAL",
    "val_accuracy": "REAL",
    "train_loss": "REAL",
    "num_params": "INTEGER",
    "flops": "INTEGER",
    "latency_ms": "REAL",
    "peak_memory_bytes": "INTEGER",
    "seconds": "REAL",
    "started_at": "REAL",
    "ended_at": "REAL",
    "worker": "TEXT",
    "device": "TEXT",
    "error": "TEXT",
    "grad_accum_steps": "INTEGER",
    "predicted_cost": "REAL",
    "stopped_after": "REAL",
}
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trials ({", ".join(f"{name} {kind}" for name, kind in (_ASK_COLUMNS | _RESULT_COLUMNS).items())},
                     finished_event INTEGER UNIQUE);
CREATE TABLE curves (trial_id INTEGER NOT NULL, {", ".join(f"{name} REAL" for name in CURVE_COLUMNS)},
                     PRIMARY KEY (trial_id, epoch));
CREATE TABLE searcher (name TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE activity (session INTEGER PRIMARY KEY, started_at REAL NOT NULL, active_seconds REAL NOT NULL);
"""
_TABLES = {"meta", "trials", "curves", "searcher", "activity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedTrial:
    """A trial without a result, how often it took its worker or the search with it, and how the last time."""

    trial: Trial
    attempts: int
    reason: str | None


class Records:
    """The open records of one run. Use as a context manager."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._next_parquet_at = 0.0
        self._is_parquet_stale = True
        row = connection.execute(
            "SELECT MAX(MAX(asked_event), COALESCE(MAX(finished_event), 0)) FROM trials"
        ).fetchone()
        self._last_event: int = row[0] or 0

    @classmethod
    def create(cls, run: RunDirectory, meta: Mapping[str, str] = MappingProxyType({})) -> Records:
        """Return the records of a new run, with the facts of `meta` and no trial; their file appears whole or not at all."""
        temporary = run.database.with_name(f".search.db.{os.getpid()}.tmp")
        with _guard(run.database), discard_on_error(temporary):
            temporary.unlink(missing_ok=True)
            with (
                contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as connection,
                _transaction(connection),
            ):
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                facts = {"schema_version": str(SCHEMA_VERSION), **meta}
                connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
            temporary.replace(run.database)
        return cls.open(run)

    @classmethod
    def open(cls, run: RunDirectory, *, to_write: bool = False) -> Records:
        """Return the records of an existing run; for a writer they are checked and backed up first.

        Raises:
            NaxcliError: if the file is damaged or of a newer version.
        """
        if not run.database.exists():
            restoring = f"{run.restoring} brings its copy back" if run.backup.exists() else ""
            raise NaxcliError(
                f"{run.path} has no search.db",
                hint=restoring or "the run was not started, or the file was moved away",
            )
        with _guard(run.database):
            connection = _connect(run.database)
            row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
            if row is None:
                raise sqlite3.DatabaseError("its schema version is missing")
            version = int(row["value"])
            if version > SCHEMA_VERSION:
                raise NaxcliError(
                    f"{run.database} has schema {version}, this naxcli reads {SCHEMA_VERSION}",
                    hint="install a newer naxcli",
                )
            if to_write:
                verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict)
            records = cls(connection, run.database)
            if to_write:
                records.back_up()
                records.add_missing_columns()
            return records

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # -- writing ------------------------------------------------------------------------------------------------------------

    def add_trial(
        self, suggestion: Suggestion, *, searcher: str, state: str, parent_trial_id: int | None = None
    ) -> Trial:
        """Record an ask together with the searcher's state after it, and return the trial."""
        with self._write() as connection:
            trial_id = connection.execute("SELECT COALESCE(MAX(trial_id), 0) + 1 FROM trials").fetchone()[0]
            row = (
                trial_id,
                suggestion.config_id,
                searcher,
                suggestion.bracket,
                suggestion.rung,
                suggestion.fidelity,
                suggestion.seed,
                parent_trial_id,
                json.dumps(dict(suggestion.config), sort_keys=True),
                self._last_event + 1,
                0,
            )
            names = ", ".join(_ASK_COLUMNS)
            connection.execute(f"INSERT INTO trials ({names}) VALUES ({_marks(row)})", row)
            connection.execute("INSERT OR REPLACE INTO searcher VALUES (?, ?)", (searcher, state))
        self._last_event += 1
        return Trial(trial_id=trial_id, suggestion=suggestion, searcher=searcher, parent_trial_id=parent_trial_id)

    def add_attempt(self, trial_id: int, reason: str) -> None:
        """Record that a running trial took its worker or the search with it; the reason is kept until it has a result."""
        with self._write() as connection:
            connection.execute(
                "UPDATE trials SET attempts = attempts + 1, error = ? WHERE trial_id = ? AND finished_event IS NULL",
                (reason, trial_id),
            )

    def add_result(self, trial_id: int, result: Result) -> None:
        """Record the result of a running trial.

        Raises:
            ValueError: if the trial is unknown or has a result already.
        """
        values = [str(result.status), *(getattr(result, name) for name in _RESULT_COLUMNS if name != "status")]
        with self._write() as connection:
            changed = connection.execute(
                f"UPDATE trials SET {', '.join(f'{name} = ?' for name in _RESULT_COLUMNS)}, finished_event = ? "
                "WHERE trial_id = ? AND finished_event IS NULL",
                (*values, self._last_event + 1, trial_id),
            ).rowcount
            if changed != 1:
                raise ValueError(f"trial {trial_id} is not running")
            rows = [(trial_id, *(getattr(epoch, name) for name in CURVE_COLUMNS)) for epoch in result.curve]
            if rows:
                connection.executemany(f"INSERT OR REPLACE INTO curves VALUES ({_marks(rows[0])})", rows)
        self._last_event += 1
        self._is_parquet_stale = True

    def add_missing_columns(self) -> None:
        """Add the columns of results that came after the file was made; their values in its trials are unknown."""
        with self._write() as connection:
            for name in self._missing_columns():
                connection.execute(f"ALTER TABLE trials ADD COLUMN {name} {_RESULT_COLUMNS[name]}")

    def _missing_columns(self) -> list[str]:
        there = {row["name"] for row in self._rows("PRAGMA table_info(trials)")}
        return [name for name in _RESULT_COLUMNS if name not in there]

    def set_meta(self, key: str, value: str) -> None:
        with self._write() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def meta(self, key: str) -> str | None:
        """Return a fact recorded when the run was created, or None."""
        with _guard(self._path):
            row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row["value"])

    def start_session(self) -> int:
        """Begin a period of active time and return its number."""
        with self._write() as connection:
            cursor = connection.execute(
                "INSERT INTO activity (started_at, active_seconds) VALUES (?, 0)", (time.time(),)
            )
        return int(cursor.lastrowid or 0)

    def set_active_seconds(self, session: int, seconds: float) -> None:
        with self._write() as connection:
            connection.execute("UPDATE activity SET active_seconds = ? WHERE session = ?", (seconds, session))

    def back_up(self) -> None:
        """Copy the database to `search.db.backup`, whole or not at all."""
        temporary = self._path.with_name(".search.db.backup.tmp")
        with _guard(self._path), discard_on_error(temporary):
            temporary.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(temporary)) as target:
                self._connection.backup(target)
            temporary.replace(self._path.with_name("search.db.backup"))

    # -- reading ------------------------------------------------------------------------------------------------------------

    def history(self, objective: Sequence[str] = ()) -> list[HistoryEvent]:
        """Return all asks and results in the order in which they were recorded.

        Args:
            objective: further objectives beside the cost, as in `Experiment.objective`.
        """
        events: list[tuple[int, HistoryEvent]] = []
        for row in self._rows("SELECT * FROM trials"):
            trial = _trial(row)
            events.append((row["asked_event"], HistoryEvent(trial=trial, is_result=False)))
            if row["finished_event"] is not None:
                costs = {Status.SUCCESS: "cost", Status.STOPPED: "predicted_cost"}
                measured = [row[OBJECTIVE_COLUMNS[name]] for name in objective]
                column = costs.get(row["status"])
                cost = objective_costs(row[column], measured) if column else None
                events.append((row["finished_event"], HistoryEvent(trial=trial, is_result=True, cost=cost)))
        return [event for _, event in sorted(events, key=lambda pair: pair[0])]

    def finished(self) -> list[FinishedTrial]:
        """Return the finished trials in the order in which they finished."""
        return [
            FinishedTrial(
                trial=_trial(row),
                status=Status(row["status"]),
                cost=row["cost"],
                seconds=row["seconds"] or 0.0,
                worker=row["worker"],
                grad_accum_steps=row["grad_accum_steps"],
                predicted_cost=row["predicted_cost"],
                stopped_after=row["stopped_after"],
            )
            for row in self._finished_rows()
        ]

    def accuracy_curves(self) -> dict[int, list[float | None]]:
        """Return the validation accuracy after each epoch of the finished trials, by their number."""
        curves: dict[int, list[float | None]] = {}
        for row in self._rows(_CURVES_QUERY):
            curves.setdefault(row["trial_id"], []).append(row["val_accuracy"])
        return curves

    def _finished_rows(self) -> list[sqlite3.Row]:
        """Return the finished trials in the order in which they finished, with NULL for columns that the file does not have."""
        columns = ["*", *(f"NULL AS {name}" for name in self._missing_columns())]
        return self._rows(
            f"SELECT {', '.join(columns)} FROM trials WHERE finished_event IS NOT NULL ORDER BY finished_event"
        )

    def running(self) -> list[UnfinishedTrial]:
        """Return the trials without a result in the order in which they were asked."""
        rows = self._rows("SELECT * FROM trials WHERE finished_event IS NULL ORDER BY asked_event")
        return [UnfinishedTrial(trial=_trial(row), attempts=row["attempts"], reason=row["error"]) for row in rows]

    def has_trials(self) -> bool:
        """Return whether anything was ever asked for."""
        return bool(self._rows("SELECT 1 FROM trials LIMIT 1"))

    def searcher_states(self) -> dict[str, str]:
        """Return the last recorded state of each searcher by name."""
        return {row["name"]: row["state"] for row in self._rows("SELECT * FROM searcher")}

    def status_counts(self) -> dict[str, int]:
        rows = self._rows("SELECT status, COUNT(*) AS n FROM trials WHERE finished_event IS NOT NULL GROUP BY status")
        return {row["status"]: row["n"] for row in rows}

    def active_seconds(self) -> float:
        """Return the time the search has been active over all its sessions."""
        return float(self._rows("SELECT COALESCE(SUM(active_seconds), 0) AS total FROM activity")[0]["total"])

    def trials_frame(self) -> pd.DataFrame:
        """Return the finished trials with the columns of trials.parquet; `config.*` columns as found in the configurations."""
        import pandas as pd

        rows = self._finished_rows()
        frame = pd.DataFrame([{name: row[name] for name in TRIAL_COLUMNS} for row in rows], columns=list(TRIAL_COLUMNS))
        configs = pd.DataFrame([json.loads(row["config"]) for row in rows]).add_prefix(CONFIG_PREFIX)
        return pd.concat([frame, configs], axis=1)

    def curves_frame(self) -> pd.DataFrame:
        """Return one row per epoch of the finished trials."""
        import pandas as pd

        return pd.DataFrame([dict(row) for row in self._rows(_CURVES_QUERY)], columns=["trial_id", *CURVE_COLUMNS])

    # -- Parquet ------------------------------------------------------------------------------------------------------------

    def tables(self, configuration_space: ConfigurationSpace) -> tuple[pa.Table, pa.Table]:
        """Return what trials.parquet and curves.parquet would hold now."""
        trials = trials_table(self._finished_rows(), configuration_space, kinds=_ASK_COLUMNS | _RESULT_COLUMNS)
        return trials, curves_table(self._rows(_CURVES_QUERY))

    def write_parquet_if_due(self, run: RunDirectory, configuration_space: ConfigurationSpace) -> None:
        """Replace trials.parquet and curves.parquet, unless nothing changed or the last time was too recent for its price."""
        if self._is_parquet_stale and time.monotonic() >= self._next_parquet_at:
            self.write_parquet(run, configuration_space)

    def write_parquet(self, run: RunDirectory, configuration_space: ConfigurationSpace) -> None:
        """Replace trials.parquet and curves.parquet, each whole or not at all."""
        started = time.monotonic()
        trials, curves = self.tables(configuration_space)
        replace_parquet(run.trials_file, trials)
        replace_parquet(run.curves_file, curves)
        self._is_parquet_stale = False
        seconds = time.monotonic() - started
        self._next_parquet_at = time.monotonic() + max(PARQUET_MIN_INTERVAL_SECONDS, seconds / PARQUET_TIME_SHARE)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make one transaction of all that is written in the block: it is kept as a whole, or not at all if the block raises."""
        with _guard(self._path), _transaction(self._connection):
            yield

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        if self._connection.in_transaction:  # of `together`
            yield self._connection
            return
        with self.together():
            yield self._connection

    def _rows(self, query: str) -> list[sqlite3.Row]:
        with _guard(self._path):
            return self._connection.execute(query).fetchall()


def is_database(path: Path) -> bool:
    """Return whether a file is a database that `Records.create` made.

    It is read as it lies there: no lock is taken, and no journal is rolled back, in case that it is somebody else's.
    """
    if not path.is_file():
        return False
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables >= _TABLES:
                return False
            return connection.execute("SELECT 1 FROM meta WHERE key = 'schema_version'").fetchone() is not None
    except (sqlite3.Error, OSError):
        return False


_CURVES_QUERY = "SELECT curves.* FROM curves JOIN trials USING (trial_id) WHERE finished_event IS NOT NULL ORDER BY finished_event, epoch"


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.row_factory = sqlite3.Row
    # A rollback journal also works on the network file systems of clusters, where write-ahead logs do not.
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Name a full disk and a damaged database; other SQLite errors are bugs and keep their traceback."""
    try:
        with guard_disk(path):
            yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "full" in text or "disk I/O" in text:
            raise disk_full(path) from error
        if "readonly" in text or "unable to open" in text:
            raise NaxcliError(f"{path} cannot be written", why=text) from error
        if "locked" in text:
            raise NaxcliError(f"{path} is busy", why="another process holds it for longer than 30 s") from error
        if "no such table" in text:
            raise _damaged(path, text) from error
        raise
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> NaxcliError:
    backup = path.with_name("search.db.backup")
    hint = f"cp {backup} {path}  (the copy made when the search last started)" if backup.exists() else ""
    return NaxcliError(f"{path} is damaged", why=why, hint=hint, exit_code=ExitCode.FAILED)


def _marks(row: Sequence[Any]) -> str:
    return ", ".join("?" * len(row))


def _trial(row: sqlite3.Row) -> Trial:
    suggestion = Suggestion(
        config=json.loads(row["config"]),
        fidelity=row["fidelity"],
        seed=row["seed"],
        bracket=row["bracket"],
        rung=row["rung"],
    )
    return Trial(
        trial_id=row["trial_id"],
        suggestion=suggestion,
        searcher=row["searcher"],
        parent_trial_id=row["parent_trial_id"],
    )
