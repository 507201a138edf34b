"""Results of other searches: what is read of each kind of source, what a user is told, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    Integer,
    OrdinalHyperparameter,
)

from naxcli.errors import NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import Config, Result, Status, Suggestion
from naxcli.search_space.contract import Space
from naxcli.search_space.earlier import EarlierResults, read_earlier
from naxcli.settings.experiment import Experiment


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    kind, se = Categorical("kind", ["x", "y", "None"]), Categorical("se", [False, True])
    size, ratio = OrdinalHyperparameter("size", [3, 5, 7]), Categorical("ratio", [0.25, 0.5])
    space.add(kind, se, size, ratio, Float("rate", (1e-4, 1.0), log=True), Integer("depth", (1, 9)))
    space.add(EqualsCondition(ratio, se, True))
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(kind, "y"), ForbiddenEqualsClause(size, 7)))
    return space


SPACE = Space(name="own", configspace=configspace, evaluate=lambda config, *, fidelity, seed: 0.0)
FULL: dict[str, Any] = {"kind": "x", "se": True, "size": 5, "ratio": 0.5, "rate": 0.01, "depth": 4}
PLAIN: dict[str, Any] = {"kind": "None", "se": False, "size": 3, "rate": 0.5, "depth": 1}


def read(source: Path, **settings: Any) -> tuple[EarlierResults, str]:
    earlier, notices = read_earlier(
        str(source),
        space=SPACE,
        configuration_space=configspace(),
        experiment=Experiment(space="own.py", **settings),
    )
    return earlier, "\n".join(notices)


def found(earlier: EarlierResults) -> list[tuple[Config, float, float]]:
    return [(result.config, result.fidelity, pytest.approx(result.cost)) for result in earlier.results]


def make_run(path: Path, results: list[tuple[Config, float, Result]], **settings: Any) -> Path:
    """Write a run without searching."""
    run = RunDirectory(path=path)
    path.mkdir()
    run.experiment_file.write_text(Experiment(space="own.py", **settings).to_toml())
    configspace().to_json(run.space_file)
    with Records.create(run) as records:
        for seed, (config, fidelity, result) in enumerate(results):
            suggestion = Suggestion(config=config, fidelity=fidelity, seed=seed)
            trial = records.add_trial(suggestion, searcher="random", state="{}")
            records.add_result(trial.trial_id, result)
    return path


def success(cost: float) -> Result:
    return Result(status=Status.SUCCESS, cost=cost)


def test_a_run_is_read_with_its_fidelities_and_what_differs_is_named(tmp_path: Path) -> None:
    results = [
        (FULL, 3.0, success(0.3)),
        (FULL, 3.0, success(0.5)),
        (FULL, 9.0, success(0.2)),
        (PLAIN, 3.0, success(0.6)),
        (PLAIN, 9.0, Result(status=Status.CRASHED)),
    ]
    run = make_run(tmp_path / "old", results, data="digits", width=0.5, seed=4)
    earlier, notices = read(run, data="cifar100", width=0.5)
    assert found(earlier) == [(FULL, 3.0, 0.4), (FULL, 9.0, 0.2), (PLAIN, 3.0, 0.6)]
    assert "3 results at fidelity 3, 9" in notices and earlier.content_hash in notices
    assert "data is 'digits' there, 'cifar100' here" in notices
    assert "width" not in notices and "seed" not in notices, "only what costs depend on, and differs"
    assert "1 failed" in notices


def test_the_results_survive_the_records_exactly(tmp_path: Path) -> None:
    run = make_run(tmp_path / "old", [(FULL, 3.0, success(0.1 + 0.2)), (PLAIN, 1 / 3, success(1e-17))])
    earlier, _ = read(run)
    again = EarlierResults.from_json(earlier.to_json())
    assert again == earlier and again.content_hash == earlier.content_hash
    other, _ = read(make_run(tmp_path / "new", [(FULL, 3.0, success(0.3)), (PLAIN, 1 / 3, success(1e-17))]))
    assert other.content_hash != earlier.content_hash


def test_a_table_of_another_space_is_read_as_far_as_it_is_of_this_one(tmp_path: Path) -> None:
    rows = [
        {**FULL, "size": "5", "depth": 4.0, "width": 2, "cost": 0.3, "status": "SUCCESS"},
        {**FULL, "width": 3, "cost": 0.5, "status": "success"},  # the same but for what is not of this space
        {**PLAIN, "kind": "z", "cost": 0.1, "status": "success"},
        {**FULL, "kind": "y", "size": 7, "cost": 0.1, "status": "success"},
        {**FULL, "depth": 2.5, "cost": 0.1, "status": "success"},
        {**PLAIN, "cost": 0.9, "status": "crashed"},
        {**PLAIN, "cost": float("nan"), "status": "success"},
    ]
    frame = pd.DataFrame(rows).astype({"size": str, "depth": object})
    frame["depth"] = frame["depth"].astype(float)
    frame.drop(columns="rate").to_parquet(tmp_path / "table.parquet")
    earlier, notices = read(tmp_path / "table.parquet")
    default = configspace().get_default_configuration()["rate"]
    assert found(earlier) == [({**FULL, "rate": default}, 1.0, 0.4)]
    assert {type(value) for value in earlier.results[0].config.values()} == {str, bool, int, float}
    assert f"results count as those of rate={default}" in notices
    assert "that are left out: width" in notices
    for reason in ("1 with kind=z", "1 forbidden", "1 with depth=2.5", "2 failed"):
        assert reason in notices


def test_a_study_of_optuna_is_read_from_its_csv(tmp_path: Path) -> None:
    """As `study.trials_dataframe().to_csv(...)` writes one; `None` is a choice there, and an empty cell is null."""
    path = tmp_path / "study.csv"
    path.write_text(
        ",number,value,datetime_start,duration,params_kind,params_se,params_size,params_ratio,params_rate,params_depth,state\n"
        "0,0,0.25,2026-01-01,1 days,x,True,5,0.5,0.01,4,COMPLETE\n"
        "1,1,0.75,2026-01-01,1 days,None,False,3,,0.5,1,COMPLETE\n"
        "2,2,0.01,2026-01-01,1 days,x,True,3,0.5,0.02,4,PRUNED\n"
        "3,3,,2026-01-01,1 days,x,True,3,0.5,0.02,4,FAIL\n"
    )
    earlier, notices = read(path)
    assert found(earlier) == [(FULL, 1.0, 0.25), (PLAIN, 1.0, 0.75)]
    assert "value counts as a cost, to be minimised" in notices and "2 failed" in notices


def test_configurations_that_are_the_same_network_are_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "old", [(PLAIN, 1.0, success(0.2)), ({**PLAIN, "depth": 2}, 1.0, success(0.4))])
    same = Space(
        name="same",
        configspace=configspace,
        evaluate=lambda config, *, fidelity, seed: 0.0,
        canonical=lambda config: {**config, "depth": 1},
    )
    earlier, _ = read_earlier(
        str(run), space=same, configuration_space=configspace(), experiment=Experiment(space="own.py")
    )
    assert found(earlier) == [(PLAIN, 1.0, 0.3)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.parquet", None, "no file"),
        ("text.parquet", "not Parquet", "not readable as Parquet"),
        ("empty.csv", "", "cannot be read as CSV"),
        ("other.csv", "number,value,params_lr,state\n0,0.3,0.1,COMPLETE\n", "no hyperparameter of space 'own'"),
        ("costs.csv", "kind,se\nx,True\n", "no column cost"),
        ("failed.csv", "kind,cost,status\nx,0.3,crashed\n", "no successful trial"),
        ("choices.csv", "kind,cost\nw,0.3\nv,0.1\n", "no configuration of space 'own'"),
    ],
)
def test_what_says_nothing_of_this_space_is_refused(
    name: str, content: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(NaxcliError, match=message):
        read(path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match="no run"):
        read(tmp_path)


def test_whole_numbers_of_a_table_stand_for_choices_with_a_point_and_the_other_way_round(tmp_path: Path) -> None:
    def numbers(seed: int | None = None) -> ConfigurationSpace:
        space = ConfigurationSpace(seed=seed)
        space.add(Categorical("mixup", [0.0, 0.5, 1.0]), Categorical("depth", [1, 2]), Categorical("se", [False, True]))
        return space

    table = tmp_path / "table.csv"
    table.write_text("mixup,depth,se,cost\n1,2.0,True,0.1\n0,1.0,False,0.2\n")
    space = Space(name="own", configspace=numbers, evaluate=SPACE.evaluate)
    earlier, _ = read_earlier(
        str(table), space=space, configuration_space=numbers(), experiment=Experiment(space="own.py")
    )
    configs = [result.config for result in earlier.results]
    assert configs == [{"mixup": 1.0, "depth": 2, "se": True}, {"mixup": 0.0, "depth": 1, "se": False}]
