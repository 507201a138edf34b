"""The figures' axes, and that the page and the files for a paper show the same."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from naxcli.report import ReportData
from naxcli.report.figures import importance_numbers as importance_charts
from naxcli.report.figures import matplotlib as painting
from naxcli.report.figures import numbers as charts
from naxcli.report.figures import parallel_numbers
from naxcli.report.figures.files import painted
from naxcli.report.figures.matplotlib import PAINTERS
from naxcli.report.figures.page import DRAWERS
from naxcli.report.figures.plotly_style import ACCENT
from naxcli.report.figures.scales import MOST_TICKS, number_text, panel_names, panel_numbers, scale_of
from naxcli.report.html import render_html
from tests.report.examples import example_data, one_trial, with_numbers

# Every kind of figure: the name on the page -> the name of the file, of the highest of the example's fidelities.
KINDS = {
    "cost-over-elapsed": "cost_over_elapsed_time",
    "cost-over-spent": "cost_over_spent_time",
    "lpi-groups": "lpi_groups",
    "lpi-hyperparameters": "lpi_hyperparameters",
    "fanova-groups": "fanova_groups",
    "fanova-hyperparameters": "fanova_hyperparameters",
    "parallel-coordinates": "parallel_coordinates",
    "pareto-front": "pareto_front",
    "profile-channels": "profile_channels",
    "learning-curves": "learning_curves",
    "fidelity-correlation": "fidelity_correlation",
    "importance-27-pairs": "pairs_27",
    "importance-27-ablation": "ablation_27",
    "importance-27-shapley": "shapley_27",
    "importance-27-dependence": "partial_dependence_27",
}
LONG = "_and_so_on_for_ever_until_nobody_reads_it_any_more"
RUNS = {
    "choices": lambda: example_data(150),
    "numbers": lambda: with_numbers(example_data(150)),
    "long names": lambda: example_data(150, hostile=LONG),
    "one trial": one_trial,
}


def on_page(data: ReportData) -> dict[str, dict[str, Any]]:
    """Return the Plotly figures of the page by name."""
    found = re.findall(r'<script type="application/json" id="([^"]*)-data">(.*?)</script>', render_html(data))
    return {name: json.loads(text) for name, text in found}


@pytest.fixture(scope="module")
def data() -> ReportData:
    return with_numbers(example_data(150))


@pytest.fixture(scope="module")
def page(data: ReportData) -> dict[str, dict[str, Any]]:
    return on_page(data)


@pytest.fixture(scope="module")
def files(data: ReportData) -> dict[str, Figure]:
    return dict(painted(data))


def panels(kind: str, page: dict[str, dict[str, Any]], files: dict[str, Figure]) -> list[tuple[dict[str, Any], Any]]:
    """Return a Plotly figure and the Matplotlib diagram of the same, several of them for partial dependence."""
    drawn = [figure for name, figure in page.items() if re.fullmatch(rf"{kind}(-\d+)?", name)]
    axes = [one for one in files[KINDS[kind]].axes if one.get_visible() and one.get_label() != "<colorbar>"]
    assert drawn
    return list(zip(drawn, axes, strict=True))


def test_the_page_and_the_files_have_the_same_figures_and_every_kind_of_them(page, files) -> None:
    of_page = {re.sub(r"-\d+$", "", name) if "dependence" in name else name for name in page}
    names = {re.sub(r"importance-\d+", "importance-27", name) for name in of_page}
    assert names == set(KINDS)
    assert {re.sub(r"_\d+$", "_27", name) for name in files} == set(KINDS.values())
    assert len(of_page) == len(files)


def test_what_one_library_draws_the_other_does_too() -> None:
    panels = {importance_charts.Panels}  # one drawing on the page for each of them
    assert set(DRAWERS) - {importance_charts.Dependence} == set(PAINTERS) - panels


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_has_the_same_axes_on_the_page_and_in_its_file(kind: str, page, files) -> None:
    for drawn, axes in panels(kind, page, files):
        for name in "xy":
            given = drawn["layout"][f"{name}axis"]
            is_log = given["type"] == "log"
            assert getattr(axes, f"get_{name}scale")() == given["type"]
            ends = [10**end for end in given["range"]] if is_log else given["range"]
            assert getattr(axes, f"get_{name}lim")() == pytest.approx(ends)
            if "title" in given and given["title"]["text"]:
                assert getattr(axes, f"get_{name}label")() == given["title"]["text"]
            if given.get("ticktext"):
                shown = [text.get_text() for text in getattr(axes, f"get_{name}ticklabels")()]
                assert shown == given["ticktext"] or not any(shown)  # said once for a row of panels


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_has_the_same_legend_on_the_page_and_in_its_file(kind: str, page, files) -> None:
    drawn = panels(kind, page, files)[0][0]
    traces = [trace for trace in drawn["data"] if trace.get("name")]
    is_shown = len(traces) > 1 or any(trace.get("showlegend") for trace in traces)
    legends = files[KINDS[kind]].legends
    found = sorted(text.get_text() for legend in legends for text in legend.get_texts())
    assert found == (sorted(trace["name"] for trace in traces) if is_shown else [])


def accents_on_page(drawn: dict[str, Any]) -> list[tuple[float, float]]:
    """Return the points in the incumbent's colour."""
    found = []
    for trace in drawn["data"]:
        colour = trace.get("marker", {}).get("color")
        colours = colour if isinstance(colour, list) else [colour] * len(trace.get("x", ()))
        points = zip(numbers(trace.get("x", ())), numbers(trace.get("y", ())), colours, strict=False)
        found += [(x, y) for x, y, one in points if one == ACCENT and "markers" in trace.get("mode", "")]
    return sorted(found)


