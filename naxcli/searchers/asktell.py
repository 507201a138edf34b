"""AskTell: one searcher made of a proposer (what to try next) and a schedule (at which fidelity).

Exact resume rests on one rule: a suggestion is a function of the seed, of how many suggestions came before it, and of what
was asked and told. Nothing else is kept between calls but caches. The generator of a suggestion is made anew from the seed
and its number, so there are no random states to save, and a restart only reads the events.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.trial import Config, ConfigValue, Suggestion
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import Asked, Cost, Event, History
from naxcli.searchers.schedule import Schedule


class Proposer(Protocol):
    """Chooses the next new configuration."""

    def propose(
        self, history: History, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        """Return an open configuration, None if there is none now; while nothing runs, there will be none any more."""

    def notice(self, history: History) -> str:
        """Return what a user would not expect of the next proposals, empty if there is nothing."""


class AskTell:
    """A searcher: see `naxcli.searchers.Searcher` for its methods' meaning.

    Args:
        name: as on the command line.
        proposer: chooses new configurations.
        schedule: chooses fidelities and promotions.
        candidates: the open configurations.
        seed: of every random choice, and the training seed of every suggestion, so that configurations are compared
            with the same initialisation and order of data.
        max_in_flight: `ask` returns None while as many suggestions are untold.
        learns: whether the proposer looks at results.
    """

    def __init__(
        self,
        *,
        name: str,
        proposer: Proposer,
        schedule: Schedule,
        candidates: Candidates,
        seed: int,
        max_in_flight: int,
        learns: bool = True,
    ) -> None:
        self.name = name
        self._proposer = proposer
        self._schedule = schedule
        self._candidates = candidates
        self._seed = seed
        self._max_in_flight = max_in_flight
        self.learns = learns or schedule.promotes
        self._history = History()
        self._has_ended = False  # the proposer had nothing while nothing ran, so that nothing can change that

    @property
    def in_flight(self) -> tuple[Suggestion, ...]:
        """Suggestions asked and not yet told, oldest first; after a resume they are to be run again."""
        return self._history.running

    @property
    def is_exhausted(self) -> bool:
        if self._has_ended:
            return True
        if not self._candidates.is_exhausted:
            return False
        self._candidates.require_any()
        can_open_more = self._schedule.promotes and self._history.num_running > 0
        return not can_open_more and self._schedule.promotion(is_exhausted=True) is None

    def ask(self) -> Suggestion | None:
        if self._history.num_running >= self._max_in_flight:
            return None
        self._candidates.require_any()
        suggestion = self._schedule.promotion(is_exhausted=self._candidates.is_exhausted) or self._new_suggestion()
        if suggestion is not None:
            self.note_asked(suggestion)
        return suggestion

    def tell(self, suggestion: Suggestion, *, cost: Cost | None) -> None:
        if not self._history.is_running(suggestion):  # of another searcher
            self._candidates.claim(suggestion.config)
        self._schedule.tell(self._history.tell(suggestion, cost))

    def notice(self) -> str:
        return self._proposer.notice(self._history)

    def state(self) -> str:
        return json.dumps(
            {
                "searcher": self.name,
                "seed": self._seed,
                "num_asked": len(self._history.asked),
                "num_told": len(self._history.told),
            }
        )

    def note_asked(self, suggestion: Suggestion) -> None:
        """Note a suggestion, also one from elsewhere: its configuration will not be suggested as a new one."""
        self._history.ask(suggestion)
        self._schedule.ask(suggestion)
        self._candidates.claim(suggestion.config)

    def restore(self, history: Iterable[Event], state: str | None) -> None:
        """Read the events of an interrupted run, after which the next suggestions are those of an uninterrupted one.

        Raises:
            NaxcliError: if the state is of another searcher or seed, or knows of more events than there are.
        """
        for event in history:
            if isinstance(event, Asked):
                self.note_asked(event.suggestion)
            else:
                self.tell(event.suggestion, cost=event.cost)
        if state is None:
            return
        saved, own = json.loads(state), json.loads(self.state())
        for what in ("searcher", "seed"):
            if saved[what] != own[what]:
                raise NaxcliError(
                    f"the run was searched with {what} {saved[what]!r}, not {own[what]!r}",
                    hint="continue with the same searcher and seed, or name another run directory with --run",
                )
        if saved["num_asked"] > own["num_asked"] or saved["num_told"] > own["num_told"]:
            raise NaxcliError(
                "the run's records are incomplete",
                why=f"the searcher had asked {saved['num_asked']} and was told {saved['num_told']} trials; the records "
                f"hold {own['num_asked']} and {own['num_told']}",
                hint="restore search.db from a backup, or start a new run",
                exit_code=ExitCode.FAILED,
            )

    def _new_suggestion(self) -> Suggestion | None:
        if self._candidates.is_exhausted:
            return None
        rng = np.random.default_rng([self._seed, len(self._history.asked)])
        config: Config | None = self._proposer.propose(self._history, self._candidates, rng)
        if config is None:
            self._candidates.require_any()
            promoted = self._schedule.promotion(is_exhausted=True)
            self._has_ended = promoted is None and self._history.num_running == 0
            return promoted
        place = self._schedule.place()
        return Suggestion(
            config=config, fidelity=place.fidelity, seed=self._seed, bracket=place.bracket, rung=place.rung
        )
