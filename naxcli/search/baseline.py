"""MixedSearcher: the searcher of a run and, where asked for, the random baseline it is compared with, each with its share of the trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naxcli.records.trial import Suggestion, Trial
from naxcli.search_space.prior import Prior
from naxcli.searchers import Asked, Cost, Searcher, Told, make_searcher
from naxcli.settings.choices import searcher_name
from naxcli.settings.evolution import PAPERS_POPULATION, PAPERS_SAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ConfigSpace import ConfigurationSpace

    from naxcli.records.history import HistoryEvent
    from naxcli.records.trial import Config
    from naxcli.search_space.contract import Space
    from naxcli.search_space.earlier import EarlierResults
    from naxcli.settings.experiment import Experiment


# The search asks only when a worker is free, so a searcher needs no cap of its own.
MAX_IN_FLIGHT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One searcher and the share of the trials that it suggests, between 0 and 1."""

    searcher: Searcher
    share: float


class MixedSearcher:
    """Asks the member that is furthest behind its share, so that the order does not depend on timing."""

    def __init__(self, members: Sequence[Member], *, num_asked: Mapping[str, int]) -> None:
        self._members = {member.searcher.name: member for member in members}
        self._num_asked = Counter(num_asked)

    @property
    def is_exhausted(self) -> bool:
        return all(member.searcher.is_exhausted for member in self._members.values())

    def ask(self) -> tuple[str, Suggestion] | None:
        """Return (searcher name, suggestion), or None where no member has anything to start now."""
        total = sum(self._num_asked.values()) + 1
        for name, member in sorted(
            self._members.items(), key=lambda item: self._num_asked[item[0]] - item[1].share * total
        ):
            suggestion = member.searcher.ask()
            if suggestion is not None:
                self._num_asked[name] += 1
                return name, suggestion
        return None

    def tell(self, trial: Trial, *, cost: Cost | None) -> None:
        """Tell the member that asked for a trial; a tuple is for several objectives, None a failure."""
        self._members[trial.searcher].searcher.tell(trial.suggestion, cost=cost)

    @property
    def learn(self) -> bool:
        """Whether what is asked next depends on results."""
        return any(member.searcher.learns for member in self._members.values())

    def notices(self) -> list[str]:
        """Return what a user should know of how the searchers go on from here."""
        return [notice for member in self._members.values() if (notice := member.searcher.notice())]

    def state(self, name: str) -> str:
        return self._members[name].searcher.state()


def make_mixed_searcher(
    *,
    experiment: Experiment,
    space: Space,
    configuration_space: ConfigurationSpace,
    is_feasible: Callable[[Config], bool] | None,
    earlier: Sequence[EarlierResults] = (),
    history: Sequence[HistoryEvent] = (),
    states: Mapping[str, str] | None = None,
) -> MixedSearcher:
    """Return the searcher of an experiment with its random baseline, in the state that its records describe.

    Args:
        experiment: the run's settings.
        space: of the search.
        configuration_space: of the search.
        is_feasible: whether a configuration keeps all limits.
        earlier: results of other searches, as the run's records keep them.
        history: asks and results, in order.
        states: of each searcher, as recorded last.
    """
    shares = {experiment.searcher: 1.0 - experiment.random_share}
    if experiment.random_share > 0:
        shares["random"] = shares.get("random", 0.0) + experiment.random_share
    prior = None
    if experiment.prior is not None:
        prior = Prior(experiment.prior, space=space, configuration_space=configuration_space)
    members = []
    for name, share in shares.items():
        events = [
            Told(suggestion=event.trial.suggestion, cost=event.cost)
            if event.is_result
            else Asked(suggestion=event.trial.suggestion)
            for event in history
            if event.trial.searcher == searcher_name(name)
        ]
        searcher = make_searcher(
            name,
            space=space,
            configuration_space=configuration_space,
            fidelity=experiment.fidelity,
            seed=experiment.seed,
            is_feasible=is_feasible,
            max_in_flight=MAX_IN_FLIGHT,
            repeats=experiment.repeats,
            num_objectives=1 + len(experiment.objective),
            model=experiment.searcher_model,
            population=experiment.evolution_population or PAPERS_POPULATION,
            sample=experiment.evolution_sample or PAPERS_SAMPLE,
            promotion=experiment.promotion,
            references=space.legal_references(configuration_space) if experiment.references else (),
            earlier=earlier,
            prior=prior,
            history=events,
            state=(states or {}).get(searcher_name(name)),
        )
        members.append(Member(searcher=searcher, share=share))
    num_asked = Counter(event.trial.searcher for event in history if not event.is_result)
    return MixedSearcher(members, num_asked=num_asked)
