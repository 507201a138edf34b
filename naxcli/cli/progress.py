"""Progress of a search on stderr: one live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from naxcli.cli.output import stderr_console
from naxcli.commands.progress import done_by, format_score, seconds_left, share_done, trials_per_second
from naxcli.errors import printable
from naxcli.records.trial import NO_FAILURES, Result, Status, Trial
from naxcli.report.text import with_unit
from naxcli.search.loop import EndReason
from naxcli.settings.units import counted, format_config, format_duration

if TYPE_CHECKING:
    from naxcli.commands.search import SearchEnd
    from naxcli.commands.session import Session
    from naxcli.records.incumbent import Incumbent
    from naxcli.search.loop import Search

NUM_LAST_RESULTS = 8
# Of the live display: borders, and the line that the cursor stands on below it.
NUM_FRAME_LINES = 3
WIDTH_OF_ALL_COLUMNS = 70  # characters; the searcher of a result is left out on fewer
PLAIN_INTERVAL_SECONDS = 30.0
SECONDS_PER_DAY = 86_400.0

_END_WORDS = {
    EndReason.TRIALS: "all trials done",
    EndReason.BUDGET: "budget spent",
    EndReason.EVALUATIONS: "all evaluations spent",
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
        self._is_accuracy = session.space.is_trained
        # Results of several fidelities are no better or worse than each other.
        self._has_rungs = not session.experiment.fidelity.is_single

    def __enter__(self) -> SearchProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def preparing(self, text: str) -> None:
        pass

    def started(self, search: Search) -> None:
        self._search = search
        self._started_count = len(search.finished)
        experiment = self._session.experiment
        verb = "starting" if self._session.is_new else "resuming"
        words = [f"space {self._session.space.name}", f"searcher {experiment.searcher}"]
        if experiment.objective:
            words.append(f"objectives {experiment.objectives_text}")
        self.notice(f"{verb} {self._session.run.path}: {', '.join([*words, *self._goals()])}")
        if not self._session.is_new:
            num_waiting = len(search.records.running())
            waiting = f", {num_waiting:,} to run again" if num_waiting else ""
            active = format_duration(search.active_seconds())
            self.notice(f"{counted(len(search.finished), 'trial')} finished{waiting}, {active} active so far")

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
        rung = f" {with_unit(trial.fidelity, self._unit):<10}" if self._has_rungs else ""
        self.notice(
            f"trial {trial.trial_id:>5}  {self._outcome(result):<16}{rung} {format_duration(result.seconds):>7}   "
            f"{self._num_finished():,} done, {self._time_left()}{marker}"
        )
        if result.reason:
            self.notice(f"{'':13}{result.reason}")

    def notice(self, text: str) -> None:
        if not self._is_quiet:
            self._console.print(printable(text), soft_wrap=True)

    def tick(self) -> None:
        pass

    def summarise(self, end: SearchEnd) -> None:
        """Print how the search ended, its incumbent, and what to do next."""
        if self._is_quiet:
            return
        run = self._session.run.path
        self.notice(f"{_why_ended(end)}: {counted(end.num_finished, 'trial')} finished in {run}")
        if end.incumbent is None:
            self.notice("no trial succeeded; the `error` column of trials.parquet says why")
            return
        experiment = self._session.experiment
        of_seeds = f", mean of {experiment.repeats} seeds" if experiment.repeats > 1 else ""
        self.notice(f"incumbent: trial {end.incumbent.trial.trial_id}, {self._score(end.incumbent.cost)}{of_seeds}")
        if experiment.objective:
            self.notice(
                f"of the objectives {experiment.objectives_text}, it is the lowest cost; the report shows the Pareto front"
            )
        for number, command in enumerate(self._next_commands()):
            self.notice(f"{'next:' if number == 0 else '     '} {command}")

    def _next_commands(self) -> list[str]:
        """Return what to do with the run, one command a line, as they can be pasted into the shell that ran this one."""
        run = str(self._session.run.path)
        commands = [["report", run]]
        if self._session.space.is_trained:
            commands.append(["export", run, *_space_flags(self._session.space.origin)])
        return [shlex.join(["naxcli", *words]) for words in commands]

    def _goals(self) -> list[str]:
        experiment = self._session.experiment
        goals = []
        if experiment.budget_seconds is not None:
            spent = 0.0 if self._search is None else self._search.active_seconds()
            left = max(0.0, experiment.budget_seconds - spent)
            end = time.localtime(time.time() + left)
            form = "%H:%M:%S" if left < SECONDS_PER_DAY / 2 else "%Y-%m-%d %H:%M"
            goals.append(f"budget {format_duration(experiment.budget_seconds)} (ends about {time.strftime(form, end)})")
        if experiment.trials is not None:
            goals.append(counted(experiment.trials, "trial"))
        if experiment.budget_evaluations is not None:
            goals.append(f"the cost of {experiment.budget_evaluations:g} full evaluations")
        return goals

    @property
    def _unit(self) -> str:
        return "epochs" if self._session.space.is_trained else "fidelity"

    def _num_finished(self) -> int:
        return 0 if self._search is None else len(self._search.finished)

    def _score(self, cost: float | None) -> str:
        return "–" if cost is None else format_score(cost, is_accuracy=self._is_accuracy)

    def _outcome(self, result: Result) -> str:
        return self._score(result.cost) if result.status == Status.SUCCESS else result.status.replace("_", " ")

    def _rate(self) -> float | None:
        """Return trials per second of active time over the whole run."""
        return None if self._search is None else trials_per_second(self._num_finished(), self._search.active_seconds())

    def _share_done(self) -> float:
        return 0.0 if self._search is None else share_done(self._session.experiment, done_by(self._search))

    def _seconds_left(self) -> float | None:
        return None if self._search is None else seconds_left(self._session.experiment, done_by(self._search))

    def _time_left(self) -> str:
        left = self._seconds_left()
        return "time left –" if left is None else f"time left {format_duration(left)}"


class LiveProgress(SearchProgress):
    """One display that refreshes in place: goal, best, running and last trials, and the best configuration where there is room."""

    def __init__(self, session: Session, console: Console) -> None:
        super().__init__(session, console)
        self._last: deque[tuple[Trial, Result]] = deque(maxlen=NUM_LAST_RESULTS)
        self._last_failure = ""
        self._before = "starting workers …"
        self._epochs: dict[int, Mapping[str, Any]] = {}
        self._seen_at: dict[int, float] = {}
        self._lock = threading.Lock()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=False)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def finished(self, trial: Trial, result: Result, incumbent: Incumbent | None) -> None:
        with self._lock:
            self._last.append((trial, result))
            if result.reason and result.status not in NO_FAILURES:
                self._last_failure = f"trial {trial.trial_id}: {result.reason}"
            self._epochs.pop(trial.trial_id, None)
            self._seen_at.pop(trial.trial_id, None)

    def preparing(self, text: str) -> None:
        self._before = text

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
        content = Text(self._before) if self._search is None else self._content()
        return Panel(
            content,
            title=Text(printable(title)),
            subtitle=Text(printable(str(self._session.run.path))),
            title_align="left",
            subtitle_align="left",
        )

    def _content(self) -> Group:
        """Return what fits the terminal's height: first goal, best and running trials, then results, then the configuration."""
        assert self._search is not None
        room = self._console.height - NUM_FRAME_LINES
        rows = self._header_rows(is_high=room >= 12)
        header = Table.grid(padding=(0, 2))
        header.add_column(style="bold")
        header.add_column(no_wrap=True, overflow="ellipsis")
        for row in rows:
            header.add_row(*row)
        parts: list[RenderableType] = [header, self._bar()]
        room -= len(rows) + 1
        num_running = min(len(self._search.running), NUM_LAST_RESULTS, max(1, room - 1 if room < 8 else room // 2))
        sections: list[RenderableType] = [self._running_table(num_running)]
        room -= 1 + num_running
        num_results = min(len(self._last), room - 1)
        if num_results > 0:
            sections.append(self._results_table(num_results))
            room -= 1 + num_results
        configuration = self._configuration()[: max(0, room)]
        if configuration:
            sections.append(Group(*configuration))
            room -= len(configuration)
        for section in sections:
            if room > 0:
                parts.append(Text())
                room -= 1
            parts.append(section)
        return Group(*parts)

    def _header_rows(self, *, is_high: bool) -> list[tuple[str, RenderableType]]:
        """Return label and value of each line of the header, more of them where the display is high."""
        assert self._search is not None
        search, experiment = self._search, self._session.experiment
        left = self._seconds_left()
        counts = {status: number for status, number in search.status_counts.items() if status != Status.SUCCESS}
        failures = ", ".join(f"{number:,} {status.replace('_', ' ')}" for status, number in counts.items() if number)
        goal = f" of {experiment.trials:,}" if experiment.trials else ""
        trials = f"{len(search.finished):,}{goal} done, {len(search.running):,} running"
        if experiment.budget_evaluations is not None:
            trials += f", {search.evaluations.finished:.3g} of {experiment.budget_evaluations:g} full evaluations"
        rate = self._rate()
        per_minute = rate is not None and rate > 0.1
        speed = "–" if rate is None else f"{60 * rate:,.1f} a minute" if per_minute else f"{3600 * rate:,.1f} an hour"
        budget = experiment.budget_seconds
        active = format_duration(search.active_seconds()) + (f" of {format_duration(budget)}" if budget else "")
        best = "–"
        if search.incumbent is not None:
            best = f"{self._score(search.incumbent.cost)} (trial {search.incumbent.trial.trial_id})"
        failure = Text(printable(self._last_failure), style="red", no_wrap=True, overflow="ellipsis")
        return [
            ("trials", trials + (f" ({failures})" if failures else "")),
            *([("rate", speed)] if is_high else []),
            ("active", f"{active}, {format_duration(left)} left" if left is not None else active),
            ("best", Text(best, style="green")),
            *([("failed", failure)] if is_high and self._last_failure else []),
        ]

    def _bar(self) -> Padding:
        return Padding(ProgressBar(total=1.0, completed=self._share_done()), 0)  # a bar alone ends no line

    def _running_table(self, number: int) -> Table:
        assert self._search is not None
        is_trained = self._session.space.is_trained
        table = _table("running", *(("epoch", "loss", "validation") if is_trained else ("fidelity", "for")))
        now = time.monotonic()
        for trial_id, trial in sorted(self._search.running.items())[:number]:
            name, message = f"trial {trial_id}", self._epochs.get(trial_id)
            if not is_trained:
                seconds = now - self._seen_at.setdefault(trial_id, now)
                table.add_row(name, f"{trial.fidelity:g}", format_duration(seconds))
            elif message is None:
                table.add_row(name, f"0/{trial.fidelity:g}", "–", "–")
            else:
                accuracy = message["val_accuracy"]
                table.add_row(
                    name,
                    f"{message['epoch']:g}/{trial.fidelity:g}",
                    f"{message['train_loss']:.4f}",
                    "–" if accuracy is None else f"{100 * accuracy:.2f} %",
                )
        return table

    def _results_table(self, number: int) -> Table:
        assert self._search is not None
        rung = [self._unit] if self._has_rungs else []
        has_searcher = not rung or self._console.width >= WIDTH_OF_ALL_COLUMNS
        table = _table("last results", "result", *rung, "time", *(["searcher"] if has_searcher else []))
        best = None if self._search.incumbent is None else self._search.incumbent.trial.trial_id
        for trial, result in list(reversed(self._last))[:number]:
            is_best = trial.trial_id == best
            style = "green" if is_best else "red" if result.status not in NO_FAILURES else ""
            outcome = Text(self._outcome(result) + (" ★" if is_best else ""), style=style)
            cells: list[Text | str] = [
                outcome,
                *([f"{trial.fidelity:g}"] if rung else []),
                format_duration(result.seconds),
            ]
            table.add_row(f"trial {trial.trial_id}", *cells, *([trial.searcher] if has_searcher else []))
        return table

    def _configuration(self) -> Sequence[Text]:
        """Return the best configuration as lines."""
        assert self._search is not None
        if self._search.incumbent is None:
            return ()
        trial = self._search.incumbent.trial
        text = Text(f"trial {trial.trial_id}: {printable(format_config(trial.config))}", style="dim")
        return list(text.wrap(self._console, max(1, self._console.width - 4)))


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=False)
    for name, width in zip(columns, (12, 18, 7, 0, 0), strict=False):
        table.add_column(name, min_width=width, no_wrap=True)
    return table


def _why_ended(end: SearchEnd) -> str:
    if end.reason is EndReason.BUDGET and end.seconds_left >= 1:
        left, needed = format_duration(end.seconds_left), format_duration(end.seconds_per_trial)
        return f"{left} left, too little for another trial (about {needed})"
    return _END_WORDS[end.reason]


def _space_flags(origin: str) -> list[str]:
    """Return the flags that name a space which does not ship, its file relative to where the user is."""
    if not origin.endswith(".py"):
        return ["--space", origin] if ":" in origin else []
    is_below = Path(origin).is_relative_to(Path.cwd())
    return ["--space", os.path.relpath(origin) if is_below else origin]
