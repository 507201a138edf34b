"""Searchers: what to try next. Every searcher asks and tells in the same way; `make_searcher` builds one by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config, Suggestion
from naxcli.search_space.contract import Space
from naxcli.searchers.history import Asked, Cost, Event, Told
from naxcli.settings.choices import PROMOTIONS, SEARCHER_MODELS, SEARCHERS, searcher_file, searcher_name
from naxcli.settings.evolution import PAPERS_POPULATION, PAPERS_SAMPLE
from naxcli.settings.fidelity import FidelityRange

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from naxcli.search_space.earlier import EarlierResults
    from naxcli.search_space.prior import Prior

__all__ = ["SEARCHERS", "Asked", "Cost", "Event", "FidelityRange", "Searcher", "Told", "make_searcher"]


class Searcher(Protocol):
    """Suggests trials one at a time and learns from their results, which may come in any order.

    Attributes:
        name: as on the command line, but `file.py:NAME` of a user's own, wherever its file is.
        learns: whether suggestions depend on results; else it does not matter how many are asked at once.
        in_flight: suggestions asked and not yet told, oldest first; after a resume they are to be run again.
    """

    name: str
    learns: bool

    @property
    def in_flight(self) -> tuple[Suggestion, ...]: ...

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing will be suggested any more: no configuration is left, and no running trial can open one."""

    def ask(self) -> Suggestion | None:
        """Return the next trial to start, None if there is nothing to start right now.

        Raises:
            NaxcliError: if no configuration of the space is feasible.
        """

    def tell(self, suggestion: Suggestion, *, cost: Cost | None) -> None:
        """Learn a result: a cost to minimise, a tuple of them for several objectives, None for a failure of any kind.

        A suggestion that was never asked, such as another searcher's, is learned from as well and not asked again.
        """

    def note_asked(self, suggestion: Suggestion) -> None:
        """Treat a suggestion from elsewhere as asked: its configuration will not be suggested as a new one."""

    def notice(self) -> str:
        """Return what a user would not expect of the next suggestions, empty if there is nothing."""

    def state(self) -> str:
        """Return JSON that `make_searcher` checks the history against: how many asks and tells it includes."""


def make_searcher(
    name: str,
    *,
    space: Space,
    configuration_space: ConfigurationSpace,
    fidelity: FidelityRange,
    seed: int,
    is_feasible: Callable[[Config], bool] | None = None,
    max_in_flight: int = 1,
    repeats: int = 1,
    num_objectives: int = 1,
    model: str = SEARCHER_MODELS[0],
    population: int = PAPERS_POPULATION,
    sample: int = PAPERS_SAMPLE,
    promotion: str = PROMOTIONS[0],
    references: Sequence[Config] = (),
    earlier: Sequence[EarlierResults] = (),
    prior: Prior | None = None,
    history: Sequence[Event] = (),
    state: str | None = None,
) -> Searcher:
    """Return a searcher, with the events of an interrupted run if there are any.

    The next suggestions after a resume are those of the uninterrupted run, whichever suggestions were in flight.

    Args:
        name: one of `SEARCHERS`, or `path/to/file.py:NAME` of a user's own.
        space: merges equal configurations.
        configuration_space: of the search.
        fidelity: `smac` and `ensemble` promote the best over its rungs; the others run at its maximum.
        seed: of all random choices, and the training seed of the suggestions.
        is_feasible: whether a canonical configuration keeps all limits; asked only of what is about to be suggested.
        max_in_flight: `ask` returns None while as many suggestions are untold.
        repeats: trials of each configuration, of different seeds, that are one result to the searcher; with one fidelity only.
        num_objectives: costs per trial.
        model: of `smac`, one of `SEARCHER_MODELS`.
        population: results that `evolution` breeds from.
        sample: members of the population that it takes the best of.
        promotion: which trials of a rung go on to the next, one of `PROMOTIONS`.
        references: legal configurations that `smac` and `ensemble` suggest after the default one.
        earlier: results of other searches that `smac` starts from.
        prior: belief in good configurations that `smac` starts with.
        history: asks and tells of the interrupted run, in order.
        state: `Searcher.state()` as saved with the last ask.

    Raises:
        NaxcliError: if there is no such searcher, if it cannot do what is asked, or if history and state disagree.
    """
    from naxcli.searchers.asktell import AskTell, Proposer
    from naxcli.searchers.candidates import Candidates
    from naxcli.searchers.evolution import EvolutionProposer
    from naxcli.searchers.hyperband import Hyperband
    from naxcli.searchers.local import LocalProposer
    from naxcli.searchers.own import OwnProposer, load_searcher
    from naxcli.searchers.random import RandomProposer
    from naxcli.searchers.repeats import Repeats
    from naxcli.searchers.schedule import Schedule, SingleFidelity

    if num_objectives > 1 and name in ("evolution", "local"):
        raise NaxcliError(
            f"{name} searches for one objective", hint="use --searcher smac or random with several objectives"
        )
    if num_objectives > 1 and not fidelity.is_single:
        raise NaxcliError(
            "several objectives cannot be searched over several fidelities",
            why="successive halving ranks the trials of a rung by one number",
            hint="use --epochs N instead of --fidelity, or a single --objective",
        )
    candidates = Candidates(space=space, configuration_space=configuration_space, is_feasible=is_feasible)
    proposer: Proposer
    schedule: Schedule = SingleFidelity(fidelity.max)
    if name == "smac":
        from naxcli.searchers.smac import SmacProposer  # smac takes seconds to import

        min_initial = 0
        if not fidelity.is_single:
            schedule = Hyperband(fidelity, promotion)
            min_initial = schedule.first_rung_size
        proposer = SmacProposer(
            configuration_space,
            seed=seed,
            model=model,
            min_initial=min_initial,
            references=references,
            earlier=earlier,
            prior=prior,
        )
    elif name == "ensemble":
        from naxcli.searchers.ensemble import EnsembleProposer

        if not fidelity.is_single:
            schedule = Hyperband(fidelity, promotion)
        proposer = EnsembleProposer(space, seed=seed, references=references)
    elif name == "random":
        proposer = RandomProposer()
    elif name == "evolution":
        proposer = EvolutionProposer(population_size=population, sample_size=sample)
    elif name == "local":
        proposer = LocalProposer(seed=seed)
    elif searcher_file(name) is not None:
        proposer = OwnProposer(load_searcher(name), space=space, candidates=candidates, seed=seed)
    else:
        raise NaxcliError(f"there is no searcher {name!r}", why=f"there are {', '.join(SEARCHERS)}")
    asktell = AskTell(
        name=searcher_name(name),
        proposer=proposer,
        schedule=schedule,
        candidates=candidates,
        seed=seed,
        max_in_flight=max_in_flight,
        learns=name != "random",
    )
    searcher: AskTell | Repeats = asktell
    if repeats > 1:
        searcher = Repeats(asktell, num=repeats, max_in_flight=max_in_flight)
    searcher.restore(history, state)
    return searcher
