"""CheckpointPolicy: which trained networks a run keeps on disk, so that its size is bounded.

Kept are the incumbent's network, and below the highest fidelity the `NUM_KEPT_PER_RUNG` best of each rung, which promotion continues. Of a
configuration whose repeats are not all done, the best is kept, for it may become the incumbent. A promoted trial whose checkpoint is gone
trains from the start instead: slower, with the same result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from naxcli.records.directory import RunDirectory
from naxcli.records.trial import Status, Suggestion, Trial
from naxcli.settings.fidelity import FidelityRange

if TYPE_CHECKING:
    from naxcli.records.history import FinishedTrial
    from naxcli.records.incumbent import Incumbent

NUM_KEPT_PER_RUNG = 16


class CheckpointPolicy:
    """Keeps and prunes the files of `checkpoints/`."""

    def __init__(
        self,
        *,
        run: RunDirectory,
        fidelity: FidelityRange,
        finished: list[FinishedTrial],
        incumbent: Incumbent | None,
        repeats: int = 1,
    ) -> None:
        self._run = run
        self._max_fidelity = fidelity.max
        self._repeats = repeats
        self._incumbent = incumbent
        self._rungs: dict[float, list[tuple[float, int]]] = {}  # fidelity -> (cost, trial id), ascending
        self._trial_ids: dict[
            tuple[str, int], list[tuple[float, int]]
        ] = {}  # (config id, seed) -> (fidelity, trial id)
        self._successes: set[int] = set()
        self._repeated: dict[tuple[str, str], list[tuple[float, int]]] = {}  # (searcher, config id) -> (cost, trial id)
        self._failed: set[tuple[str, str]] = set()
        for item in finished:
            self._note(item)
        self._prune()

    def parent_of(self, suggestion: Suggestion) -> int | None:
        """Return the trial of the same configuration and seed at the highest lower fidelity."""
        lower = self._trial_ids.get((suggestion.config_id, suggestion.seed), [])
        candidates = [(fidelity, trial_id) for fidelity, trial_id in lower if fidelity < suggestion.fidelity]
        return max(candidates)[1] if candidates else None

    def keep_if_cost_below(self, trial: Trial) -> float | None:
        """Return the cost at which a trial's network is worth keeping, or None where any is."""
        if trial.fidelity >= self._max_fidelity:
            leader = self._incumbent
            is_comparable = leader is not None and leader.fidelity >= self._max_fidelity and self._repeats == 1
            return leader.cost if leader is not None and is_comparable else None
        rung = self._rungs.get(trial.fidelity, [])
        return rung[-1][0] if len(rung) >= NUM_KEPT_PER_RUNG else None

    def finished(self, item: FinishedTrial, *, incumbent: Incumbent | None) -> None:
        """Take a result into account and delete what is no longer needed."""
        self._note(item)
        self._incumbent = incumbent
        if item.status == Status.SUCCESS:
            self._prune()

    def _note(self, item: FinishedTrial) -> None:
        if self._repeats > 1:
            self._note_repeat(item)
        if item.status != Status.SUCCESS or item.cost is None:
            return
        trial = item.trial
        self._successes.add(trial.trial_id)
        self._trial_ids.setdefault((trial.config_id, trial.seed), []).append((trial.fidelity, trial.trial_id))
        if trial.fidelity < self._max_fidelity:
            rung = sorted([*self._rungs.get(trial.fidelity, []), (item.cost, trial.trial_id)])
            self._rungs[trial.fidelity] = rung[:NUM_KEPT_PER_RUNG]

    def _note_repeat(self, item: FinishedTrial) -> None:
        key = (item.trial.searcher, item.trial.config_id)
        if item.cost is None:
            self._failed.add(key)
        else:
            self._repeated.setdefault(key, []).append((item.cost, item.trial.trial_id))
        if key in self._failed or len(self._repeated[key]) == self._repeats:
            self._repeated.pop(key, None)

    def _prune(self) -> None:
        kept = {trial_id for rung in self._rungs.values() for _, trial_id in rung}
        kept |= {min(repeats)[1] for repeats in self._repeated.values()}
        if self._incumbent is not None:
            kept.add(self._incumbent.trial.trial_id)
        for trial_id, path in self._run.checkpoint_files().items():
            # A file of a trial that has not finished is being written by its worker.
            if trial_id in self._successes and trial_id not in kept:
                path.unlink(missing_ok=True)
