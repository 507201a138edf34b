"""A searcher of the user's own: a class with `ask` and `tell` in a Python file, documented in docs/searchers.md.

Its object is fed what was asked and told, in order. A search that goes on makes it anew and asks and tells it all of the past again,
so its random numbers have to come from the seed that it is given.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from naxcli.errors import NaxcliError, did_you_mean
from naxcli.records.trial import Config, ConfigValue, Suggestion, config_id
from naxcli.search_space.contract import Space, plain_config, to_configuration
from naxcli.search_space.user_code import import_file, line_of
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import Asked, History, Told
from naxcli.settings.choices import searcher_file, searcher_name

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

MAX_ANSWERS = 20  # that are not open before a configuration is drawn at random instead
DOCUMENTATION = "docs/searchers.md shows how to write a searcher"
METHODS: Mapping[str, tuple[str, tuple[Any, ...]]] = {"ask": ("ask()", ()), "tell": ("tell(config, cost)", ({}, None))}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSearcher:
    """A user's searcher as loaded.

    Args:
        name: `file.py:NAME`.
        path: of the file, absolute.
        make: the class, or a function: `make(space, *, seed, is_open)` returns an object with `ask` and `tell`.
    """

    name: str
    path: Path
    make: Callable[..., Any]

    @property
    def source(self) -> str:
        """The text of the file."""
        return self.path.read_text(encoding="utf-8")

    def start(self, space: ConfigurationSpace, *, seed: int, is_open: Callable[[Config], bool]) -> Any:
        """Return the object that is asked and told.

        Raises:
            NaxcliError: if making it fails, or it cannot be asked and told.
        """
        started = self._call("making", self.make, space, seed=seed, is_open=is_open)
        for method, (signature, arguments) in METHODS.items():
            self._require_call(getattr(started, method, None), signature, *arguments)
        return started

    def ask(self, started: Any, space: ConfigurationSpace) -> dict[str, ConfigValue] | None:
        """Return the configuration that the object answers with, None where it has none now.

        Raises:
            NaxcliError: if the answer is no configuration of the space.
        """
        answer = self._call("ask", started.ask)
        return None if answer is None else self.legal(answer, space, what="ask returned", written=started.ask)

    def tell(self, started: Any, told: Told) -> None:
        self._call("tell", started.tell, dict(told.suggestion.config), told.cost)

    def legal(self, config: Any, space: ConfigurationSpace, *, what: str, written: Any) -> dict[str, ConfigValue]:
        """Return what the file calls a configuration as plain values.

        Raises:
            NaxcliError: if it is none of the space; names the line of what is written there.
        """
        if not isinstance(config, Mapping):
            raise NaxcliError(
                f"{what} {type(config).__name__} in searcher {self.name}",
                why="a configuration is a mapping of hyperparameters to their values",
                hint=self._place(written),
            )
        plain = plain_config(config)
        try:
            to_configuration(space, plain, what=f"{what} a configuration that")
        except NaxcliError as error:
            raise NaxcliError(
                f"{what} no configuration of the space in searcher {self.name}",
                why=": ".join(filter(None, (error.what, error.why))),
                hint=self._place(written),
            ) from error
        return plain

    def require_signature(self) -> None:
        """Refuse what cannot be called as the contract says, before anything is called.

        Raises:
            NaxcliError: naming the line.
        """
        self._require_call(self.make, "NAME(space, *, seed, is_open)", None, seed=0, is_open=None)
        if inspect.isclass(self.make):
            for method, (signature, arguments) in METHODS.items():
                self._require_call(getattr(self.make, method, None), signature, None, *arguments)

    def _require_call(self, function: Any, signature: str, *arguments: Any, **named: Any) -> None:
        """Refuse what is no function of these arguments."""
        why = "it has none"
        if callable(function):
            try:
                inspect.signature(function).bind(*arguments, **named)
                return
            except TypeError as error:
                why = f"{function.__name__}: {error}" if hasattr(function, "__name__") else str(error)
        raise NaxcliError(f"searcher {self.name} cannot be called as {signature}", why=why, hint=self._place(function))

    def _call(self, what: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a function of the file; what it raises is its author's to see, with its line."""
        try:
            return function(*arguments, **named)
        except NaxcliError:
            raise
        except Exception as error:  # any exception of the author's code
            line = line_of(error, self.path)
            raise NaxcliError(
                f"{what} of searcher {self.name} raised {type(error).__name__}",
                why="".join(traceback.format_exception_only(error)).strip(),
                hint=f"{line} of {self.path}" if line else DOCUMENTATION,
            ) from error

    def _place(self, written: Any) -> str:
        """Return where a class or function begins in the file, else where the searcher does."""
        line = _line(written) or _line(self.make)
        return DOCUMENTATION if line is None else f"see line {line} of {self.path}; {DOCUMENTATION}"