def numbers(values: Any) -> list[Any]:
    """Return an array as Plotly's JSON writes it, in base64 where it is one of NumPy."""
    if not isinstance(values, dict):
        return list(values)
    import base64

    return np.frombuffer(base64.b64decode(values["bdata"]), dtype=np.dtype(values["dtype"])).tolist()


def accents_in_file(axes: Any) -> list[tuple[float, float]]:
    lines = [
        one
        for one in axes.lines
        if one.get_marker() not in ("None", None) and to_hex(one.get_color()) == painting.ACCENT
    ]
    return sorted((float(x), float(y)) for line in lines for x, y in line.get_xydata())


@pytest.mark.parametrize("kind", ["importance-27-ablation", "importance-27-dependence"])
def test_the_incumbent_is_the_same_point_on_the_page_and_in_the_file(kind: str, page, files) -> None:
    found = [(accents_on_page(drawn), accents_in_file(axes)) for drawn, axes in panels(kind, page, files)]
    for of_page, of_file in found:
        assert of_file == [pytest.approx(point) for point in of_page]
    # Only momentum, inactive in the incumbent, has no point.
    assert sum(len(of_file) for _, of_file in found) == max(len(found) - 1, 1)


def test_log_hyperparameters_have_log_axes_with_plain_numbers_everywhere(data: ReportData, page, files) -> None:
    curves = importance_charts.dependences(data, data.summary["importance"][-1])
    assert {curve.name: curve.x.is_log for curve in curves if curve.is_numeric} == {
        "learning_rate": True,
        "momentum": False,
        "hidden_width": True,
    }
    rate = next(curve for curve in curves if curve.name == "learning_rate")
    assert [text for _, text in rate.x.all_ticks] == ["0.0001", "0.01", "1"]
    parallel = parallel_numbers.parallel(data)
    assert parallel is not None
    heights = {axis.name: axis.heights for axis in parallel.axes}
    shown = data.trials.set_index("trial_id").loc[parallel.trial_ids]
    for name in ("learning_rate", "hidden_width"):
        assert np.corrcoef(np.log(shown[f"config.{name}"]), heights[name])[0, 1] == pytest.approx(1)


def test_choices_may_be_booleans(data: ReportData) -> None:
    trials = data.trials.assign(**{"config.se": data.trials["config.se"] == "yes"})
    for column in (trials["config.se"], trials["config.se"].astype(object)):
        parallel = parallel_numbers.parallel(dataclasses.replace(data, trials=trials.assign(**{"config.se": column})))
        assert parallel is not None
        (axis,) = [axis for axis in parallel.axes if axis.name == "se"]
        assert [text for _, text in axis.ticks] == ["no", "yes"]


