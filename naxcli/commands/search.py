"""A search: creates or reopens the run directory, starts workers and searchers, and runs the loop."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import difflib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from naxcli import __version__
from naxcli.commands.search_data import USUAL_SHAPE, prepare_data
from naxcli.commands.session import Session, decided_again
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.files import guard_disk, write_atomically
from naxcli.search.feasibility import Feasibility, NetworkShape
from naxcli.search_space.contract import bare_code, shipped_spaces, space_text
from naxcli.search_space.earlier import EarlierResults, read_earlier
from naxcli.search_space.prepared import PreparedSpace
from naxcli.search_space.prior import Prior
from naxcli.search_space.recipe_choices import require_legal_choices
from naxcli.search_space.recorded import read_space
from naxcli.search_space.zero_cost import NUM_MEASURED, has_metrics
from naxcli.searchers.own import load_searcher
from naxcli.settings.choices import searcher_file
from naxcli.workers.shutdown import Interruption
from naxcli.workers.task import DataRequest

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from naxcli.records.database import Records
    from naxcli.records.incumbent import Incumbent
    from naxcli.search.baseline import MixedSearcher
    from naxcli.search.loop import EndReason, Progress, Search
    from naxcli.workers.pool import WorkerPool

MAX_DIFF_LINES = 30
PREPARED_SPACE = "prepared_space"  # of the records' facts


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEnd:
    """How a session ended.

    Args:
        reason: Why no further trial was started.
        incumbent: Best configuration of the run; None without a success.
        num_finished: Number of finished trials over all sessions of the run.
        exit_code: Exit code of the command.
        seconds_left: Rest of the budget, which may be too little for one more trial; infinite without a budget.
        seconds_per_trial: Time that one more trial takes at least.
    """

    reason: EndReason
    incumbent: Incumbent | None
    num_finished: int
    exit_code: ExitCode
    seconds_left: float
    seconds_per_trial: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """What a session reads before it holds its run: the workers' data, its description, the feasible configurations, what a new
    run starts from, and the file of a searcher of the user's own."""

    data: DataRequest | None
    description: dict[str, Any] | None
    shape: NetworkShape | None
    configuration_space: ConfigurationSpace
    feasibility: Feasibility
    earlier: tuple[EarlierResults, ...] = ()
    searcher_source: str = ""


def run_session(session: Session, progress: Progress) -> SearchEnd:
    """Run a search from where its records end until its budget is spent; records are complete when this returns or raises.

    Args:
        session: The resolved request, of `open_session`.
        progress: What is told of the search under way.

    Returns:
        How the search ended, and its incumbent.

    Raises:
        NaxcliError: If the run cannot be opened or continued.
    """
    experiment, run = session.experiment, session.run
    if experiment.budget is None and experiment.trials is None and experiment.budget_evaluations is None:
        raise NaxcliError(
            "the search has no end", hint="give --budget 3d, --trials N, --budget-evaluations N, or several of them"
        )
    prepared = _prepare(session, progress)
    with run.locked():
        session = decided_again(session)
        run.stop_file.unlink(missing_ok=True)  # of an earlier session; one made from here on is meant for this one
        run.remove_leftovers()
        with _create(session, prepared) if session.is_new else _reopen(session, prepared, progress) as records:
            return _search(session, prepared, records, progress)