def load_searcher(searcher: str) -> OwnSearcher:
    """Return the searcher `path/to/file.py:NAME`; the file runs.

    Raises:
        NaxcliError: if there is no such file, it does not import, or what it holds cannot be a searcher; names the line.
    """
    found = searcher_file(searcher)
    if found is None:
        raise NaxcliError(f"{searcher} names no searcher's file", hint="--searcher path/to/file.py:NAME")
    path, attribute = found[0].resolve(), found[1]
    if not path.is_file():
        raise NaxcliError(f"there is no searcher file {path}", hint=DOCUMENTATION)
    module = import_file(path, kind="searcher")
    make = getattr(module, attribute, None)
    if not callable(make):
        defined = [name for name, value in vars(module).items() if inspect.isclass(value) or inspect.isfunction(value)]
        raise NaxcliError(
            f"{path} has no class or function {attribute}",
            hint=did_you_mean(attribute, defined, otherwise=DOCUMENTATION),
        )
    own = OwnSearcher(name=searcher_name(searcher), path=path, make=make)
    own.require_signature()
    return own


class OwnProposer:
    """Proposes what a user's searcher answers, a random configuration where its answers are closed.

    Args:
        own: the searcher.
        space: of the search.
        candidates: of the search.
        seed: that the searcher is made with.
    """

    def __init__(self, own: OwnSearcher, *, space: Space, candidates: Candidates, seed: int) -> None:
        self._own = own
        self._candidates = candidates
        self._space = space.configuration_space(seed)  # nobody else draws from it
        self._claimed: set[str] = set()  # by the events so far: those of a past moment when a search goes on
        self._num_read = 0
        self._num_heard = 0  # of the suggestions
        self._num_answered = 0  # of them, those that the searcher was asked for
        self._answer: dict[str, ConfigValue] | None = None  # that was not suggested yet
        self._waits = False
        self._is_stuck = False
        self._answers_otherwise = False
        self._started = own.start(self._space, seed=seed, is_open=self._is_open)

    def propose(
        self, history: History, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        for event in history.events[self._num_read :]:
            if isinstance(event, Asked):
                self._hear(event.suggestion)
            else:
                self._own.tell(self._started, event)
                self._claim(event.suggestion)
        self._num_read = len(history.events)
        self._seek_answer()
        if self._waits:
            return None
        self._num_answered = self._num_heard + 1
        return self._answer or candidates.draw(rng)

    def notice(self, history: History) -> str:
        if self._answers_otherwise:
            return (
                f"{self._own.name} does not answer as it did when the run was searched: it takes results of suggestions that "
                "are not its own, and the search is not the one that it would have been; its random numbers have to come from its seed"
            )
        if self._is_stuck:
            return (
                f"{self._own.name} answered {MAX_ANSWERS} times with what is not open: a random configuration was taken"
            )
        return ""

    def _hear(self, suggestion: Suggestion) -> None:
        """Note a suggestion; one that the searcher was not asked for, as a search goes on, it is asked for now."""
        self._num_heard += 1
        if self._num_heard > self._num_answered:
            self._num_answered = self._num_heard
            self._seek_answer()
        if self._answer == suggestion.config:
            self._answer = None
        elif self._answer is not None or self._waits:
            self._answers_otherwise = True
        self._claim(suggestion)

    def _seek_answer(self) -> None:
        """Ask until there is an open answer, the searcher has none now, or it answered too often with what is not open."""
        self._waits = False
        if self._answer is not None and self._is_canonical_open(self._answer):
            return
        self._answer = None
        for _ in range(MAX_ANSWERS):
            answer = self._own.ask(self._started, self._space)
            if answer is None:
                self._waits = True
                return
            canonical = self._candidates.canonical(answer)
            if self._is_canonical_open(canonical):
                self._answer = canonical
                return
        self._is_stuck = True

    def _claim(self, suggestion: Suggestion) -> None:
        self._claimed.add(config_id(self._candidates.canonical(suggestion.config)))

    def _is_open(self, config: Config) -> bool:
        """Return whether a configuration may still be suggested; this is what the searcher is given."""
        legal = self._own.legal(config, self._space, what="is_open was asked of", written=self._own.make)
        return self._is_canonical_open(self._candidates.canonical(legal))

    def _is_canonical_open(self, canonical: Config) -> bool:
        return config_id(canonical) not in self._claimed and self._candidates.keeps_limits(canonical)


def _line(function: Any) -> int | None:
    """Return the line at which a class or function begins, None where there is no telling."""
    try:
        return inspect.getsourcelines(inspect.unwrap(function))[1]
    except (TypeError, OSError):
        return None