def test_a_log_hyperparameter_of_a_narrow_range_has_a_log_axis_as_well(data: ReportData) -> None:
    entry = data.summary["importance"][-1]
    narrow = {"name": "learning_rate", "values": [0.01, 0.02, 0.04], "mean": [1, 2, 3], "std": [0, 0, 0]}
    curve = importance_charts.dependences(data, entry | {"partial_dependence": [narrow]})[0]
    assert curve.x.is_log
    assert len(curve.x.all_ticks) >= 2


def texts_of(figure: Figure) -> list[Any]:
    """Return every text that a Matplotlib figure shows."""
    from matplotlib.text import Text

    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in found if text.axes is None or text.axes.get_visible()]


@pytest.mark.parametrize("run", RUNS)
def test_files_show_no_formulas_no_micro_units_no_cut_text_and_no_ticks_on_each_other(run: str) -> None:
    for name, figure in painted(RUNS[run]()):
        renderer = FigureCanvasAgg(figure).get_renderer()
        for text in texts_of(figure):
            assert not re.search(r"\$|mathdefault|[µμ]", text.get_text()), (name, text.get_text())
        for axes in (one for one in figure.axes if one.get_visible()):
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
                labels = [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]
                boxes = [text.get_window_extent(renderer) for text in labels]
                for text, box in zip(labels, boxes, strict=True):
                    is_inside = (
                        box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
                    )
                    assert is_inside, (name, text.get_text())
                if any(text.get_rotation() for text in labels):
                    continue  # the boxes of slanted texts overlap, the texts do not
                for (one, first), (two, second) in zip(
                    zip(labels, boxes, strict=True), list(zip(labels, boxes, strict=True))[1:], strict=False
                ):
                    assert not first.overlaps(second), (name, one.get_text(), two.get_text())
            for label in (axes.xaxis.label, axes.yaxis.label):
                box = label.get_window_extent(renderer)
                if label.get_text():
                    assert box.x0 >= -1, (name, label.get_text())
                    assert box.x1 <= figure.bbox.x1 + 1, (name, label.get_text())
            for legend in figure.legends:
                assert not legend.get_window_extent(renderer).overlaps(axes.get_window_extent(renderer)), name


def test_one_trial_does_not_zoom_an_axis_into_rounding_errors() -> None:
    trial = with_trajectory(one_trial())
    cost = float(trial.summary["incumbent"]["cost"])
    for clock in ("elapsed", "spent"):
        found = charts.progress(trial, clock)
        assert found is not None
        assert found.y.high - found.y.low >= 0.05 * cost
        assert found.x.low == 0
    # The best so far is that trial; a difference in the last bit is none.
    noisy = trial.trials.assign(cost=np.float32(cost))
    found = charts.progress(dataclasses.replace(trial, trials=noisy), "elapsed")
    assert found is not None
    assert found.y.high - found.y.low >= 0.05 * cost
    drawn = on_page(trial)["cost-over-elapsed"]
    assert np.diff(drawn["layout"]["yaxis"]["range"])[0] >= 0.05 * cost
    assert {trace["y"]["dtype"] for trace in drawn["data"] if isinstance(trace["y"], dict)} <= {"f8"}


def with_trajectory(data: ReportData) -> ReportData:
    incumbent = data.summary["incumbent"]
    point = {
        "trial_id": incumbent["trial_id"],
        "cost": incumbent["cost"],
        "elapsed_seconds": 9.0,
        "trial_seconds_sum": 9.0,
    }
    return dataclasses.replace(data, summary={**data.summary, "trajectory": [point]})


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from([0.0, 1.0]),
)
def test_an_axis_holds_its_values_and_is_wider_than_their_resolution(
    values: list[float], from_zero: bool, magnitude: float
) -> None:
    found = scale_of("", values, from_zero=from_zero, magnitude=magnitude)
    assert found.low <= min(values)
    assert found.high >= max(values)
    size = max(*map(abs, values), magnitude)
    assert found.high - found.low > 1e-4 * size
    assert not from_zero or found.low <= 0 <= found.high


