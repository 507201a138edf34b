"""Observational studies of trained networks: a section each, of the numbers that `naxcli study` found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from naxcli.records.studies import Row, Study
from naxcli.report.figures import studies as charts
from naxcli.report.section import MARKDOWN, PAGE, TERMINAL, Column, Element, Figures, Section, Sheet, Table, Text
from naxcli.report.text import counted, decimal, is_missing, percent, plain, signed, whole
from naxcli.settings.units import format_count, format_duration

QUALITIES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
# Rows of the table of a slice or a path, evenly spread over what the sheet has all of.
MAX_ROWS, MAX_COLUMNS = 11, 7

SHEETS = {
    "landscape": ("study", "x", "y", *QUALITIES),
    "lesion": ("study", "name", "kind", "num_params", *QUALITIES),
    "path": ("study", "on", "t", *QUALITIES),
}


def section(studies: Sequence[Study]) -> Section:
    """Return the section of all studies of a run, an inner section each."""
    known = [study for study in studies if study.kind in SHEETS]
    return Section(
        name="studies",
        title="Trained networks, looked at",
        elements=[*(section_of(study) for study in known), *sheets(known)],
        title_on=TERMINAL | MARKDOWN | PAGE,
    )


def sheets(studies: Sequence[Study]) -> list[Sheet]:
    """Return the exact numbers of studies, a sheet for each kind among them."""
    return [
        Sheet(
            name=f"study_{kind}",
            columns=columns,
            rows=[{"study": study.name, **row} for study in studies if study.kind == kind for row in study.rows],
        )
        for kind, columns in SHEETS.items()
        if any(study.kind == kind for study in studies)
    ]


def section_of(study: Study) -> Section:
    """Return the section of one study of `SHEETS`."""
    title, elements = {"landscape": _landscape, "lesion": _lesion, "path": _path}[study.kind](study)
    return Section(
        name=study.name,
        title=title,
        elements=[*elements, Text(text=_measured_on(study))],
        title_on=TERMINAL | MARKDOWN | PAGE,
    )


def _measured_on(study: Study) -> str:
    facts = study.facts
    images = f"{whole(facts.get('num_train_images'))} training and {whole(facts.get('num_val_images'))}"
    held_out = "test" if _is_on_test(study) else "validation"
    return (
        f"Measured on {images} {held_out} images of {facts.get('data')}, as they are, in float32; "
        f"{format_duration(float(facts.get('seconds') or 0.0))} on {facts.get('device')}, torch {facts.get('torch')}."
    )


def _is_on_test(study: Study) -> bool:
    ends = study.settings.get("ends")
    return isinstance(ends, list) and bool(ends) and isinstance(ends[0], Mapping) and bool(ends[0].get("confirmed"))


def _landscape(study: Study) -> tuple[str, list[Element]]:
    summary = study.summary or {}
    is_plane = any("y" in row for row in study.rows)
    keeps = "computed anew at each point" if study.settings.get("recomputes_batch_norm") else "those of the network"
    lowest, here = summary.get("lowest_train_loss"), summary.get("train_loss")
    text = (
        f"Training loss {decimal(here, 4)} at the network, {decimal(lowest, 4)} at the lowest point of the slice; "
        f"{decimal(summary.get('edge_train_loss'), 4)} at its {'corners' if is_plane else 'ends'} on average. "
        f"Filter-normalised random directions, radius {plain(study.settings.get('radius'))}; batch statistics are {keeps}."
    )
    what = "plane" if is_plane else "line"
    title = f"Loss around {', '.join(study.networks)}: a {what}"
    figures = (
        [partial(charts.surface, study)]
        if is_plane
        else [partial(charts.slice_of, study, "loss"), partial(charts.slice_of, study, "accuracy")]
    )
    table = _plane_table(study) if is_plane else _line_table(study, "x", "Step")
    return title, [Text(text=text), table, Figures(makers=figures, are_beside=True)]


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many items, the first, the middle and the last among them, evenly spread."""
    if len(items) <= most:
        return list(items)
    places = [round(number * (len(items) - 1) / (most - 1)) for number in range(most)]
    return [items[place] for place in places]


def _line_table(study: Study, key: str, title: str, rows: Sequence[Row] | None = None, caption: str = "") -> Table:
    return Table(
        name=f"{study.name}-{caption.lower().replace(' ', '-') or 'points'}",
        caption=caption or "Points of the slice",
        columns=[_number(title, key, 2), *_quality_columns()],
        rows=_spread(study.rows if rows is None else rows, MAX_ROWS),
    )


def _plane_table(study: Study) -> Table:
    xs = _spread(sorted({row.get("x", 0.0) for row in study.rows}), MAX_COLUMNS)
    ys = _spread(sorted({row.get("y", 0.0) for row in study.rows}), MAX_COLUMNS)
    losses = {(row.get("x"), row.get("y")): row.get("train_loss") for row in study.rows}
    return Table(
        name=f"{study.name}-points",
        caption="Training loss: across, the first direction; down, the second",
        columns=[
            _number("Step", "y", 2),
            *(Column(title=decimal(x, 2), text=partial(_loss_at, losses, x), is_numeric=True) for x in xs),
        ],
        rows=[{"y": y} for y in ys],
    )


