"""Tables of trials from elsewhere: what is accepted, and how mistakes are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    Integer,
    OrdinalHyperparameter,
)

from naxcli.analysis.summary import summarise
from naxcli.analysis.table import check_table, normalise_table
from naxcli.errors import NaxcliError


def space() -> ConfigurationSpace:
    configuration_space = ConfigurationSpace()
    configuration_space.add(
        Categorical("se", ["no", "yes"]),
        Integer("ratio", (2, 16)),
        Float("lr", (1e-4, 1.0), log=True),
        Categorical("bias", [True, False]),
        Categorical("kernel", [3, 5, 7]),
        OrdinalHyperparameter("width", ["s", "m", "l"]),
        Constant("classes", 10),
    )
    configuration_space.add(EqualsCondition(configuration_space["ratio"], configuration_space["se"], "yes"))
    return configuration_space


def foreign() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "se": ["no", "yes", "yes"],
            "ratio": pd.array([None, 4, 8], dtype="Int64"),
            "lr": [0.1, 0.01, 1e-4],
            "bias": [True, False, True],
            "kernel": [3.0, 5.0, 7.0],
            "width": pd.array(["s", "m", "l"], dtype="string"),
            "budget": [9, 9, 27],
            "seed": [1, 2, 3],
            "cost": [0.3, 0.2, None],
            "status": ["SUCCESS", "Success", "CRASHED"],
        }
    )


def test_a_foreign_table_gets_the_columns_of_trials_parquet() -> None:
    table = normalise_table(foreign(), space())
    assert table["status"].tolist() == ["success", "success", "crashed"]
    assert table["fidelity"].tolist() == [9, 9, 27]
    first = {column.removeprefix("config."): table[column].iloc[0] for column in table if column.startswith("config.")}
    assert first == {"se": "no", "ratio": None, "lr": 0.1, "bias": True, "kernel": 3, "width": "s", "classes": 10}
    assert type(first["kernel"]) is int and type(first["bias"]) is bool


def test_normalising_twice_changes_nothing() -> None:
    once = normalise_table(foreign(), space())
    pd.testing.assert_frame_equal(normalise_table(once, space()), once)


def test_parquet_keeps_a_normalised_table_readable(tmp_path: Any) -> None:
    foreign().to_parquet(tmp_path / "trials.parquet")
    read = pd.read_parquet(tmp_path / "trials.parquet")
    np.testing.assert_array_equal(check_table(read, space())[1], check_table(foreign(), space())[1])


def test_values_written_as_text_count() -> None:
    as_text = foreign().assign(kernel=["3", "5", "7"], bias=["True", "False", "True"], lr=["0.1", "0.01", "1e-4"])
    np.testing.assert_array_equal(check_table(as_text, space())[1], check_table(foreign(), space())[1])


def test_a_value_of_an_inactive_hyperparameter_has_no_effect() -> None:
    table = foreign().assign(ratio=[6, 4, 8])
    assert normalise_table(table, space())["config.ratio"].tolist() == [None, 4, 8]


def test_the_seed_may_be_missing() -> None:
    assert normalise_table(foreign().drop(columns="seed"), space())["seed"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="cost"), "no column 'cost'"),
        (lambda table: table.drop(columns=["budget", "status"]), "no column 'fidelity', 'status'"),
        (lambda table: table.drop(columns="kernel"), "no column for kernel"),
        (
            lambda table: table.rename(columns={"kernel": "kernel_size"}),
            "no hyperparameter of the space: .*kernel_size",
        ),
        (lambda table: table.assign(kernel=[3, 5, 9]), "9 in row 2 of the table is not a value of kernel"),
        (lambda table: table.assign(width=["s", "m", "xl"]), "'xl' in row 2"),
        (lambda table: table.assign(lr=[0.1, 2.0, 0.1]), "2.0 in row 1 of the table is not a value of lr"),
        (lambda table: table.assign(ratio=[None, 4.5, 8]), "4.5 in row 1"),
        (lambda table: table.assign(ratio=[None, None, 8]), "row 1 of the table has no value for ratio"),
        (
            lambda table: table.assign(cost=[0.3, np.nan, None]),
            "1 successful trials have no finite cost, the first in row 1",
        ),
        (lambda table: table.assign(cost=[np.inf, 0.2, None]), "no finite cost, the first in row 0"),
        (lambda table: table.assign(cost=["low", 0.2, 0.3]), "'low' in row 0 of column 'cost' is not a number"),
        (lambda table: table.assign(budget=[None, 9, 9]), "no finite fidelity"),
        (lambda table: table.rename(columns={"kernel": "config.kernel_size"}), "unknown hyperparameters: kernel_size"),
    ],
)
def test_mistakes_are_named(change: Any, message: str) -> None:
    with pytest.raises(NaxcliError, match=message) as caught:
        normalise_table(change(foreign()), space())
    assert caught.value.what


def test_a_hyperparameter_named_like_a_column_of_every_trial_needs_the_prefix() -> None:
    clashing = ConfigurationSpace()
    clashing.add(Categorical("seed", [1, 2]))
    table = pd.DataFrame({"seed": [1, 2], "cost": [0.1, 0.2], "fidelity": 1, "status": "success"})
    with pytest.raises(NaxcliError, match="has the name of a column of every trial"):
        normalise_table(table, clashing)
    prefixed = table.assign(**{"config.seed": [1, 2]})
    assert summarise(prefixed, clashing, bootstrap=0)["incumbent"]["config"] == {"seed": 1}


def test_columns_that_are_not_used_are_named_in_a_warning() -> None:
    warnings = summarise(foreign().assign(notes="x"), space(), bootstrap=0)["warnings"]
    assert "columns that are no hyperparameter of the space are not used: notes" in warnings