@settings(deadline=None)
@given(st.floats(1e-12, 1e12), st.floats(1, 1e12))
def test_a_log_axis_holds_its_values_and_has_ticks_that_can_be_read(low: float, factor: float) -> None:
    found = scale_of("", [low, low * factor], is_log=True)
    assert 0 < found.low <= low
    assert found.high >= low * factor
    ticks = found.all_ticks
    assert 2 <= len(ticks) <= MOST_TICKS + 1
    assert len({text for _, text in ticks}) == len(ticks)
    assert all(
        found.low <= value <= found.high and float(text) == pytest.approx(value, rel=1e-5) for value, text in ticks
    )


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_round_ticks_lie_on_their_axis_and_all_differ(low: float, span: float) -> None:
    found = scale_of("", [low, low + span])
    ticks = found.all_ticks
    assert 2 <= len(ticks) <= MOST_TICKS + 1
    assert len({text for _, text in ticks}) == len(ticks)
    slack = 1e-6 * (found.high - found.low)
    assert all(found.low - slack <= value <= found.high + slack for value, _ in ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "0.0001"),
        (1e-5, "1e-5"),
        (2e-7, "2e-7"),
        (0.1 + 0.2, "0.3"),
        (0.0, "0"),
        (-0.5, "−0.5"),
        (1e6, "1e6"),
        (20_000.0, "20000"),
    ],
)
def test_a_tick_is_a_number_as_people_write_it(value: float, text: str) -> None:
    assert number_text(value) == text


def test_counts_are_in_thousands_and_millions() -> None:
    assert [number_text(value, is_count=True) for value in (0, 950, 12_000, 2.5e6, 3e9)] == [
        "0",
        "950",
        "12k",
        "2.5M",
        "3G",
    ]


@settings(deadline=None)
@given(st.floats(-12, 6), st.floats(0.01, 12), st.booleans())
def test_the_numbers_of_a_small_panel_fit_side_by_side(start: float, decades: float, is_log: bool) -> None:
    values = [10.0**start, 10.0 ** (start + decades)]
    found = panel_numbers(values, is_log=is_log)
    assert len(found.all_ticks) >= 2
    assert sum(len(text) + 2 for _, text in found.all_ticks) <= 32


@pytest.mark.parametrize(
    ("names", "is_flat", "count"),
    [
        (["no", "yes"], True, 2),
        (["xception", "bottleneck"], True, 2),
        (["a_long_name_of_a_block", "another_long_name"], False, 2),
        ([f"choice {number}" for number in range(40)], False, 14),
    ],
)
def test_names_of_a_small_panel_are_slanted_shortened_and_thinned_where_they_must(
    names, is_flat: bool, count: int
) -> None:
    found = panel_names(names)
    assert (found.slant == 0) is is_flat
    assert len(found.all_ticks) == count
    assert is_flat or max(len(text) for _, text in found.all_ticks) <= 12


def test_epochs_are_whole_numbers() -> None:
    for epochs in ([1], [1, 2], [1, 2, 3], range(1, 301)):
        texts = [text for _, text in scale_of("Epoch", epochs, is_whole=True).all_ticks]
        assert texts
        assert all(text.isdigit() for text in texts)
        assert len(texts) <= MOST_TICKS + 1


def test_fidelities_of_one_figure_have_different_colours_as_long_as_there_are_any() -> None:
    for count in range(1, 6):
        assert len({charts.level(index, count) for index in range(count)}) == count
        assert charts.level(count - 1, count) == f"level-{charts.NUM_COLOURS}"


def test_a_hyperparameter_of_a_single_known_value_has_no_panel(data: ReportData) -> None:
    entry = data.summary["importance"][-1]
    curves = [
        {"name": "block", "values": ["xception"], "mean": [0.3], "std": [0.0]},
        {"name": "se", "values": [], "mean": [], "std": []},
    ]
    assert importance_charts.dependences(data, entry | {"partial_dependence": curves}) == []


def test_names_of_references_of_almost_equal_cost_stand_above_each_other(data: ReportData) -> None:
    at = data.summary["incumbent"]["fidelity"]
    references = [{"name": f"reference {number}", "cost": 0.3 + number * 1e-5, "fidelity": at} for number in range(3)]
    references.append({"name": "of fewer epochs", "cost": 0.9, "fidelity": at / 2})
    found = charts.progress(dataclasses.replace(data, summary={**data.summary, "references": references}), "elapsed")
    assert found is not None
    assert [reference.lift for reference in found.references] == pytest.approx([0, 0.055, 0.11], abs=1e-3)


def test_labels_that_differ_at_their_ends_stay_different() -> None:
    names = [f"NeuralNetwork:block_of_the_network:{end}" for end in ("activation", "normalization")]
    assert len({importance_label(name) for name in names}) == 2