def _loss_at(losses: Mapping[tuple[Any, Any], float | None], x: float, row: Row) -> str:
    return decimal(losses.get((x, row["y"])), 3)


def _number(title: str, key: str, digits: int) -> Column:
    return Column(
        title=title,
        text=lambda row: decimal(row.get(key), digits),
        sort=lambda row: None if is_missing(row.get(key)) else float(row[key]),
        is_numeric=True,
    )


def _share(title: str, key: str) -> Column:
    return Column(
        title=title,
        text=lambda row: percent(row.get(key)),
        sort=lambda row: None if is_missing(row.get(key)) else float(row[key]),
        is_numeric=True,
    )


def _quality_columns(held_out: str = "Val.") -> list[Column]:
    return [
        _number("Train loss", "train_loss", 4),
        _share("Train acc.", "train_accuracy"),
        _number(f"{held_out} loss", "val_loss", 4),
        _share(f"{held_out} acc.", "val_accuracy"),
    ]


def _lesion(study: Study) -> tuple[str, list[Element]]:
    summary = study.summary or {}
    whole_accuracy = summary.get("val_accuracy")
    rows = [{**row, "change": _difference(row.get("val_accuracy"), whole_accuracy)} for row in study.rows]
    text = (
        f"Validation accuracy {percent(whole_accuracy)}; without one of {counted(summary.get('num_blocks'), 'block')} between "
        f"{percent(summary.get('lowest_val_accuracy'))} (without {summary.get('most_needed')}) and "
        f"{percent(summary.get('highest_val_accuracy'))} (without {summary.get('least_needed')})."
    )
    table = Table(
        name=f"{study.name}-blocks",
        caption="The network without one block",
        columns=[
            Column(title="Without", text=lambda row: "nothing" if row.get("kind") == "whole" else str(row.get("name"))),
            Column(
                title="Stays", text=lambda row: _KINDS.get(str(row.get("kind")), str(row.get("kind"))), is_minor=True
            ),
            Column(
                title="Parameters",
                text=lambda row: "" if is_missing(row.get("num_params")) else format_count(row["num_params"]),
                sort=lambda row: row.get("num_params"),
                is_numeric=True,
                is_minor=True,
            ),
            _number("Val. loss", "val_loss", 4),
            _share("Val. acc.", "val_accuracy"),
            Column(
                title="Change",
                text=lambda row: "" if is_missing(row["change"]) else signed(100 * row["change"], 2),
                sort=lambda row: row["change"],
                is_numeric=True,
            ),
        ],
        rows=rows,
        note="Change is in points of validation accuracy. Nothing is trained again, and batch statistics stay.",
    )
    title = f"{', '.join(study.networks).capitalize()} without each of its blocks"
    return title, [Text(text=text), table, Figures(makers=[partial(charts.lesions, study)])]


_KINDS = {"whole": "everything", "identity": "its input", "projection": "its projection", "module": "its input"}


def _difference(value: Any, other: Any) -> float | None:
    return None if is_missing(value) or is_missing(other) else float(value) - float(other)


def _path(study: Study) -> tuple[str, list[Element]]:
    summary = study.summary or {}
    on_test = _is_on_test(study)
    held_out = "test" if on_test else "validation"

    def rises(on: str) -> str:
        return (
            f"the training loss rises by {decimal(summary.get(f'{on}_barrier'), 4)} above that of the worse end, "
            f"the {held_out} error by {percent(summary.get(f'{on}_error_rise'))}"
        )

    text = (
        f"On the straight line {rises('line')}; on the path of cycle {plain(summary.get('best_cycle'))}, with "
        f"{counted(summary.get('num_pivots'), 'pivot')}, {rises('path')}. Batch statistics are computed anew at each point."
    )
    cycles = summary.get("cycles")
    table = Table(
        name=f"{study.name}-cycles",
        caption="Cycles of the search for a path",
        columns=[
            Column(title="Cycle", text=lambda row: plain(row.get("cycle")), is_numeric=True),
            Column(title="Pivots", text=lambda row: whole(row.get("num_pivots")), is_numeric=True),
            Column(title="Learning rate", text=lambda row: plain(row.get("learning_rate")), is_numeric=True),
            _number("Highest train loss", "highest_train_loss", 4),
            _share(f"Lowest {'test' if on_test else 'val.'} acc.", "lowest_val_accuracy"),
        ],
        rows=[row for row in cycles if isinstance(row, Mapping)] if isinstance(cycles, list) else [],
    )
    name = "Test" if on_test else "Val."
    points = [
        Table(
            name=f"{study.name}-{on}",
            caption=caption,
            columns=[_number("Place", "t", 2), *_quality_columns(name)],
            rows=_spread([row for row in study.rows if row.get("on") == on], MAX_ROWS),
        )
        for on, caption in (("line", "The straight line"), ("path", "The path"))
    ]
    figures = [partial(charts.path, study, quantity, on_test=on_test) for quantity in ("loss", "accuracy")]
    title = f"A path between {' and '.join(study.networks)}"
    return title, [Text(text=text), table, *points, Figures(makers=figures, are_beside=True)]
