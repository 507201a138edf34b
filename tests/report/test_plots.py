"""The numbers behind the figures, and the figures as files."""

from __future__ import annotations

import dataclasses
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naxcli.errors import NaxcliError
from naxcli.report import ReportData
from naxcli.report.figures import importance_numbers as importance_charts
from naxcli.report.figures import numbers as charts
from naxcli.report.figures import parallel_numbers
from naxcli.report.figures.files import write_plots
from tests.report.examples import all_failed, empty_run, example_data, one_trial

ONE_TRIAL = one_trial()


def with_importance(data: ReportData, entries: list[dict]) -> ReportData:
    return dataclasses.replace(data, summary={**data.summary, "importance": entries})


@pytest.fixture(scope="module")
def data() -> ReportData:
    return example_data(150)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_best_cost_so_far_never_rises(costs: list[float]) -> None:
    points = [
        {"trial_id": i, "cost": c, "elapsed_seconds": float(i), "trial_seconds_sum": float(i)}
        for i, c in enumerate(costs)
    ]
    found = charts.progress(
        dataclasses.replace(ONE_TRIAL, summary={**ONE_TRIAL.summary, "trajectory": points}), "elapsed"
    )
    assert found is not None
    assert np.all(np.diff(found.best_cost) <= 0)
    assert np.all(np.diff(found.best_x) >= 0)


def test_progress_has_a_dot_per_success_and_a_mark_per_failure(data: ReportData) -> None:
    for clock in ("elapsed", "spent"):
        found = charts.progress(data, clock)
        assert found is not None
        assert len(found.dots) == (data.trials["status"] == "success").sum()
        assert len(found.dots) + len(found.failures) == len(data.trials)
        assert found.dots["x"].max() <= found.best_x[-1]


def test_trial_seconds_add_up_over_all_trials_that_had_ended(data: ReportData) -> None:
    last = data.trials.sort_values("ended_at").tail(1)
    assert data.trial_seconds(last).iloc[0] == pytest.approx(data.trials["seconds"].sum())


def test_the_most_important_axis_is_next_to_the_cost_and_the_best_trial_on_top(data: ReportData) -> None:
    found = parallel_numbers.parallel(data)
    assert found is not None
    top = max(data.summary["importance"][-1]["lpi"], key=lambda effect: effect["mean"] or 0)
    assert [axis.name for axis in found.axes[:2]] == ["cost", top["name"]]
    assert found.costs[-1] == found.costs.min()


def test_thinned_parallel_coordinates_keep_the_best_and_span_the_rest(
    data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = parallel_numbers.parallel(data)
    monkeypatch.setattr(parallel_numbers, "MAX_PARALLEL_LINES", 8)
    found = parallel_numbers.parallel(data)
    assert everything is not None
    assert found is not None
    assert len(found.costs) == 8 < found.num_trials == len(everything.costs)
    assert sorted(found.costs)[:4] == sorted(everything.costs)[:4]
    assert found.costs.max() == everything.costs.max()


def test_an_inactive_value_has_its_own_tick(data: ReportData) -> None:
    column = "config.se"
    trials = data.trials.assign(**{column: data.trials[column].where(data.trials["config.block"] == "bottleneck")})
    found = parallel_numbers.parallel(dataclasses.replace(data, trials=trials))
    assert found is not None
    axis = next(axis for axis in found.axes if axis.name == "se")
    assert [label for _, label in axis.ticks] == ["inactive", "no", "yes"]
    assert axis.heights.min() > 0
    assert axis.heights.max() < 1


def test_bars_are_ordered_by_the_highest_fidelity_and_error_bars_are_never_negative(data: ReportData) -> None:
    bars = importance_charts.importance_bars(data, "lpi", by_group=False)
    assert bars is not None
    assert list(bars.fidelities) == [3, 9, 27]
    assert list(np.nan_to_num(bars.mean[-1])) == sorted(np.nan_to_num(bars.mean[-1]), reverse=True)
    outside = [row | {"low": 0.9, "high": 0.95} for row in data.summary["importance"][-1]["lpi"]]
    summary = {**data.summary, "importance": [data.summary["importance"][-1] | {"lpi": outside}]}
    bars = importance_charts.importance_bars(dataclasses.replace(data, summary=summary), "lpi", by_group=False)
    assert bars is not None
    assert np.nanmin(bars.below) >= 0
    assert np.nanmin(bars.above) >= 0


def test_bars_of_equal_importance_are_in_the_order_of_the_table(data: ReportData) -> None:
    names = [f"choice_{letter}" for letter in "hbfdaegc"]
    equal = [{"name": name, "mean": 0.125, "std": 0.0, "low": None, "high": None} for name in names]
    entry = data.summary["importance"][-1] | {"lpi": equal, "fanova": [], "groups": []}
    bars = importance_charts.importance_bars(with_importance(data, [entry]), "lpi", by_group=False)
    assert bars is not None
    assert list(bars.names) == names


def test_groups_take_the_place_of_their_members(data: ReportData) -> None:
    bars = importance_charts.importance_bars(data, "lpi", by_group=True)
    assert bars is not None
    assert {"activation_positions", "normalization_positions", "block"} <= set(bars.names)
    assert not {"activation_1", "normalization_1"} & set(bars.names)


def test_the_pair_matrix_is_symmetric_and_holds_every_pair(data: ReportData) -> None:
    found = importance_charts.pair_matrix(data.summary["importance"][-1])
    assert found is not None
    assert len(found.names) == 14
    assert np.array_equal(found.shares, found.shares.T, equal_nan=True)
    assert np.isnan(found.shares).sum() == len(found.names)


def test_the_front_of_one_size_falls_as_networks_grow(data: ReportData) -> None:
    sizes = [(100, 50, 0.4), (200, 10, 0.5), (300, 70, 0.3)]
    points = [{"trial_id": i, "num_params": n, "flops": f, "cost": cost} for i, (n, f, cost) in enumerate(sizes)]
    both = dataclasses.replace(data, summary={**data.summary, "pareto": points})
    assert [point["num_params"] for point in charts.front(both, "num_params")] == [100, 300]
    assert [point["flops"] for point in charts.front(both, "flops")] == [10, 50, 70]


def test_fidelity_pairs_average_repeated_seeds(data: ReportData) -> None:
    found = charts.fidelity_pairs(data)
    assert set(found) == {3.0, 9.0}
    both = data.successes.groupby("config_id")["fidelity"].agg(set)
    assert len(found[3.0]) == sum({3.0, 27.0} <= levels for levels in both)


def test_learning_curves_are_thinned_and_the_incumbent_s_is_apart(
    data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "MAX_CURVES", 10)
    found = charts.learning_curves(data)
    assert found is not None
    assert found.incumbent is not None
    assert found.incumbent[0] == data.summary["incumbent"]["trial_id"]
    assert len(found.lines) <= 10 < found.num_trials
    assert found.incumbent[0] not in [trial_id for trial_id, _, _ in found.lines]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0], False),
        ([0.001, 10.0], True),
        ([0.0, 10.0], False),
        ([], False),
        ([1e-8, *[0.5, 0.6, 0.7] * 20], False),  # one good trial
        ([1e8, *[0.5, 0.6, 0.7] * 20], True),  # one bad trial would press all others on the floor
    ],
)
def test_a_log_axis_is_for_positive_values_over_orders_of_magnitude(values: list[float], expected: bool) -> None:
    assert charts.needs_log(np.array(values)) is expected