def importance_label(name: str) -> str:
    entry = {"ablation": [{"name": "default", "cost": 1.0}, {"name": name, "to": "x", "cost": 0.5}]}
    found = importance_charts.ablation(entry)
    assert found is not None
    return found.y.all_ticks[1][1]


def test_values_of_zero_do_not_zoom_in_on_rounding_errors() -> None:
    assert scale_of("", [1e-17, -1e-17], from_zero=True, magnitude=0.3).high >= 0.01
    assert scale_of("", [0.0]).high > 0.1


def test_interactions_of_rounding_errors_are_not_dark(data: ReportData) -> None:
    pairs = [{"names": ["block", "se"], "mean": 1e-30}, {"names": ["block", "stem"], "mean": 0.0}]
    entry = data.summary["importance"][-1]
    mains = [effect for effect in entry["fanova"] if len(effect["names"]) == 1]
    found = dataclasses.replace(
        data, summary={**data.summary, "importance": [entry | {"fanova": [*mains, *pairs]}]}, curves=None
    )
    assert on_page(found)["importance-27-pairs"]["data"][0]["zmax"] == importance_charts.LEAST_SHARE
    figure = next(figure for name, figure in painted(found) if name == "pairs_27")
    assert figure.axes[0].images[0].get_clim() == (0, importance_charts.LEAST_SHARE)


def test_control_characters_that_no_renderer_takes_are_made_visible(data: ReportData) -> None:
    hostile = "\ud800\x00\x0b\u202e$x_{y}$"
    summary = {
        **data.summary,
        "references": [{"name": hostile, "cost": 0.3, "fidelity": data.summary["incumbent"]["fidelity"]}],
    }
    found = dataclasses.replace(data, summary=summary)
    assert render_html(found).encode(errors="replace")
    progress = charts.progress(found, "elapsed")
    assert progress is not None
    assert progress.references[0].name.isprintable()
    assert progress.references[0].name.endswith("$x_{y}$")


# Draws everything that is not folded away, then says which texts lie on each other, and which the toolbar lies on.
PROBE = """
addEventListener("load", () => {
  loadLibrary();
  const found = [];
  const meets = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  let texts = 0, bars = 0;
  for (const plot of document.querySelectorAll(".plot")) {
    if (plot.closest("details:not([open])")) continue;
    draw(plot);
    const name = plot.dataset.figure;
    for (const axis of ["g.xtick", "g.ytick"]) {
      const labels = [...plot.querySelectorAll(axis + " text")];
      for (const label of labels) if (getComputedStyle(label).display === "none") found.push([name, "hidden", label.textContent]);
      if (labels.some((label) => /rotate\\((?!0)/.test(label.getAttribute("transform") ?? ""))) continue;
      for (const [index, label] of labels.entries()) {
        texts += 1;
        for (const other of labels.slice(index + 1)) {
          if (meets(label.getBoundingClientRect(), other.getBoundingClientRect())) {
            found.push([name, label.textContent, other.textContent]);
          }
        }
      }
    }
    for (const label of plot.querySelectorAll("svg text")) if (/[µμ]/.test(label.textContent)) found.push([name, label.textContent]);
    const bar = plot.querySelector(".modebar");
    if (!bar || !bar.getBoundingClientRect().width) continue;
    bars += 1;
    for (const part of plot.querySelectorAll("svg text, .legend, .plotbg, g.points path")) {
      if (part.closest(".modebar") || !part.getBoundingClientRect().width) continue;
      if (meets(part.getBoundingClientRect(), bar.getBoundingClientRect())) found.push([name, "toolbar", part.textContent]);
    }
  }
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify({ texts, bars, found });
  document.body.append(result);
});
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("run", "width"), [("numbers", 1300), ("numbers", 640), ("long names", 640), ("one trial", 1300)]
)
def test_in_a_browser_no_tick_lies_on_another_and_the_toolbar_lies_on_nothing(
    run: str, width: int, tmp_path: Path
) -> None:
    data = RUNS[run]()
    text = render_html(with_trajectory(data) if run == "one trial" else data)
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    path = tmp_path / "report.html"
    path.write_text(text.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},900"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    result = json.loads(done.stdout.split('<pre id="result">')[1].split("</pre>")[0])
    assert result["texts"] > 5
    assert result["bars"] >= 2
    assert result["found"] == []
