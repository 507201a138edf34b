"""The HTML page: complete, offline, accessible, and safe to open whatever a run's names and errors hold."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from naxcli.cli import report as report_command
from naxcli.errors import NaxcliError
from naxcli.report.html import render_html, write_html
from tests.report.examples import CONFIRMATION, all_failed, empty_run, example_data, one_trial

RUNS = {"full": lambda: example_data(150), "empty": empty_run, "one trial": one_trial, "all failed": all_failed}
HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror='document.title=1'><a href=\"javascript:1\">`%{x}$&lt;"
Tag = tuple[str, dict[str, str | None]]


class Page(HTMLParser):
    """Tags, and the text of each script, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self.scripts: list[str] = []
        self.is_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.is_script = tag == "script"
        if self.is_script:
            self.scripts.append("")

    def handle_data(self, text: str) -> None:
        if self.is_script:
            self.scripts[-1] += text

    def handle_endtag(self, tag: str) -> None:
        self.is_script = False

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.tags if name == tag)

    @property
    def figures(self) -> dict[str, dict]:
        """Identifier -> Plotly figure."""
        kinds = list(self.all("script"))
        pairs = zip(kinds, self.scripts, strict=True)
        return {str(kind["id"]): json.loads(text) for kind, text in pairs if kind.get("type") == "application/json"}


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_html(dataclasses.replace(example_data(150), confirmation=CONFIRMATION)))


@pytest.fixture(scope="module")
def hostile() -> Page:
    return Page(render_html(example_data(150, hostile=HOSTILE)))


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@pytest.mark.parametrize("run", RUNS)
def test_every_run_gives_a_page_with_unique_identifiers_and_live_links(run: str) -> None:
    found = Page(render_html(RUNS[run]()))
    identifiers = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    targets = {str(link["href"]).removeprefix("#") for link in found.all("a")}
    labels = {attributes[key] for _, attributes in found.tags for key in ("aria-labelledby",) if key in attributes}
    assert targets | labels <= set(identifiers)


def test_the_page_shows_every_figure_and_table_of_a_full_run(page: Page) -> None:
    expected = {
        "cost-over-elapsed",
        "cost-over-spent",
        "lpi-groups",
        "fanova-groups",
        "lpi-hyperparameters",
        "fanova-hyperparameters",
        "importance-27-pairs",
        "importance-27-ablation",
        "importance-27-shapley",
        "importance-27-dependence-0",
        "importance-3-pairs",
        "parallel-coordinates",
        "pareto-front",
        "learning-curves",
        "fidelity-correlation",
    }
    assert {f"{name}-data" for name in expected} <= set(page.figures)
    tables = {attributes.get("id") for _, attributes in page.tags}
    assert {
        "references",
        "settings",
        "importance-27-hyperparameters",
        "proxy-audit",
        "best-trials",
        "failures",
    } <= tables
    assert {"environment-table", "experiment", "nas-checklist"} <= tables


def test_the_page_needs_nothing_from_outside(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "base", "object"}
        assert "src" not in attributes
        assert str(attributes.get("href", "#")).startswith("#")


def test_the_policy_forbids_loading_and_allows_exactly_the_page_s_own_scripts(page: Page) -> None:
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    run = [
        text
        for kind, text in zip(page.all("script"), page.scripts, strict=True)
        if kind.get("type") != "application/json"
    ]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run}
    assert set(re.findall(r"sha256-([^']+)", policy)) == hashes


def test_hostile_text_changes_no_element_of_the_page(page: Page, hostile: Page) -> None:
    def skeleton(found: Page) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(set(attributes) - {"class"})) for tag, attributes in found.tags if tag != "code"]

    assert len(skeleton(page)) > 500
    assert skeleton(hostile) == skeleton(page)


def test_no_text_of_a_run_is_a_tag_to_plotly(hostile: Page) -> None:
    labels = [text for figure in hostile.figures.values() for text in strings(figure) if "script" in text]
    assert labels
    assert not [text for text in labels if re.search(r"<[a-z/]", text)]


def test_names_that_are_shortened_alike_keep_their_own_rows() -> None:
    found = Page(render_html(example_data(150, hostile="_" * 60)))
    for trace in found.figures["lpi-hyperparameters-data"]["data"]:
        assert len(set(trace["y"])) == len(trace["y"]) == 14


