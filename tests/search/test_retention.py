"""Which checkpoints stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from naxcli.records.directory import RunDirectory
from naxcli.records.history import FinishedTrial
from naxcli.records.incumbent import Leaderboard
from naxcli.records.trial import Status, Suggestion, Trial
from naxcli.search.retention import CheckpointPolicy
from naxcli.settings.fidelity import FidelityRange


def finished(number: int, config: int, cost: float | None, *, seed: int = 0, fidelity: float = 9.0) -> FinishedTrial:
    suggestion = Suggestion(config={"a": config}, fidelity=fidelity, seed=seed)
    status = Status.CRASHED if cost is None else Status.SUCCESS
    trial = Trial(trial_id=number, suggestion=suggestion, searcher="random")
    return FinishedTrial(trial=trial, status=status, cost=cost, seconds=1.0)


class Kept:
    """A run whose trials end one after the other; each success leaves its checkpoint."""

    def __init__(self, folder: Path, *, repeats: int = 1, fidelity: str = "9") -> None:
        self.run = RunDirectory(path=folder)
        self.run.checkpoints.mkdir(parents=True)
        self.leaderboard = Leaderboard()
        self.policy = CheckpointPolicy(
            run=self.run, fidelity=FidelityRange.parse(fidelity), finished=[], incumbent=None, repeats=repeats
        )

    def after(self, item: FinishedTrial) -> set[int]:
        if item.cost is not None:
            self.run.checkpoint(item.trial.trial_id).touch()
        self.leaderboard.add(item)
        self.policy.finished(item, incumbent=self.leaderboard.incumbent)
        return set(self.run.checkpoint_files())


def test_the_best_of_a_configurations_repeats_stays_until_it_is_known_whether_it_leads(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "run", repeats=2)
    assert kept.after(finished(1, 0, 0.3)) == {1}
    assert kept.after(finished(2, 0, 0.2, seed=1)) == {2}
    assert kept.after(finished(3, 1, 0.1)) == {2, 3}  # one seed does not lead yet
    assert kept.after(finished(4, 1, 0.2, seed=1)) == {3}
    assert kept.after(finished(5, 2, 0.05)) == {3, 5}
    assert kept.after(finished(6, 2, None, seed=1)) == {3, 5}  # a failure frees it, with the next success
    assert kept.after(finished(7, 3, 0.9)) == {3, 7}


def test_a_resumed_run_keeps_the_incumbent_and_not_the_lowest_single_cost(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "run", repeats=2)
    trials = [finished(1, 0, 0.2), finished(2, 0, 0.2, seed=1), finished(3, 1, 0.1), finished(4, 1, 0.9, seed=1)]
    for item in trials:
        kept.after(item)
    leader = kept.leaderboard.incumbent
    fidelity = FidelityRange(min=9, max=9)
    CheckpointPolicy(run=kept.run, fidelity=fidelity, finished=trials, incumbent=leader, repeats=2)
    assert leader is not None and set(kept.run.checkpoint_files()) == {leader.trial.trial_id} == {1}


def test_the_first_network_of_the_highest_rung_is_worth_keeping_whatever_a_lower_rung_cost(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "run", fidelity="3:9:3")
    kept.after(finished(1, 0, 0.4, fidelity=3.0))
    assert kept.policy.keep_if_cost_below(finished(2, 0, None).trial) is None
    kept.after(finished(2, 0, 0.5))
    assert kept.policy.keep_if_cost_below(finished(3, 1, None).trial) == pytest.approx(0.5)
