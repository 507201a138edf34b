"""Progress of a search on stderr: one live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from naxcli.cli.output import stderr_console
from naxcli.quantities import format_duration
from naxcli.search import EndReason
from naxcli.trial import Result, Status, Trial

if TYPE_CHECKING:
    from naxcli.incumbent import Incumbent
    from naxcli.search import Search
    from naxcli.session import SearchEnd, Session

NUM_LAST_RESULTS = 8
PLAIN_INTERVAL_SECONDS = 30.0

_END_WORDS = {
    EndReason.TRIALS: "all trials done",
    EndReason.BUDGET: "budget spent",
    EndReason.EXHAUSTED: "every configuration of the space was tried",
    EndReason.STOPPED: "stopped on request; the same command resumes it",
    EndReason.INTERRUPTED: "interrupted; the same command resumes it",
}


def make_progress(session: Session, *, quiet: bool) -> SearchProgress:
    """Return the display that fits where stderr goes."""
    console = stderr_console()
    if quiet:
        return SearchProgress(session, console, is_quiet=True)
    return LiveProgress(session, console) if console.is_terminal else SearchProgress(session, console)


class SearchProgress:
    """Plain lines: one per result while there are few, then a summary every half minute."""

    def __init__(self, session: Session, console: Console, *, is_quiet: bool = False) -> None:
        self._session = session
        self._console = console
        self._is_quiet = is_quiet
        self._search: Search | None = None
        self._next_line_at = 0.0
        self._is_accuracy = session.space.build is not None

    def __enter__(self) -> SearchProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def started(self, search: Search) -> None:
        self._search = search
        self._started_count = len(search.finished)
        experiment = self._session.experiment
        verb = "starting" if self._session.is_new else "resuming"
        self.notice(
            f"{verb} {self._session.run.path}: space {self._session.space.name}, searcher {experiment.searcher}, {self._goal()}"
        )
        if not self._session.is_new:
            waiting = f", {len(search.records.running())} to run again" if search.records.running() else ""
            self.notice(
                f"{len(search.finished)} trials finished{waiting}, {format_duration(search.active_seconds())} active so far"
            )

    def asked(self, trial: Trial) -> None:
        pass

    def epoch(self, message: Mapping[str, Any]) -> None:
        pass

    def finished(self, trial: Trial, result: Result, incumbent: Incumbent | None) -> None:
        now = time.monotonic()
        is_new_incumbent = incumbent is not None and incumbent.trial.trial_id == trial.trial_id
        if not is_new_incumbent and now < self._next_line_at and result.status == Status.SUCCESS:
            return
        self._next_line_at = now + (0.0 if self._num_finished() < 20 else PLAIN_INTERVAL_SECONDS)
        marker = "  <- best" if is_new_incumbent else ""
        self.notice(
            f"trial {trial.trial_id:>5}  {self._outcome(result):<16} {format_duration(result.seconds):>7}   "
            f"{self._num_finished()} done, {self._time_left()}{marker}"
        )
        if result.reason:
            self.notice(f"{'':13}{result.reason}")

    def notice(self, text: str) -> None:
        if not self._is_quiet:
            self._console.print(text, markup=False, soft_wrap=True)

    def tick(self) -> None:
        pass

    def summarise(self, end: SearchEnd) -> None:
        """Print how the search ended, its incumbent, and what to do next."""
        if self._is_quiet:
            return
        run = self._session.run.path
        self.notice(f"{_why_ended(end)}: {end.num_finished} trials finished in {run}")
        if end.incumbent is None:
            self.notice("no trial succeeded; the `error` column of trials.parquet says why")
            return
        self.notice(f"incumbent: trial {end.incumbent.trial.trial_id}, {self._score(end.incumbent.cost)}")
        self.notice(f"next: naxcli report {run}   naxcli export {run} --format python --out NAME")

    def _goal(self) -> str:
        experiment = self._session.experiment
        goals = []
        if experiment.budget_seconds is not None:
            spent = 0.0 if self._search is None else self._search.active_seconds()
            left = max(0.0, experiment.budget_seconds - spent)
            until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + left))
            goals.append(f"budget {format_duration(experiment.budget_seconds)} (until {until} if it runs on)")
        if experiment.trials is not None:
            goals.append(f"{experiment.trials} trials")
        return ", ".join(goals)

    def _num_finished(self) -> int:
        return 0 if self._search is None else len(self._search.finished)

    def _outcome(self, result: Result) -> str:
        return self._score(result.cost) if result.status == Status.SUCCESS else str(result.status)

    def _score(self, cost: float | None) -> str:
        if cost is None:
            return "–"
        return f"{100 * (1 - cost):.2f} % accuracy" if self._is_accuracy else f"cost {cost:.6g}"

    def _rate(self) -> float | None:
        """Return trials per second of active time over the whole run."""
        if self._search is None or self._search.active_seconds() <= 0 or not self._search.finished:
            return None
        return len(self._search.finished) / self._search.active_seconds()

    def _fraction_and_left(self) -> tuple[float, float | None]:
        """Return the share of the goal that is done, and the seconds left, whichever goal ends first."""
        if self._search is None:
            return 0.0, None
        experiment, active = self._session.experiment, self._search.active_seconds()
        fractions, lefts = [0.0], []
        if experiment.budget_seconds is not None:
            fractions.append(active / experiment.budget_seconds)
            lefts.append(max(0.0, experiment.budget_seconds - active))
        rate = self._rate()
        if experiment.trials is not None:
            fractions.append(self._num_finished() / experiment.trials)
            if rate:
                lefts.append(max(0.0, (experiment.trials - self._num_finished()) / rate))
        return min(1.0, max(fractions)), min(lefts) if lefts else None

    def _time_left(self) -> str:
        left = self._fraction_and_left()[1]
        return "time left –" if left is None else f"time left {format_duration(left)}"


class LiveProgress(SearchProgress):
    """One display that refreshes in place: goal, rate, incumbent, running and last trials."""

    def __init__(self, session: Session, console: Console) -> None:
        super().__init__(session, console)
        self._last: deque[tuple[Trial, Result, bool]] = deque(maxlen=NUM_LAST_RESULTS)
        self._last_failure = ""
        self._epochs: dict[int, Mapping[str, Any]] = {}
        self._lock = threading.Lock()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=False)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def finished(self, trial: Trial, result: Result, incumbent: Incumbent | None) -> None:
        with self._lock:
            is_new_incumbent = incumbent is not None and incumbent.trial.trial_id == trial.trial_id
            self._last.append((trial, result, is_new_incumbent))
            if result.reason:
                self._last_failure = f"trial {trial.trial_id}: {result.reason}"
            self._epochs.pop(trial.trial_id, None)

    def epoch(self, message: Mapping[str, Any]) -> None:
        with self._lock:
            self._epochs[int(message["trial_id"])] = message

    def _render(self) -> Panel:
        with self._lock:
            return self._panel()

    def _panel(self) -> Panel:
        title = f"naxcli search · {self._session.space.name}"
        data = self._session.experiment.data
        title += f" on {data}" if data else ""
        if self._search is None:
            return Panel(Text("starting workers …"), title=title, title_align="left")
        return Panel(
            Group(self._header(), Text(), self._running_table(), Text(), self._results_table()),
            title=title, subtitle=str(self._session.run.path), title_align="left", subtitle_align="left",
        )  # fmt: skip

    def _header(self) -> Group:
        assert self._search is not None
        search, experiment = self._search, self._session.experiment
        fraction, left = self._fraction_and_left()
        rate = self._rate()
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold")
        grid.add_column()
        trials = f"{len(search.finished)}" + (f" of {experiment.trials}" if experiment.trials else "")
        counts = search.status_counts
        failures = ", ".join(f"{n} {status}" for status, n in counts.items() if n and status != Status.SUCCESS)
        speed = f"{60 * rate:.1f} a minute" if rate and rate > 0.1 else f"{3600 * rate:.1f} an hour" if rate else "–"
        budget = experiment.budget_seconds
        active = format_duration(search.active_seconds()) + (f" of {format_duration(budget)}" if budget else "")
        grid.add_row("trials", f"{trials} done, {len(search.running)} running" + (f" ({failures})" if failures else ""))
        grid.add_row("rate", speed)
        grid.add_row("active", f"{active}, {format_duration(left)} left" if left is not None else active)
        if search.incumbent is not None:
            grid.add_row(
                "best",
                Text(f"{self._score(search.incumbent.cost)} (trial {search.incumbent.trial.trial_id})", style="green"),
            )
            grid.add_row("", Text(describe_config(search.incumbent.trial.config), style="dim"))
        if self._last_failure:
            grid.add_row("failed", Text(self._last_failure, style="red", no_wrap=True, overflow="ellipsis"))
        return Group(grid, Text(), ProgressBar(total=1.0, completed=fraction))

    def _running_table(self) -> Table:
        assert self._search is not None
        table = _table("running", "epoch", "loss", "validation")
        for trial_id, trial in sorted(self._search.running.items())[:NUM_LAST_RESULTS]:
            message = self._epochs.get(trial_id)
            if message is None:
                table.add_row(f"trial {trial_id}", f"0/{trial.fidelity:g}", "–", "–")
                continue
            accuracy = message["val_accuracy"]
            table.add_row(
                f"trial {trial_id}", f"{message['epoch']:g}/{trial.fidelity:g}", f"{message['train_loss']:.4f}",
                "–" if accuracy is None else f"{100 * accuracy:.2f} %",
            )  # fmt: skip
        return table

    def _results_table(self) -> Table:
        table = _table("last results", "result", "time", "searcher")
        for trial, result, is_new_incumbent in reversed(self._last):
            is_success = result.status == Status.SUCCESS
            outcome = self._outcome(result) + (" ★" if is_new_incumbent else "")
            style = "green" if is_new_incumbent else "" if is_success else "red"
            table.add_row(
                f"trial {trial.trial_id}", Text(outcome, style=style), format_duration(result.seconds), trial.searcher
            )
        return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=False)
    for index, name in enumerate(columns):
        table.add_column(name, min_width=16 if index < 2 else 8, no_wrap=True)
    return table


def _why_ended(end: SearchEnd) -> str:
    if end.reason is EndReason.BUDGET and end.seconds_left >= 1:
        left, needed = format_duration(end.seconds_left), format_duration(end.seconds_per_trial)
        return f"{left} left, too little for another trial (about {needed})"
    return _END_WORDS[end.reason]


def describe_config(config: Mapping[str, Any]) -> str:
    """Return a configuration on one line."""
    return " ".join(f"{name}={value}" for name, value in config.items())