def _prepare(session: Session, progress: Progress) -> _Prepared:
    """Read data and space, and refuse what no search could do, before anything is written."""
    from naxcli.workers.scheduler import require_cluster

    experiment, run = session.experiment, session.run
    if experiment.connection is not None:
        require_cluster(experiment.connection)
    recorded = None if session.is_new else run.read_json(run.environment_file).get("data")
    data, description, shape = prepare_data(experiment, session.space, recorded=recorded)
    for notice in (description or {}).get("notices", ()):
        progress.notice(notice)
    configuration_space = session.space.configuration_space(experiment.seed)
    if session.space.is_trained:
        require_legal_choices(configuration_space, experiment.recipe, space_name=session.space.name)
    if experiment.references:
        session.space.legal_references(configuration_space)  # before there is a run
    feasibility = Feasibility(
        session.space,
        experiment.limits,
        width=experiment.width,
        shape=shape,
        recipe=experiment.recipe,
        on_notice=progress.notice,
    )
    if feasibility:
        feasibility.require_one(experiment.seed)
    if experiment.prior is not None:
        Prior(experiment.prior, space=session.space, configuration_space=configuration_space)
    is_own = searcher_file(experiment.searcher) is not None
    return _Prepared(
        data=data,
        description=description,
        shape=shape,
        configuration_space=configuration_space,
        feasibility=feasibility,
        earlier=_read_earlier(session, configuration_space, progress.notice) if session.is_new else (),
        searcher_source=load_searcher(experiment.searcher).source if is_own else "",
    )


def _read_earlier(
    session: Session, configuration_space: ConfigurationSpace, on_notice: Callable[[str], None]
) -> tuple[EarlierResults, ...]:
    """Return the results that a new run starts from; one that goes on has them in its records."""
    tables = []
    for source in session.experiment.warm_start:
        table, notices = read_earlier(
            source, space=session.space, configuration_space=configuration_space, experiment=session.experiment
        )
        tables.append(table)
        for notice in notices:
            on_notice(notice)
    return tuple(tables)


def _search(session: Session, prepared: _Prepared, records: Records, progress: Progress) -> SearchEnd:
    """Start workers and searcher, and run the loop to its end."""
    from naxcli.search.loop import Search
    from naxcli.workers.gpu_sharing import slots_of_run
    from naxcli.workers.pool import WorkerPool, run_trial

    experiment, run = session.experiment, session.run
    slots = slots_of_run(experiment, session.space, prepared.data, run, progress.notice)
    heard: list[Callable[[Mapping[str, Any]], None]] = []  # empty until the search is there: the pool comes first

    def hear(message: Mapping[str, Any]) -> None:
        for listener in heard:
            listener(message)

    pool = WorkerPool(
        run_trial,
        slots=slots,
        cluster=experiment.connection,
        shared_folder=run.path,
        on_heartbeat=hear,
        on_notice=progress.notice,
    )
    # Around the pool, whose workers take a while to start and to end.
    with Interruption() as interruption, pool:
        metrics = _prepared_space(session, prepared, records, pool, progress, interruption=interruption)
        search = Search(
            experiment=experiment,
            space=session.space,
            configuration_space=prepared.configuration_space,
            run=run,
            records=records,
            searcher=_make_searcher(session, prepared, records, metrics),
            pool=pool,
            progress=progress,
            interruption=interruption,
            data=prepared.data,
            threads=slots[0].threads,
        )
        heard.append(search.heard)
        with _records_kept_on_error(records, run, prepared.configuration_space):
            reason = search.run()
    return SearchEnd(
        reason=reason,
        incumbent=search.incumbent,
        num_finished=len(search.finished),
        exit_code=_exit_code(reason, search, interruption),
        seconds_left=search.seconds_left(),
        seconds_per_trial=search.seconds_per_trial(),
    )


def _prepared_space(
    session: Session,
    prepared: _Prepared,
    records: Records,
    pool: WorkerPool,
    progress: Progress,
    *,
    interruption: Interruption,
) -> PreparedSpace | None:
    """Return the zero-cost metrics that `ensemble` starts from: those of the records, or those that the workers measure now.

    None of another searcher, of a space that has none, and where the search is stopped meanwhile.
    """
    from naxcli.commands.prepare import prepare_on

    experiment, space = session.experiment, session.space
    if experiment.searcher != "ensemble" or not has_metrics(space):
        return None
    if (known := records.meta(PREPARED_SPACE)) is not None:
        return PreparedSpace.from_bytes(base64.b64decode(known), source=f"{PREPARED_SPACE} in {session.run.database}")
    shape = {"width": experiment.width, **dataclasses.asdict(prepared.shape or USUAL_SHAPE)}
    if space.is_trained:
        shape["image_size"] = experiment.recipe.resolution or shape["image_size"]

    def should_stop() -> bool:
        return interruption.is_set or session.run.stop_file.exists()

    progress.notice(f"measuring {NUM_MEASURED} configurations of space {space.name} before the first trial")
    measured = prepare_on(
        pool,
        space,
        shape=shape,
        on_progress=lambda done, total: progress.preparing(f"{done:,} of {total:,} configurations measured"),
        on_notice=progress.notice,
        should_stop=should_stop,
    )
    if measured is not None:
        records.set_meta(PREPARED_SPACE, base64.b64encode(measured.to_bytes()).decode())
    return measured


