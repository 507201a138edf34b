"""SearchBar: a search's progress on one line, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from naxcli.commands.progress import done_by, format_score, seconds_left, share_done
from naxcli.errors import printable
from naxcli.records.trial import Result, Trial
from naxcli.settings.experiment import Experiment
from naxcli.settings.units import counted, format_duration

if TYPE_CHECKING:
    from naxcli.records.incumbent import Incumbent
    from naxcli.search.loop import Search


class SearchBar:
    """What `run_search` shows of a search under way: trials, the share of the goal, the time left, and the best so far.

    Args:
        experiment: Settings of the search.
        is_accuracy: Whether a cost is 1 - accuracy.
        is_quiet: Whether nothing is shown at all.
    """

    def __init__(self, experiment: Experiment, *, is_accuracy: bool, is_quiet: bool = False) -> None:
        self._experiment = experiment
        self._is_accuracy = is_accuracy
        self._is_quiet = is_quiet
        self._search: Search | None = None
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            TextColumn("{task.fields[best]}", markup=False),
            console=self._console,
            disable=is_quiet,
        )
        self._task = self._progress.add_task("starting workers", total=1.0, left="", best="")

    def __enter__(self) -> SearchBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._update()
        self._progress.stop()

    def preparing(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def started(self, search: Search) -> None:
        self._search = search
        self._update()

    def asked(self, trial: Trial) -> None:
        pass

    def epoch(self, message: Mapping[str, Any]) -> None:
        pass

    def finished(self, trial: Trial, result: Result, incumbent: Incumbent | None) -> None:
        self._update()

    def notice(self, text: str) -> None:
        if not self._is_quiet:
            self._progress.console.print(Text(printable(text)), soft_wrap=True)

    def tick(self) -> None:
        self._update()

    def _update(self) -> None:
        if self._search is None or self._is_quiet:
            return
        done = done_by(self._search)
        goal = f" of {self._experiment.trials:,}" if self._experiment.trials else ""
        left = seconds_left(self._experiment, done)
        best = self._search.incumbent
        self._progress.update(
            self._task,
            description=f"{done.num_finished:,}{goal} trials" if goal else counted(done.num_finished, "trial"),
            completed=share_done(self._experiment, done),
            left="" if left is None else f"{format_duration(left)} left",
            best="" if best is None else f"best {format_score(best.cost, is_accuracy=self._is_accuracy)}",
        )