def test_every_table_has_a_caption_scopes_and_buttons_that_sort(page: Page) -> None:
    count = len(list(page.all("table")))
    assert count > 10
    assert len(list(page.all("caption"))) == count
    assert all(heading.get("scope") in {"col", "row"} for heading in page.all("th"))
    columns = [heading for heading in page.all("th") if heading["scope"] == "col"]
    assert len(list(page.all("button"))) == len(columns) + 1
    for _, attributes in page.tags:
        if attributes.get("class") == "scroll":
            assert attributes.get("tabindex") == "0"
            assert attributes.get("aria-labelledby") or attributes.get("aria-label")


def test_every_figure_is_described_and_its_data_is_on_the_page(page: Page) -> None:
    plots = [attributes for attributes in page.all("div") if attributes.get("class") == "plot"]
    assert len(plots) == len(page.figures)
    for plot in plots:
        assert plot["role"] == "img"
        assert plot["aria-label"]
        assert plot["data-figure"] in page.figures


def test_colours_of_figures_are_variables_that_both_themes_define() -> None:
    text = render_html(example_data(150))
    style = text.split("<style>")[1].split("</style>")[0]
    figures = [value for figure in Page(text).figures.values() for value in strings(figure)]
    used = {name for value in figures for name in re.findall(r"^var\((--[\w-]+)\)$", value)}
    assert len(used) >= 8
    for name in used:
        assert len(re.findall(rf"{name}:", style)) == 3  # light, dark by preference, dark by choice
    assert not [value for value in figures if re.fullmatch(r"#[0-9a-fA-F]{3,8}", value)]


def test_missing_plotly_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(NaxcliError, match="needs Plotly") as caught:
        render_html(empty_run())
    assert "pip install" in caught.value.hint


def test_a_page_that_cannot_be_written_is_a_clear_error_and_leaves_no_file(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NaxcliError):
        write_html(tmp_path / "file" / "report.html", empty_run())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_page_replaces_an_older_one_and_leaves_nothing_else(tmp_path) -> None:
    (tmp_path / "report.html").write_text("old")
    write_html(tmp_path / "report.html", empty_run())
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_html(empty_run())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_without_plotly_the_other_files_of_a_report_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    files = report_command._files(html=str(tmp_path / "report.html"), md=str(tmp_path / "report.md"))
    written, errors = report_command._write(files, empty_run())
    assert written == [tmp_path / "report.md"]
    with pytest.raises(NaxcliError, match="needs Plotly"):
        report_command._tell(written, errors, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_a_run_of_one_fidelity_without_curves_or_times_still_gives_a_page() -> None:
    data = example_data(150)
    trials = data.trials[data.trials["fidelity"] == 27].drop(
        columns=["trial_id", "config_id", "started_at", "ended_at", "seconds"]
    )
    summary = {**data.summary, "trajectory": [], "proxy_audit": [], "importance": data.summary["importance"][-1:]}
    found = Page(render_html(dataclasses.replace(data, summary=summary, trials=trials, curves=None)))
    assert "parallel-coordinates-data" in found.figures
    assert not [name for name in found.figures if name.startswith(("cost-over", "learning", "fidelity"))]


def test_conditional_hyperparameters_are_shown_as_inactive() -> None:
    data = example_data(150)
    column = data.trials["config.se"].where(data.trials["config.block"] == "bottleneck")
    for inactive in (column, column.astype(object).where(column.notna(), None)):
        text = render_html(dataclasses.replace(data, trials=data.trials.assign(**{"config.se": inactive})))
        found = Page(text)
        assert "fidelity-correlation-data" in found.figures
        ticks = found.figures["parallel-coordinates-data"]["layout"]["annotations"]
        assert "inactive" in [tick["text"] for tick in ticks]
        assert "<td>—</td>" in text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_browser_draws_the_figures_of_a_hostile_run_and_runs_none_of_its_text(tmp_path) -> None:
    write_html(tmp_path / "report.html", example_data(150, hostile=HOSTILE))
    # The first figure, and without any scrolling one at the end of the page.
    expected = {"cost-over-elapsed-data", "fidelity-correlation-data"}
    drawn: set[object] = set()
    for milliseconds in (10_000, 60_000, 300_000):  # of the page's clock, which waits for no figure on a busy machine
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-dev-shm-usage"]
        command += [f"--virtual-time-budget={milliseconds}", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        command += [(tmp_path / "report.html").as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        plots = [attributes for attributes in Page(done.stdout).all("div") if "data-figure" in attributes]
        drawn = {plot["data-figure"] for plot in plots if "js-plotly-plot" in str(plot["class"])}
        if expected <= drawn:
            break
    assert expected <= drawn, sorted(map(str, drawn))
    assert "<title>hacked" not in done.stdout
    assert "<title>nexception" in done.stdout