def _make_searcher(
    session: Session, prepared: _Prepared, records: Records, metrics: PreparedSpace | None
) -> MixedSearcher:
    from naxcli.search.baseline import make_mixed_searcher

    return make_mixed_searcher(
        experiment=session.experiment,
        space=session.space,
        configuration_space=prepared.configuration_space,
        is_feasible=prepared.feasibility if prepared.feasibility else None,
        earlier=[EarlierResults.from_json(table) for table in json.loads(records.meta("earlier_results") or "[]")],
        prepared=metrics,
        history=records.history(session.experiment.objective),
        states=records.searcher_states(),
    )


def _exit_code(reason: EndReason, search: Search, interruption: Interruption) -> ExitCode:
    from naxcli.search.loop import EndReason

    if reason is EndReason.INTERRUPTED:
        return interruption.exit_code
    if reason is EndReason.STOPPED:
        return ExitCode.STOPPED
    return ExitCode.DONE if search.incumbent is not None else ExitCode.FAILED


@contextlib.contextmanager
def _records_kept_on_error(
    records: Records, run: RunDirectory, configuration_space: ConfigurationSpace
) -> Iterator[None]:
    try:
        yield
    except NaxcliError:
        raise
    except BaseException:
        with contextlib.suppress(NaxcliError):
            records.write_parquet(run, configuration_space)
        raise


def _create(session: Session, prepared: _Prepared) -> Records:
    """Write the files of a new run, its records first: they are what makes it one. One that is there is replaced."""
    from naxcli.records.database import Records
    from naxcli.records.environment import describe_environment

    run, space = session.run, session.space
    run.clear()
    facts = {
        "name": space.name,
        "version": space.version,
        "groups": {name: list(members) for name, members in space.groups.items()},
        "reference": {name: dict(config) for name, config in space.reference.items()},
        "has_networks": space.is_trained,
        "merged": space.merged_choices() if space.canonical else [],
        "profiles": list(space.profiles),
    }
    settings = session.experiment.to_toml()
    meta = {
        "space_source": space_text(space),
        "searcher_source": prepared.searcher_source,
        "space": json.dumps(facts),
        "experiment": settings,
        "earlier_results": json.dumps([table.to_json() for table in prepared.earlier]),
    }
    if space.prepared is not None:
        meta[PREPARED_SPACE] = base64.b64encode(space.prepared.to_bytes()).decode()
    records = Records.create(run, meta)
    records.back_up()  # that of a run which this one replaces would bring its trials back
    serialized = prepared.configuration_space.to_serialized_dict()
    write_atomically(run.space_file, json.dumps(serialized, indent=1, default=_plain))
    write_atomically(run.environment_file, json.dumps(describe_environment(prepared.description), indent=1))
    _make_checkpoints(run)
    write_atomically(run.experiment_file, settings)
    return records


def _make_checkpoints(run: RunDirectory) -> None:
    with guard_disk(run.checkpoints):
        run.checkpoints.mkdir(exist_ok=True)


