"""Tables and figures as HTML elements. All text is escaped here, and nowhere else turned into HTML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from naxcli.report.figures.figure import Figure
from naxcli.report.figures.importance_numbers import Panels
from naxcli.report.section import Column, Row, Table

if TYPE_CHECKING:
    from naxcli.report.figures.plotly_style import Drawing

# Characters from which a cell is a sentence, which a narrow page must not squeeze to a word per line.
LONG_TEXT = 30


def element(tag: str, *content: str, **attributes: Any) -> str:
    """Return an element around content that is HTML already.

    Attributes are escaped; `_` in their names stands for `-`, `class_` for `class`; None leaves one out, True gives it no value.
    """
    given = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    written = "".join(
        f" {name}" if value is True else f' {name}="{escape(str(value))}"' for name, value in given.items()
    )
    return f"<{tag}{written}>{''.join(content)}</{tag}>"


def paragraph(text: str, *, style: str | None = None) -> str:
    """Return a paragraph; text between backticks is code."""
    if not text:
        return ""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        parts = [text]
    return element(
        "p",
        *(element("code", escape(part)) if index % 2 else escape(part) for index, part in enumerate(parts)),
        class_=style,
    )


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """Return labels and values as a definition list."""
    items = (element("div", element("dt", escape(term)), element("dd", escape(value))) for term, value in pairs)
    return element("dl", *items, class_="facts")


def table(content: Table, *, prefix: str = "") -> str:
    """Return a table with a caption, scopes, and a button in each heading that sorts by its column."""
    name = f"{prefix}-{content.name}" if prefix else content.name
    caption = f"{name}-caption"
    if not content.rows:
        title = element("p", escape(content.caption), class_="caption")
        return element("div", title, paragraph(content.empty, style="empty"), id=name, class_="table")
    head = element("thead", element("tr", *map(_heading, content.columns)))
    body = element("tbody", *(_row(content.columns, row) for row in content.rows))
    grid = element("table", element("caption", escape(content.caption), id=caption), head, body)
    region = element("div", grid, class_="scroll", role="region", aria_labelledby=caption, tabindex=0)
    return element("div", region, paragraph(content.note, style="note"), id=name, class_="table")


def _heading(column: Column) -> str:
    arrow = element("span", class_="arrow", aria_hidden="true")
    button = element("button", escape(column.title), arrow, type="button")
    return element("th", button, scope="col", class_="number" if column.is_numeric else None)


def _row(columns: Sequence[Column], row: Row) -> str:
    return element("tr", *(_cell(column, row, is_first=column is columns[0]) for column in columns))


def _cell(column: Column, row: Row, *, is_first: bool) -> str:
    text = column.text(row)
    conditions = {"number": column.is_numeric, "marked": column.is_marked(row), "long": len(text) > LONG_TEXT}
    styles = [name for name, holds in conditions.items() if holds]
    order = None
    if column.sort is not None:
        number = column.sort(row)
        order = "" if number is None else repr(float(number))
    return element(
        "th" if is_first else "td",
        escape(text),
        scope="row" if is_first else None,
        class_=" ".join(styles) or None,
        data_sort=order,
    )


def figure(content: Figure) -> str:
    """Return a figure that the page's script draws when it comes into view; panels stand side by side under its title."""
    from naxcli.report.figures.page import DRAWERS

    if not isinstance(content.content, Panels):
        return _drawn(content.name, content.title, content.caption, DRAWERS[type(content.content)](content.content))
    panels = (
        _drawn(f"{content.name}-{number}", curve.name, "", DRAWERS[type(curve)](curve))
        for number, curve in enumerate(content.content.curves)
    )
    heading = element("h4", escape(content.title)) + paragraph(content.caption)
    return heading + element("div", *panels, class_="multiples")


def _drawn(name: str, title: str, words: str, drawing: Drawing) -> str:
    """Return a drawing with its words, and its data beside it as inert JSON."""
    source = f"{name}-data"
    size = f"height:{drawing.height}px" + (f";min-width:{drawing.min_width}px" if drawing.min_width else "")
    # The words come first: whoever cannot see the drawing gets the title and how to read it.
    spoken = f"{title}. {words}".strip()
    plot = element("div", class_="plot", role="img", aria_label=spoken, data_figure=source, style=size)
    if drawing.min_width:
        plot = element("div", plot, class_="scroll", role="region", tabindex=0, aria_label=f"{title}, scrolls sideways")
    caption = element("figcaption", element("strong", escape(title)), paragraph(words))
    return element("figure", caption, plot, inert_json(source, drawing.plot.to_plotly_json()), id=f"figure-{name}")


def inert_json(name: str, content: Any) -> str:
    """Return a script element of JSON that the browser never runs and whose text cannot end it."""
    from plotly.utils import PlotlyJSONEncoder

    text = json.dumps(content, cls=PlotlyJSONEncoder, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return element("script", text, type="application/json", id=name)
