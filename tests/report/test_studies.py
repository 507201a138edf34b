"""Studies in the report: the same on every medium, whatever their numbers are."""

from __future__ import annotations

import dataclasses
import io
import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from naxcli.records.studies import Study
from naxcli.report import ReportData
from naxcli.report.figures.files import painted_sections
from naxcli.report.html import render_html
from naxcli.report.markdown import render_markdown
from naxcli.report.section import Sheet, figures_of, walk
from naxcli.report.sections import sections
from naxcli.report.studies import section, section_of
from naxcli.report.terminal import print_report, print_sections
from tests.report.examples import example_data
from tests.report.test_figures import on_page

FACTS = {
    "data": "digits",
    "num_train_images": 1151,
    "num_val_images": 287,
    "device": "cpu",
    "torch": "2",
    "seconds": 61.0,
}


def quality(loss: float) -> dict[str, Any]:
    return {"train_loss": loss, "train_accuracy": 1 - loss / 9, "val_loss": loss + 0.1, "val_accuracy": 0.98 - loss / 9}


def line() -> Study:
    rows = [{"x": float(x), **quality(float(x) ** 2)} for x in np.linspace(-1, 1, 21)]
    summary = {**quality(0.0), "lowest_train_loss": 0.0, "edge_train_loss": 1.0}
    return study("landscape", "0" * 12, rows, summary)


def plane() -> Study:
    rows = [
        {"x": float(x), "y": float(y), **quality(float(0.01 + x**2 + y**2))}
        for y in np.linspace(-1, 1, 5)
        for x in np.linspace(-1, 1, 5)
    ]
    rows[0]["train_loss"] = None  # not finite
    return study("landscape", "1" * 12, rows, {**quality(0.01), "edge_train_loss": None})


def lesion(**changes: Any) -> Study:
    names = [("whole", "whole"), *((f"stages.{place}.0", "identity") for place in range(30)), ("down", "projection")]
    rows = [
        {"name": name, "kind": kind, "num_params": 100, **quality(0.1 * place)}
        for place, (name, kind) in enumerate(names)
    ]
    summary = {"val_accuracy": 0.98, "num_blocks": 31, "most_needed": "down", "lowest_val_accuracy": 0.6}
    return study("lesion", "2" * 12, rows, summary, **changes)


def path() -> Study:
    rows = [
        {"on": on, "t": float(t), **quality(height * float(t * (1 - t)))}
        for on, height in (("line", 4.0), ("path", 0.4))
        for t in np.linspace(0, 1, 41)
    ]
    cycles = [{"cycle": 1, "num_pivots": 3, "learning_rate": 0.1, "highest_train_loss": None}]
    return study("path", "3" * 12, rows, {"line_barrier": 1.0, "path_barrier": 0.1, "cycles": cycles})


def study(kind: str, digest: str, rows: list[dict[str, Any]], summary: dict[str, Any], **changes: Any) -> Study:
    found = Study(
        name=f"{kind}-{digest}", kind=kind, networks=("trial 3",), settings={}, facts=FACTS, rows=rows, summary=summary
    )
    return dataclasses.replace(found, **changes)


STUDIES = (line(), plane(), lesion(), path())


@pytest.fixture(scope="module")
def data() -> ReportData:
    return dataclasses.replace(example_data(40), studies=STUDIES)


def printed(*studies: Study, width: int = 80) -> str:
    stream = io.StringIO()
    print_sections(Console(file=stream, width=width, no_color=True), [section_of(one) for one in studies])
    return stream.getvalue()


def test_studies_are_on_the_page_in_markdown_on_the_terminal_and_in_csv(data: ReportData) -> None:
    stream = io.StringIO()
    print_report(Console(file=stream, width=80), data)
    for text in (stream.getvalue(), render_markdown(data).replace("\\", ""), render_html(data)):
        for title in ("Points of the slice", "across, the first direction", "without one block", "The straight line"):
            assert title in text
    listed = [element for element in walk(sections(data)) if isinstance(element, Sheet)]
    rows = {sheet.name: len(sheet.rows) for sheet in listed if sheet.name.startswith("study_")}
    assert rows == {"study_landscape": 46, "study_lesion": 32, "study_path": 82}
    names = [name for name, _ in painted_sections([section(STUDIES)])]
    assert len(set(names)) == len(names) == 6


def test_a_study_has_the_same_axes_on_the_page_and_in_its_file(data: ReportData) -> None:
    page = {name: figure for name, figure in on_page(data).items() if re.search(r"-\d{12}-", name)}
    files = {figure.name: figure.file for figure in figures_of([section(STUDIES)])}
    assert set(page) == set(files)
    drawn = dict(painted_sections([section(STUDIES)]))
    for name, figure in page.items():
        axes = drawn[files[name]].axes[0]
        for axis in "xy":
            given = figure["layout"][f"{axis}axis"]
            ends = [10**end for end in given["range"]] if given["type"] == "log" else given["range"]
            assert getattr(axes, f"get_{axis}lim")() == pytest.approx(ends), name
            assert getattr(axes, f"get_{axis}label")() == given["title"]["text"]


def test_a_run_without_studies_has_no_section_of_them() -> None:
    data = example_data(40)
    assert "id='studies'" not in render_html(data) and "looked at" not in render_markdown(data)


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_of_a_study_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, printed(*STUDIES, width=width).splitlines())) <= width


def test_a_stranger_s_study_shows_what_it_lacks_as_such_and_none_of_its_text_is_obeyed() -> None:
    bare = [study(kind, "4" * 12, [], {}, facts={}, settings={"ends": 3}) for kind in ("landscape", "lesion", "path")]
    assert "n/a" in printed(*bare)
    hostile = "\x1b[2J<script>x</script>"
    poisoned = lesion(networks=(hostile,), facts={**FACTS, "device": hostile, "data": hostile})
    poisoned.rows[1]["name"] = hostile
    assert "\x1b" not in printed(poisoned)
    page = render_html(dataclasses.replace(example_data(40), studies=[poisoned, *bare[1:]]))
    assert "<script>x" not in page


def test_a_loss_over_a_plane_is_shown_by_its_logarithm_where_it_rises_manyfold() -> None:
    (figure,) = figures_of([section_of(plane())])
    assert figure.content.title == "log10 of the training loss"
    assert np.isnan(figure.content.z[0, 0]) and figure.content.z[2, 2] == pytest.approx(-2)
    flat = dataclasses.replace(plane(), rows=[{**row, "train_loss": 1.0} for row in plane().rows])
    (figure,) = figures_of([section_of(flat)])
    assert figure.content.title == "training loss" and np.all(np.diff(figure.content.levels) > 0)