def _reopen(session: Session, prepared: _Prepared, progress: Progress) -> Records:
    """Open the records of an existing run, after checking that its space still means the same; start anew one without a result."""
    from naxcli.records.database import Records

    run, data = session.run, prepared.description
    records = Records.open(run, to_write=True)
    try:
        _refuse_another_space(session, prepared.configuration_space, records)
        _refuse_edited(session, "searcher", records.meta("searcher_source") or "", prepared.searcher_source)
    except NaxcliError:
        if records.finished():
            raise
        records.close()
        earlier = _read_earlier(session, prepared.configuration_space, lambda notice: None)
        return _create(session, dataclasses.replace(prepared, earlier=earlier))
    environment = run.read_json(run.environment_file)
    before = (environment.get("data") or {}).get("content_hash")
    if data is not None and before is not None and before != data["content_hash"]:
        raise NaxcliError(
            f"the images of {data['name']} are not those that {run.path} started with",
            why=f"content hash {before} then, {data['content_hash']} now: trials would not be comparable",
            hint="name the folder of the first images with --data-root, or start another run with --run DIR",
        )
    _make_checkpoints(run)
    settings = session.experiment.to_toml()
    records.set_meta("experiment", settings)
    write_atomically(run.experiment_file, settings)
    if environment:
        _record_changes(run, environment, progress)
    return records


def _record_changes(run: RunDirectory, environment: dict[str, Any], progress: Progress) -> None:
    """Say and record what a run goes on with that is not what it ran with before."""
    from naxcli.records.environment import describe_environment, with_changes

    environment, changes = with_changes(environment, describe_environment(None), at=time.time())
    if not changes:
        return
    write_atomically(run.environment_file, json.dumps(environment, indent=1))
    listed = ", ".join(f"{name} {after} ({before} before)" for name, (before, after) in changes.items())
    progress.notice(f"going on with {listed}: costs and times may differ by that")


def _refuse_another_space(session: Session, configuration_space: ConfigurationSpace, records: Records) -> None:
    run = session.run
    _refuse_edited(session, "space", records.meta("space_source") or "", space_text(session.space))
    before = read_space(run.space_file).to_serialized_dict()
    now = _reread(configuration_space).to_serialized_dict()
    changed = [part for part in ("hyperparameters", "conditions", "forbiddens") if before.get(part) != now.get(part)]
    if changed:
        pairs = [
            (json.dumps(part[name], indent=1, default=_plain).splitlines() for part in (before, now))
            for name in changed
        ]
        lines = [
            line for old, new in pairs for line in difflib.unified_diff([*old], [*new], "then", "now", n=1, lineterm="")
        ]
        raise NaxcliError(
            f"the space of {run.path} has other configurations than when the run started",
            why=f"its file is the same, but not its {' and '.join(changed)}, which come from elsewhere:\n"
            + "\n".join(lines[:MAX_DIFF_LINES]),
            hint=f"undo the change to resume, or {_begin_with(run)}",
        )


def _refuse_edited(session: Session, kind: str, recorded: str, current: str) -> None:
    """Refuse a file of the user's, or of a space that ships, whose code is another than when the run started."""
    if not recorded or bare_code(recorded) == bare_code(current):
        return
    run = session.run
    diff = difflib.unified_diff(
        recorded.splitlines(), current.splitlines(), "when the run started", "now", n=1, lineterm=""
    )
    why = {"space": "its trials would not be comparable", "searcher": "it would not search on as it began"}[kind]
    undo = "undo the edit to resume"
    if kind == "space" and session.space.origin in shipped_spaces():
        release = (run.read_json(run.environment_file).get("packages") or {}).get("naxcli")
        if release != __version__:
            undo = f"resume with naxcli {release}, as it started (this is {__version__})"
    raise NaxcliError(
        f"the {kind} file of {run.path} was edited since the run started",
        why=f"{why}:\n" + "\n".join(list(diff)[:MAX_DIFF_LINES]),
        hint=f"{undo}, or {_begin_with(run)}",
    )


def _begin_with(run: RunDirectory) -> str:
    return f"start another run that begins with what this one found: --run DIR --from {run.path}"


def _reread(configuration_space: ConfigurationSpace) -> ConfigurationSpace:
    """Return a space as it would come back from its file."""
    written = json.dumps(configuration_space.to_serialized_dict(), default=_plain)
    return type(configuration_space).from_serialized_dict(json.loads(written))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
