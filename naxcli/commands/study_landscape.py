"""`naxcli study landscape`: slices through the loss around a trained network (Li et al., NeurIPS 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from naxcli.commands.study import (
    OnProgress,
    StudyRequest,
    facts_of,
    identity_of,
    open_subject,
    select_trial,
    settings_of,
)
from naxcli.errors import NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.studies import Row, Study, StudyFile

NUM_POINTS = {1: 51, 2: 25}


@dataclass(frozen=True, slots=True, kw_only=True)
class LandscapeRequest(StudyRequest):
    """Which slice is measured.

    Args:
        trial: Number of the trial, or `best`.
        num_directions: 1 for a line, 2 for a plane.
        num_points: Odd number of points along each direction; None is 51 on a line and 25 on a plane.
        radius: Largest step; at 1 each filter is changed by its own length.
        recomputes_batch_norm: Whether batch statistics are computed anew at each point, rather than kept as the paper does.
    """

    trial: str = "best"
    num_directions: int = 1
    num_points: int | None = None
    radius: float = 1.0
    recomputes_batch_norm: bool = False

    def __post_init__(self) -> None:
        StudyRequest.__post_init__(self)
        if self.num_directions not in NUM_POINTS:
            raise NaxcliError(f"a slice in {self.num_directions} directions cannot be shown", hint="1 or 2")
        if self.points < 3 or self.points % 2 == 0:
            raise NaxcliError(
                f"--points is {self.points}", why="an odd number from 3 has the network itself in its middle"
            )
        if not 0 < self.radius < math.inf:
            raise NaxcliError(f"--radius is {self.radius:g}", why="it is the largest step, above 0")

    @property
    def points(self) -> int:
        return NUM_POINTS[self.num_directions] if self.num_points is None else self.num_points


def study_landscape(run: RunDirectory, request: LandscapeRequest, on_progress: OnProgress = lambda *_: None) -> Study:
    """Return a slice through the loss around a trial's network, going on with one that was interrupted.

    Args:
        run: Directory of the run, where the study is kept.
        request: Which trial and which slice.
        on_progress: Called with the number of points that are measured, and of all.

    Raises:
        NaxcliError: If there is no such trial, or its network cannot be had.
    """
    selection = select_trial(run, request.trial, request)
    settings = {**settings_of(request), "num_points": request.points, "trial": identity_of(selection)}
    with StudyFile(run, "landscape", networks=[f"trial {selection.trial_id}"], settings=settings) as file:
        if file.is_finished:
            return file.study
        from naxcli.studies.landscape import coordinates, random_directions, walk_slice
        from naxcli.studies.quality import QualityMeasure

        subject = open_subject(run, selection, request)
        directions = random_directions(subject.network, request.num_directions, request.seed)
        places = coordinates(request.points, request.radius, request.num_directions)
        measure = QualityMeasure(subject.dataset, subject.recipe, recomputes_batch_norm=request.recomputes_batch_norm)
        left = places[len(file.rows) :]
        on_progress(len(file.rows), len(places))
        for place, quality in zip(left, walk_slice(subject.network, directions, left, measure), strict=True):
            file.add({**dict(zip("xy", place, strict=False)), **quality})
            on_progress(len(file.rows), len(places))
        return file.finish(facts_of(subject), summary_of(file.rows))


def summary_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the numbers of the network itself, and how far the training loss rises above its own within the slice."""
    middle = rows[len(rows) // 2]
    losses = [row["train_loss"] for row in rows if row["train_loss"] is not None]
    radius = max(row["x"] for row in rows)
    edge = [row["train_loss"] for row in rows if all(abs(row.get(axis, radius)) == radius for axis in "xy")]
    return {
        **{name: value for name, value in middle.items() if name not in ("x", "y")},
        "lowest_train_loss": min(losses, default=None),
        "highest_train_loss": None if len(losses) < len(rows) else max(losses),
        "edge_train_loss": None if None in edge else sum(edge) / len(edge),
    }
