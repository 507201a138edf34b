"""Arms: the searcher of a run and, where asked for, the random arm it is compared with, at fixed shares of the trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naxcli.records.trial import Suggestion, Trial
from naxcli.searchers import Asked, Cost, Searcher, Told, make_searcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ConfigSpace import ConfigurationSpace

    from naxcli.records.history import HistoryEvent
    from naxcli.records.trial import Config
    from naxcli.search_space.contract import Space
    from naxcli.settings.experiment import Experiment


# The search asks only when a worker is free, so a searcher needs no cap of its own.
MAX_IN_FLIGHT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One searcher and the share of trials it may suggest."""

    searcher: Searcher
    share: float


class Arms:
    """Asks the arm that is furthest behind its share, so that the order does not depend on timing."""

    def __init__(self, arms: Sequence[Arm], *, num_asked: Mapping[str, int]) -> None:
        self._arms = {arm.searcher.name: arm for arm in arms}
        self._num_asked = Counter(num_asked)

    @property
    def is_exhausted(self) -> bool:
        return all(arm.searcher.is_exhausted for arm in self._arms.values())

    def ask(self) -> tuple[str, Suggestion] | None:
        """Return (searcher name, suggestion), or None where no arm has anything to start now."""
        total = sum(self._num_asked.values()) + 1
        for name, arm in sorted(self._arms.items(), key=lambda item: self._num_asked[item[0]] - item[1].share * total):
            suggestion = arm.searcher.ask()
            if suggestion is not None:
                self._num_asked[name] += 1
                return name, suggestion
        return None

    def tell(self, trial: Trial, *, cost: Cost | None) -> None:
        """Tell the arm that asked for a trial; a tuple is for several objectives, None a failure."""
        self._arms[trial.searcher].searcher.tell(trial.suggestion, cost=cost)

    @property
    def learn(self) -> bool:
        """Whether what is asked next depends on results."""
        return any(arm.searcher.learns for arm in self._arms.values())

    def notices(self) -> list[str]:
        """Return what a user should know of how the searchers go on from here."""
        return [notice for arm in self._arms.values() if (notice := arm.searcher.notice())]

    def state(self, name: str) -> str:
        return self._arms[name].searcher.state()


def make_arms(
    *,
    experiment: Experiment,
    space: Space,
    configuration_space: ConfigurationSpace,
    is_feasible: Callable[[Config], bool] | None,
    history: Sequence[HistoryEvent] = (),
    states: Mapping[str, str] | None = None,
) -> Arms:
    """Return the arms of an experiment, in the state that its records describe."""
    shares = {experiment.searcher: 1.0 - experiment.random_share}
    if experiment.random_share > 0:
        shares["random"] = shares.get("random", 0.0) + experiment.random_share
    arms = []
    for name, share in shares.items():
        events = [
            Told(suggestion=event.trial.suggestion, cost=event.cost)
            if event.is_result
            else Asked(suggestion=event.trial.suggestion)
            for event in history
            if event.trial.searcher == name
        ]
        searcher = make_searcher(
            name, space=space, configuration_space=configuration_space, fidelity=experiment.fidelity, seed=experiment.seed,
            is_feasible=is_feasible, max_in_flight=MAX_IN_FLIGHT, num_objectives=1 + len(experiment.objective),
            history=events, state=(states or {}).get(name),
        )  # fmt: skip
        arms.append(Arm(searcher=searcher, share=share))
    num_asked = Counter(event.trial.searcher for event in history if not event.is_result)
    return Arms(arms, num_asked=num_asked)
