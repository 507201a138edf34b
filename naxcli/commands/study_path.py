"""`naxcli study path`: a path of low loss between two seeds of one configuration (AutoNEB; Draxler et al., ICML 2018)."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.commands.path_ends import PathEnds, select_ends
from naxcli.commands.study import (
    OnProgress,
    StudyRequest,
    Subject,
    facts_of,
    open_subject,
    require_weights,
    settings_of,
)
from naxcli.errors import NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.files import write_atomically
from naxcli.records.studies import Row, Study, StudyFile

if TYPE_CHECKING:
    from torch import Tensor

    from naxcli.studies.energy_path import Band

NUM_ON_LINE = 19  # places between the two networks on the straight line
# Shares of the cycles after which the learning rate falls to a tenth: after 6 and after 10 of the authors' 14.
FALLS = (6 / 14, 10 / 14)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRequest(StudyRequest):
    """Between which networks a path is sought, and for how long: by default 14,000 steps, where the authors take 18,000.

    Args:
        trials: Two trials of one configuration; none takes networks of `naxcli confirm`.
        confirmed: Name of the confirmed configuration, such as `top 1`; None is the winner.
        num_cycles: Number of times that pivots are added.
        num_steps: Steps of each cycle, each a gradient at every pivot.
        learning_rate: Learning rate of the first cycles.
    """

    trials: tuple[str, ...] = ()
    confirmed: str | None = None
    num_cycles: int = 14
    num_steps: int = 1000
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        StudyRequest.__post_init__(self)
        for name, number in (("cycles", self.num_cycles), ("steps", self.num_steps)):
            if number < 1:
                raise NaxcliError(f"--{name} is {number}", why="it must be at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise NaxcliError(f"--learning-rate is {self.learning_rate:g}", why="it must be above 0")

    def learning_rate_of(self, cycle: int) -> float:
        """Return the learning rate of a cycle, counted from 0."""
        return self.learning_rate * float(10.0 ** -sum(cycle >= share * self.num_cycles for share in FALLS))


@dataclass(slots=True)
class _Search:
    """A search for a path under way: the band after the last cycle, what was measured on it, and the best path so far."""

    band: Band
    rows: list[Row] = field(default_factory=list)
    best: list[Row] = field(default_factory=list)
    cycles: list[dict[str, Any]] = field(default_factory=list)


def study_path(
    run: RunDirectory,
    request: PathRequest,
    on_progress: OnProgress = lambda *_: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> Study:
    """Return the straight line and a path of low loss between two networks, going on with a study that was interrupted.

    Args:
        run: Directory of the run, where the study is kept.
        request: Which networks, and how long.
        on_progress: Called with the number of steps that are done, and of all.
        on_notice: Called with a line after each cycle.

    Raises:
        NaxcliError: If the two are not seeds of one configuration, or a network cannot be had.
    """
    ends = select_ends(run, request.trials, request.confirmed, request)
    settings = {**settings_of(request, without=("trials", "confirmed")), "ends": ends.identities}
    with StudyFile(run, "path", networks=ends.names, settings=settings) as file:
        if file.is_finished:
            return file.study
        for selection in ends.selections:
            require_weights(selection)
        from naxcli.studies.energy_path import places_of, straight_band
        from naxcli.studies.quality import QualityMeasure

        subject = open_subject(run, ends.selections[0], request, on_test=ends.on_test)
        first, last = _end_weights(subject, ends)
        measure = QualityMeasure(subject.dataset, subject.recipe, recomputes_batch_norm=True)

        def measured(band: Band, num_between: int) -> list[Row]:
            return [{"t": place, **_at(subject, point, measure)} for place, point in places_of(band, num_between)]

        if len(file.rows) < NUM_ON_LINE + 2:
            for row in measured(straight_band(first, last, 0), NUM_ON_LINE)[len(file.rows) :]:
                file.add({"on": "line", **row})
        search = _read_state(file.state_file, subject) or _Search(band=straight_band(first, last))
        for _ in _cycles(subject, search, request, measured, on_progress):
            _write_state(file.state_file, search)
            on_notice(_words(search.cycles[-1], request.num_cycles))
        for row in search.best[len(file.rows) - NUM_ON_LINE - 2 :]:
            file.add({"on": "path", **row})
        return file.finish(facts_of(subject), summary_of(file.rows, search.cycles))


def _end_weights(subject: Subject, ends: PathEnds) -> list[Tensor]:
    from naxcli.export.bundle import load_into, read_weights
    from naxcli.studies.weights import get_weights

    found = []
    for selection in ends.selections:
        assert selection.weights is not None
        load_into(subject.network, read_weights(selection.weights), source=selection.weights)
        found.append(get_weights(subject.network))
    return found


def _at(subject: Subject, point: Tensor, measure: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    from naxcli.studies.weights import set_weights

    set_weights(subject.network, point)
    return measure(subject.network)


def _cycles(
    subject: Subject,
    search: _Search,
    request: PathRequest,
    measured: Callable[[Band, int], list[Row]],
    on_progress: OnProgress,
) -> Iterator[None]:
    """Run the cycles of a search that are left, and yield after each."""
    import torch

    from naxcli.studies.energy_path import NUM_BETWEEN, relax, with_new_pivots

    total = request.num_cycles * request.num_steps
    with _loss_and_gradient(subject, request.seed) as loss_and_gradient:
        for cycle in range(len(search.cycles), request.num_cycles):
            if search.rows:
                losses = [row["train_loss"] for row in search.rows]
                search.band = with_new_pivots(search.band, losses, NUM_BETWEEN)
            torch.manual_seed(request.seed + cycle)  # of stochastic depth
            search.band = relax(
                search.band,
                loss_and_gradient,
                first_step=cycle * request.num_steps,
                num_steps=request.num_steps,
                learning_rate=request.learning_rate_of(cycle),
                on_step=lambda step: on_progress(step, total),
            )
            search.rows = measured(search.band, NUM_BETWEEN)
            found = {
                "cycle": cycle + 1,
                "num_pivots": len(search.band.pivots) - 2,
                "learning_rate": request.learning_rate_of(cycle),
                "highest_train_loss": _highest(search.rows, "train_loss"),
                "lowest_val_accuracy": min(row["val_accuracy"] for row in search.rows),
            }
            if not search.best or _rank(search.rows) < _rank(search.best):
                search.best = search.rows
            search.cycles.append(found)
            yield
    on_progress(total, total)


@contextlib.contextmanager
def _loss_and_gradient(subject: Subject, seed: int) -> Iterator[Callable[[int, Tensor], tuple[float, Tensor]]]:
    """Yield the loss of the training at a point, on the batch of a step, and its gradient; the network is in training mode then."""
    from naxcli.data.streaming import make_batches
    from naxcli.studies.weights import get_gradient, set_weights
    from naxcli.training.loop import set_drop_path
    from naxcli.training.step import EagerStep

    network, recipe, device = subject.network, subject.recipe, subject.device
    batches = make_batches(subject.all_images.to(device), recipe, seed=seed, device=device)
    compute = EagerStep(network, recipe, device)
    set_drop_path(network, recipe.drop_path)
    current: dict[int, Any] = {}

    def loss_and_gradient(step: int, point: Tensor) -> tuple[float, Tensor]:
        if step not in current:
            current.clear()
            current[step] = batches.batch(step)
        network.train()
        set_weights(network, point)
        loss = compute(*current[step]).item()
        network.eval()
        return loss, get_gradient(network)

    try:
        yield loss_and_gradient
    finally:
        batches.close()


def _read_state(path: Path, subject: Subject) -> _Search | None:
    """Return the search of a file, None where there is none that can be read: it starts again then."""
    from safetensors import SafetensorError, safe_open

    from naxcli.studies.energy_path import Band

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt", device=str(subject.device)) as stored:
            band = Band(pivots=stored.get_tensor("pivots"), spacing=stored.get_tensor("spacing"))
            found = json.loads(stored.metadata()["search"])
        return _Search(band=band, **found)
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None


def _write_state(path: Path, search: _Search) -> None:
    from safetensors.torch import save

    found = {"rows": search.rows, "best": search.best, "cycles": search.cycles}
    tensors = {"pivots": search.band.pivots.cpu(), "spacing": search.band.spacing.cpu()}
    write_atomically(path, save(tensors, metadata={"search": json.dumps(found)}))


def _words(cycle: dict[str, Any], num_cycles: int) -> str:
    highest = cycle["highest_train_loss"]
    loss = "not finite" if highest is None else f"{highest:.4f}"
    return f"cycle {cycle['cycle']}/{num_cycles}: {cycle['num_pivots']} pivots, highest training loss {loss}"


def _highest(rows: Sequence[Row], name: str) -> float | None:
    """Return the highest value along a path, None where one is not finite."""
    values = [row[name] for row in rows]
    return None if None in values else max(values)


def _rank(rows: Sequence[Row]) -> float:
    highest = _highest(rows, "train_loss")
    return math.inf if highest is None else highest


def summary_of(rows: Sequence[Row], cycles: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return, of the straight line and of the path, how far loss and error rise above those of the worse end."""
    summary: dict[str, Any] = {}
    for on in ("line", "path"):
        along = [row for row in rows if row["on"] == on]
        ends = [along[0], along[-1]]
        highest, at_ends = _highest(along, "train_loss"), _highest(ends, "train_loss")
        summary[f"{on}_highest_train_loss"] = highest
        summary[f"{on}_barrier"] = None if highest is None or at_ends is None else highest - at_ends
        lowest = min(row["val_accuracy"] for row in along)
        summary[f"{on}_lowest_val_accuracy"] = lowest
        summary[f"{on}_error_rise"] = min(row["val_accuracy"] for row in ends) - lowest
    best = min(
        cycles, key=lambda cycle: math.inf if cycle["highest_train_loss"] is None else cycle["highest_train_loss"]
    )
    return {**summary, "best_cycle": best["cycle"], "num_pivots": best["num_pivots"], "cycles": list(cycles)}
