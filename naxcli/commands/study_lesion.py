"""`naxcli study lesion`: a trained network without each of its blocks in turn (Veit et al., NeurIPS 2016)."""

from __future__ import annotations

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
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.studies import Row, Study, StudyFile

NUM_PROBE_IMAGES = 2
WHOLE = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionRequest(StudyRequest):
    """Whose blocks are deleted. `trial` is the number of the trial, or `best`."""

    trial: str = "best"


def study_lesion(run: RunDirectory, request: LesionRequest, on_progress: OnProgress = lambda *_: None) -> Study:
    """Return how good a trial's network is without each of its blocks, going on with a study that was interrupted.

    Args:
        run: Directory of the run, where the study is kept.
        request: Which trial.
        on_progress: Called with the number of networks that are measured, and of all.

    Raises:
        NaxcliError: If there is no such trial, its network cannot be had, or no block is found in it.
    """
    selection = select_trial(run, request.trial, request)
    settings = {**settings_of(request), "trial": identity_of(selection)}
    with StudyFile(run, "lesion", networks=[f"trial {selection.trial_id}"], settings=settings) as file:
        if file.is_finished:
            return file.study
        from naxcli.data.augment import Normalisation
        from naxcli.data.dataset import read_images
        from naxcli.studies.blocks import deleted, find_blocks
        from naxcli.studies.quality import QualityMeasure

        subject = open_subject(run, selection, request)
        network, space = subject.network, selection.space
        probe = read_images(subject.dataset.validation_images, slice(NUM_PROBE_IMAGES)).to(subject.device)
        images = Normalisation(subject.dataset, subject.device, subject.recipe.resolution)(
            probe, channels_last=subject.recipe.channels_last
        )
        declared = space.blocks_of(network)
        blocks = find_blocks(network, images, declared)
        if not blocks:
            raise NaxcliError(
                f"no block was found in the network of trial {selection.trial_id}",
                why="no module adds to its input, and none keeps the shape of its input"
                if declared is None
                else f"the space {space.name!r} names none in it that can be deleted",
                hint=f"let the space {space.name!r} name them: Space(blocks=...)" if declared is None else "",
                exit_code=ExitCode.FAILED,
            )
        measure = QualityMeasure(subject.dataset, subject.recipe, recomputes_batch_norm=False)
        on_progress(len(file.rows), 1 + len(blocks))
        if not file.rows:
            file.add({"name": WHOLE, "kind": WHOLE, "num_params": None, **measure(network)})
        for block in blocks[len(file.rows) - 1 :]:
            with deleted(network, block):
                file.add({"name": block.name, "kind": block.kind, "num_params": block.num_params, **measure(network)})
            on_progress(len(file.rows), 1 + len(blocks))
        return file.finish(facts_of(subject), summary_of(file.rows))


def summary_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the accuracy of the whole network, and the blocks whose loss costs most and least of it."""
    whole, *blocks = rows
    ordered = sorted(blocks, key=lambda row: row["val_accuracy"])
    return {
        "val_accuracy": whole["val_accuracy"],
        "num_blocks": len(blocks),
        "most_needed": ordered[0]["name"],
        "lowest_val_accuracy": ordered[0]["val_accuracy"],
        "least_needed": ordered[-1]["name"],
        "highest_val_accuracy": ordered[-1]["val_accuracy"],
    }
