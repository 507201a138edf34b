"""The numbers and axes behind the figures of observational studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from naxcli.records.studies import Row, Study
from naxcli.report.figures.diagram import ACCENT, Diagram, Dots, Line, Mark
from naxcli.report.figures.figure import Figure
from naxcli.report.figures.numbers import needs_log
from naxcli.report.figures.scales import Scale, scale_of
from naxcli.report.text import abridge

TITLES = {"loss": "Loss", "accuracy": "Accuracy"}
MAX_BLOCK_NAMES, BLOCK_NAME_LENGTH = 24, 18
NUM_LEVELS = 14
# Of the highest loss on a plane by the lowest: above it, levels of equal distance would all be at the rim.
LOG_FROM = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """A loss over a plane, as contours. `z` has a row per `y` and a column per `x`; NaN where it is not finite."""

    x: Scale
    y: Scale
    xs: np.ndarray
    ys: np.ndarray
    z: np.ndarray
    title: str
    levels: np.ndarray


def _values(rows: Sequence[Row], key: str) -> np.ndarray:
    """Return a column as floats, NaN where it is missing."""
    return np.array([np.nan if row.get(key) is None else float(row[key]) for row in rows])


def _loss_scale(title: str, values: np.ndarray) -> Scale:
    return scale_of(title, values, is_log=needs_log(values), from_zero=not needs_log(values))


def slice_of(study: Study, quantity: str) -> Figure | None:
    """Return `loss` or `accuracy` along a slice in one direction."""
    if not study.rows:
        return None
    x = _values(study.rows, "x")
    marks, values = _two_lines(study.rows, x, quantity, on_test=False)
    return Figure(
        name=f"{study.name}-{quantity}",
        file=f"{study.name.replace('-', '_')}_{quantity}",
        title=f"{TITLES[quantity]} around {', '.join(study.networks)}",
        caption="Along a random direction, each filter of which is as long as that of the network; at 1 it is as long itself.",
        content=Diagram(x=scale_of("Step", x), y=_scale(quantity, values), marks=marks),
    )


def _scale(quantity: str, values: np.ndarray) -> Scale:
    title = TITLES[quantity]
    return _loss_scale(title, values) if quantity == "loss" else scale_of(title, values)


def _two_lines(rows: Sequence[Row], x: np.ndarray, quantity: str, *, on_test: bool) -> tuple[list[Mark], np.ndarray]:
    held_out = "test" if on_test else "validation"
    train, other = _values(rows, f"train_{quantity}"), _values(rows, f"val_{quantity}")
    marks: list[Mark] = [
        Line(name="training images", x=x, y=train, colour="level-5"),
        Line(name=f"{held_out} images", x=x, y=other),
    ]
    return marks, np.concatenate([train, other])


def surface(study: Study) -> Figure | None:
    """Return the training loss over a slice in two directions."""
    xs, ys = (np.unique(_values(study.rows, key)) for key in ("x", "y"))
    z = np.full((len(ys), len(xs)), np.nan)
    z[np.searchsorted(ys, _values(study.rows, "y")), np.searchsorted(xs, _values(study.rows, "x"))] = _values(
        study.rows, "train_loss"
    )
    finite = z[np.isfinite(z)]
    if len(xs) < 2 or len(ys) < 2 or not len(finite):
        return None
    is_log = bool(finite.min() > 0 and finite.max() > LOG_FROM * finite.min())
    shown = np.log10(np.where(z > 0, z, np.nan)) if is_log else z
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    return Figure(
        name=f"{study.name}-surface",
        file=f"{study.name.replace('-', '_')}_surface",
        title=f"Training loss around {', '.join(study.networks)}",
        caption="Over two random directions, each filter of which is as long as that of the network, which is in the middle.",
        content=Surface(
            x=scale_of("Step in the first direction", xs),
            y=scale_of("Step in the second direction", ys),
            xs=xs,
            ys=ys,
            z=shown,
            title="log10 of the training loss" if is_log else "training loss",
            levels=np.linspace(low, high if high > low else low + 1, NUM_LEVELS),
        ),
    )


def lesions(study: Study) -> Figure | None:
    """Return the accuracy without each block, in the order of the network."""
    blocks = [row for row in study.rows if row.get("kind") != "whole"]
    if not blocks:
        return None
    places = np.arange(len(blocks), dtype=float)
    accuracy = _values(blocks, "val_accuracy")
    complete = _values([row for row in study.rows if row.get("kind") == "whole"], "val_accuracy")[:1]
    marks: list[Mark] = []
    for symbol, (name, kinds) in enumerate(
        (("without a block", ("identity", "module")), ("without one that changes the shape", ("projection",)))
    ):
        chosen = np.array([row.get("kind") in kinds for row in blocks])
        if chosen.any():
            marks.append(
                Dots(
                    name=name,
                    x=places[chosen],
                    y=accuracy[chosen],
                    colour=("level-5", "level-3")[symbol],
                    symbol=symbol,
                )
            )
    if len(complete):
        ends = np.array([-0.5, len(blocks) - 0.5])
        marks.append(Line(name="whole network", x=ends, y=np.repeat(complete, 2), colour=ACCENT))
    step = -(-len(blocks) // MAX_BLOCK_NAMES)
    ticks = [(float(place), abridge(str(row.get("name")), BLOCK_NAME_LENGTH)) for place, row in enumerate(blocks)][
        ::step
    ]
    return Figure(
        name=f"{study.name}-blocks",
        file=f"{study.name.replace('-', '_')}_blocks",
        title=f"{', '.join(study.networks).capitalize()} without one block",
        caption="Validation accuracy after one block is deleted from the trained network; the line is that of the whole one.",
        content=Diagram(
            x=Scale(title="", low=-0.5, high=len(blocks) - 0.5, ticks=ticks, slant=-45),
            y=scale_of("Validation accuracy", [*accuracy, *complete]),
            marks=marks,
        ),
    )


def path(study: Study, quantity: str, *, on_test: bool) -> Figure | None:
    """Return `loss` or `accuracy` along the straight line and along the path between two networks."""
    held_out = "test" if on_test else "validation"
    marks: list[Mark] = []
    values = []
    styles = (
        ("line", "train", "straight, training images", "level-2"),
        ("line", "val", f"straight, {held_out} images", "level-3"),
        ("path", "train", "path, training images", "level-5"),
        ("path", "val", f"path, {held_out} images", ACCENT),
    )
    for on, images, name, colour in styles:
        rows = [row for row in study.rows if row.get("on") == on]
        if rows:
            values.append(_values(rows, f"{images}_{quantity}"))
            marks.append(Line(name=name, x=_values(rows, "t"), y=values[-1], colour=colour))
    if not marks:
        return None
    return Figure(
        name=f"{study.name}-{quantity}",
        file=f"{study.name.replace('-', '_')}_{quantity}",
        title=f"{TITLES[quantity]} between {' and '.join(study.networks)}",
        caption="Along the straight line between the two, and along the path of lowest highest training loss that was found.",
        content=Diagram(
            x=scale_of("Place along the way", [0.0, 1.0]), y=_scale(quantity, np.concatenate(values)), marks=marks
        ),
    )
