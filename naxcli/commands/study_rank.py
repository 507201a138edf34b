"""The rank study of Han et al. (CVPR 2021): random layers, and the trained networks of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from naxcli.commands.select import Selection
from naxcli.commands.study import OnProgress, StudyRequest, Subject, open_subject, select_trial
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import Status

# How far from the tolerance the claims are judged once more: a verdict that changes is one on the tolerance.
FARTHER = 10.0
NORMS = ("nuclear_norm", "nuclear_norm_share")
MIN_NETWORKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRequest:
    """What the study of random layers does.

    Args:
        num_networks: Number of random sizes.
        tolerance: Share of the largest singular value below which another counts as zero; None is the one fixed beforehand.
        seed: Random seed.

    Raises:
        NaxcliError: If a number is impossible.
    """

    num_networks: int = 1000
    tolerance: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_networks < MIN_NETWORKS:
            raise NaxcliError(f"--networks is {self.num_networks}", why=f"fewer than {MIN_NETWORKS} say nothing")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise NaxcliError(
                f"--tolerance is {self.tolerance:g}",
                why="it is the share of the largest singular value below which another counts as zero",
                hint="--tolerance 0.01",
            )


def study_random_layers(request: RankRequest, on_progress: OnProgress = lambda done, total: None) -> dict[str, Any]:
    """Return the rank ratios of random layers and what they say of the paper's claims, ready for JSON.

    Args:
        request: What is done.
        on_progress: Called with the number of networks that are done, and of all.
    """
    import pandas as pd

    from naxcli.analysis.rank_study import CLAIMS, judge_claims, rank_ratios_by_part
    from naxcli.studies.rank import IMAGES_PER_INPUT, LINEAR, TOLERANCE, linear_ratio, measure_random_layers

    tolerance = TOLERANCE if request.tolerance is None else request.tolerance
    tolerances = (tolerance, min(tolerance * FARTHER, 1.0), tolerance / FARTHER)
    rows, deviation = [], 0.0
    for done, network in enumerate(
        measure_random_layers(request.num_networks, tolerances=tolerances, seed=request.seed), start=1
    ):
        rows += [
            {"network": item.network, "layer": item.layer, "activation": item.activation, "ratio": item.ratio}
            | {f"rank_ratio_{place}": value for place, value in enumerate(item.rank_ratios)}
            for item in network
        ]
        deviations = [
            abs(item.rank_ratios[0] - linear_ratio(item.layer, item.d_in, item.d_out))
            for item in network
            if item.activation == LINEAR
        ]
        deviation = max(deviation, *deviations)
        on_progress(done, request.num_networks)
    frame = pd.DataFrame(rows)
    judged = [
        judge_claims(frame.rename(columns={f"rank_ratio_{place}": "rank_ratio"}), linear=LINEAR)
        for place in range(len(tolerances))
    ]
    return {
        "num_networks": request.num_networks,
        "images_per_input": IMAGES_PER_INPUT,
        "tolerance": tolerance,
        "seed": request.seed,
        "linear_deviation": deviation,
        "rank_ratios": rank_ratios_by_part(frame.rename(columns={"rank_ratio_0": "rank_ratio"})),
        "claims": [
            {
                **found,
                "says": CLAIMS[found["claim"]],
                "at_other_tolerances": [
                    {"tolerance": at, "verdict": others[place]["verdict"]}
                    for at, others in zip(tolerances[1:], judged[1:], strict=True)
                ],
            }
            for place, found in enumerate(judged[0])
        ],
    }


def study_checkpoints(
    run: RunDirectory,
    *,
    space: str | None = None,
    data_root: str | None = None,
    device: str = "auto",
    on_progress: OnProgress = lambda done, total: None,
) -> dict[str, Any]:
    """Return the nuclear norm of the final features of every trial whose weights a run kept, against its accuracy, ready for JSON.

    Args:
        run: Directory of the run.
        space: Its space, where it does not ship with naxcli. Its file is code, and is run.
        data_root: Folder of the data sets; None is the run's.
        device: `auto`, `cpu` or `cuda`.
        on_progress: Called with the number of networks that are done, and of all.

    Raises:
        NaxcliError: If the run makes no networks, or kept the weights of too few.
    """
    from naxcli.analysis.rank_study import MIN_PAIRS, correlate

    trials = _trials_with_weights(run, least=MIN_PAIRS)
    request = StudyRequest(space=space, data_root=data_root, num_images=0, device=device)
    rows, num_images = [], 0
    for done, trial_id in enumerate(trials, start=1):
        selection = select_trial(run, str(trial_id), request)
        subject = open_subject(run, selection, request)
        num_images = len(subject.dataset.validation_labels)
        rows.append(_norms_of(selection, subject))
        on_progress(done, len(trials))
    return {
        "run": str(run.path),
        "num_images": num_images,
        "trials": rows,
        "correlations": correlate(NORMS, rows, against="val_accuracy"),
    }


def _trials_with_weights(run: RunDirectory, *, least: int) -> list[int]:
    if run.experiment().data is None:
        raise NaxcliError(
            f"the run {run.path} has no networks", why="its space has evaluate=, which returns a cost without a network"
        )
    with Records.open(run) as records:
        succeeded = {item.trial.trial_id for item in records.finished() if item.status == Status.SUCCESS}
    kept = sorted(succeeded & run.checkpoint_files().keys())
    if len(kept) < least:
        raise NaxcliError(
            f"the run {run.path} kept the weights of {len(kept)} trials, and at least {least} are needed to correlate",
            why="a search keeps those of its incumbent and of trials that may be promoted",
            hint="a search over several fidelities (--fidelity 3:27:3) keeps more",
            exit_code=ExitCode.FAILED,
        )
    return kept


def _norms_of(selection: Selection, subject: Subject) -> dict[str, Any]:
    """Return trial, accuracy and norms of one trained network."""
    from naxcli.studies.features import final_features, nuclear_norm

    features, accuracy = final_features(subject.network, subject.dataset, subject.recipe)
    if len(features) <= features.shape[1]:
        raise NaxcliError(
            f"trial {selection.trial_id} has {features.shape[1]} features, and there are {len(features)} validation images",
            why="with no more images than features, a rank is that of the images",
        )
    norm, share = nuclear_norm(features)
    return {
        "trial_id": selection.trial_id,
        "fidelity": selection.provenance["fidelity"],
        "val_accuracy": accuracy,
        "num_features": features.shape[1],
        # Per image, as a norm grows with their number.
        "nuclear_norm": norm / math.sqrt(len(features)),
        "nuclear_norm_share": share,
    }