def test_every_figure_of_a_full_run_is_written(tmp_path, data: ReportData) -> None:
    entry = data.summary["importance"][-1]
    entry = entry | {"partial_dependence": entry["partial_dependence"][:1]}
    paths = write_plots(tmp_path / "new", with_importance(data, [entry]), ("svg",))
    expected = {
        "cost_over_elapsed_time",
        "lpi_groups",
        "fanova_hyperparameters",
        "pairs_27",
        "ablation_27",
        "shapley_27",
        "pareto_front",
        "partial_dependence_27",
        "parallel_coordinates",
        "learning_curves",
        "fidelity_correlation",
    }
    assert expected <= {path.stem for path in paths}


def test_the_same_numbers_give_the_same_file_in_each_format(tmp_path, data: ReportData) -> None:
    summary = {**data.summary, "importance": [], "trajectory": []}
    small = dataclasses.replace(data, summary=summary, curves=None)
    paths = [write_plots(tmp_path / name, small) for name in ("first", "second")]
    assert {path.suffix for path in paths[0]} == {".png", ".svg"}
    assert [path.read_bytes() for path in paths[0]] == [path.read_bytes() for path in paths[1]]


def test_hostile_names_are_drawn_as_text(tmp_path) -> None:
    data = example_data(80, hostile="$\\frac{<b>&")
    entry = data.summary["importance"][-1]
    entry = entry | {"partial_dependence": entry["partial_dependence"][:1], "fanova": [], "groups": []}
    paths = write_plots(tmp_path, dataclasses.replace(with_importance(data, [entry]), curves=None), ("svg",))
    assert paths
    assert all(ElementTree.parse(path) for path in paths)


@pytest.mark.parametrize("make", [empty_run, all_failed, one_trial])
def test_a_run_without_numbers_writes_no_plot_and_no_error(tmp_path, make) -> None:
    assert write_plots(tmp_path, make()) == []


def test_missing_matplotlib_and_unknown_formats_are_clear_errors(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NaxcliError, match="gif"):
        write_plots(tmp_path, empty_run(), ("gif",))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NaxcliError, match="Matplotlib") as caught:
        write_plots(tmp_path, empty_run())
    assert "pip install" in caught.value.hint


def test_numbers_have_a_scale_and_choices_and_few_whole_numbers_a_row(data: ReportData) -> None:
    data = dataclasses.replace(data, scales={"rate": "log", "depth": "linear"})
    assert charts.is_number(data, "rate", [1, 10, 100])
    assert charts.is_number(data, "depth", list(range(100)))
    assert charts.is_number(data, "depth", [0.1, 0.2])
    assert not charts.is_number(data, "depth", [3, 5, 7, 9])
    assert not charts.is_number(data, "depth", [])
    assert not charts.is_number(data, "ordinal", [1e-8, 1e-6, 1e-4])
    assert not charts.is_number(data, "flag", [True, False])


def test_an_axis_of_numbers_is_logarithmic_where_the_space_is_and_has_inactive_trials_at_its_foot(
    data: ReportData,
) -> None:
    rates = 10.0 ** np.linspace(-4, 0, len(data.trials))
    rates[data.trials["config.block"] == "xception"] = np.nan
    trials = data.trials.assign(**{"config.rate": rates})
    found = parallel_numbers.parallel(dataclasses.replace(data, trials=trials, scales={"rate": "log"}))
    assert found is not None
    axis = next(axis for axis in found.axes if axis.name == "rate")
    assert axis.ticks[0] == (0.0, "inactive")
    shown = data.trials.set_index("trial_id").assign(rate=rates).loc[found.trial_ids, "rate"].to_numpy()
    active = ~np.isnan(shown)
    assert np.all(axis.heights[~active] == 0)
    assert axis.heights[active].min() == pytest.approx(parallel_numbers.INACTIVE_GAP)
    assert np.corrcoef(np.log(shown[active]), axis.heights[active])[0, 1] == pytest.approx(1)
