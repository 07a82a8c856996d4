"""A pipeline as a picture: a box for each step, an arrow from each step to those that use what it finds.

Steps stand in columns, each to the right of all that it needs. An arrow that passes a column has a place of
its own there, so that it crosses no box (Sugiyama's layered drawing).
"""

from __future__ import annotations

import io
import itertools
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.formats.atomic import write_bytes
from composer.pipeline import Pipeline
from composer.steps import Step
from sam.errors import UsageError

SUFFIXES = (".png", ".svg", ".pdf")
MAX_LINES = 6
MAX_CHARACTERS = 38
SWEEPS = 4
TITLE, BODY = 11.0, 8.5
"""Sizes of text, points."""
PAD, LINE, GAP_X, GAP_Y = 0.12, 0.17, 1.15, 0.3
"""Inches: around a box's text, a line of text, between columns, between the boxes of a column."""
PLAIN, OUTPUT, BORDER, ARROW, INK = "#eef1f6", "#d8efdb", "#5b6b82", "#5b6b82", "#1c2430"


@dataclass(frozen=True)
class Box:
    """A step's place, in inches from the top left.

    Attributes:
        lines: its text below the name.
        x, y: of its left top corner.
    """

    name: str
    lines: tuple[str, ...]
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0


Place = tuple[str, int]
"""A step's name and its column; or a passing arrow's, ``source>target``, and a column between."""


def save_picture(pipeline: Pipeline, path: Path) -> Path:
    """Draw into a PNG, SVG or PDF file, by its suffix.

    Raises:
        UsageError: another suffix.
        EnvironmentProblem: the file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: expected a file name that ends in {', '.join(SUFFIXES)}", field="out")
    data = io.BytesIO()
    _figure(pipeline).savefig(data, format=path.suffix[1:].lower(), dpi=150)
    return write_bytes(path, data.getvalue())


def field_lines(step: Step) -> list[str]:
    """The fields that a step was given, as short lines of text; references are arrows."""
    record = step.record()
    return [
        f"{name}: {_short(record[name])}"
        for name in step.fields
        if name not in step.references and name in record
    ]


def columns_of(pipeline: Pipeline) -> dict[str, int]:
    """The column of each step: 0 where it needs none, else one after the last that it needs."""
    columns: dict[str, int] = {}
    for step in pipeline.steps:
        columns[step.name] = max((columns[name] + 1 for name in step.references.values()), default=0)
    return columns


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value, ensure_ascii=False)
    text = text.strip('"')
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"


def _figure(pipeline: Pipeline) -> Any:
    from matplotlib.figure import Figure  # no pyplot: it would look for a display

    boxes, passages, (width, height) = _layout(pipeline)
    title = 0.45 if pipeline.description else 0.0
    figure = Figure(figsize=(max(width, 4.0), height + title), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, max(width, 4.0))
    axes.set_ylim(height, -title)  # downwards, as in an image
    axes.set_axis_off()
    if pipeline.description:
        text = pipeline.description
        fits = int(max(width, 4.0) * 13)
        text = text if len(text) <= fits else text[: fits - 1] + "…"
        axes.text(GAP_Y, -title / 2, text, fontsize=BODY + 1, color=INK, va="center", parse_math=False)
    for step in pipeline.steps:
        fields: dict[str, list[str]] = defaultdict(list)
        for field, source in step.references.items():
            fields[source].append(field)
        for source, names in fields.items():
            between = passages.get((source, step.name), [])
            _draw_arrow(axes, boxes[source], boxes[step.name], between, ", ".join(names))
    for name, box in boxes.items():
        _draw_box(axes, box, OUTPUT if name in pipeline.outputs else PLAIN)
    return figure


def _layout(
    pipeline: Pipeline,
) -> tuple[dict[str, Box], dict[tuple[str, str], list[tuple[float, float]]], tuple[float, float]]:
    """Boxes by step, the points that long arrows pass through by their two ends, and (width, height)."""
    columns = columns_of(pipeline)
    sizes = {step.name: _measured(step, step.name in pipeline.outputs) for step in pipeline.steps}
    links, layers = _layers(pipeline, columns)
    _untangle(layers, links)
    x, boxes, points = GAP_Y, {}, {}
    heights = [sum(_height(place, sizes) + GAP_Y for place in layer) for layer in layers]
    tallest = max(heights)
    for layer, height in zip(layers, heights, strict=True):
        width = max(sizes[name].width for name, _ in layer if name in sizes)
        y = GAP_Y / 2 + (tallest - height) / 2
        for place in layer:
            name = place[0]
            if name in sizes:
                box = sizes[name]
                boxes[name] = Box(name, box.lines, width, box.height, x, y)
            else:
                points[place] = [(x, y + LINE / 2), (x + width, y + LINE / 2)]
            y += _height(place, sizes) + GAP_Y
        x += width + GAP_X
    passages: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for (name, _), passed in sorted(points.items(), key=lambda item: item[0][1]):
        source, _, target = name.partition(">")
        passages[source, target] += passed
    return boxes, passages, (x - GAP_X + GAP_Y, tallest + GAP_Y / 2)


def _layers(
    pipeline: Pipeline, columns: dict[str, int]
) -> tuple[list[tuple[Place, Place]], list[list[Place]]]:
    """Links between neighbouring columns, and each column's places: its steps, and arrows passing by."""
    layers: list[list[Place]] = [[] for _ in range(max(columns.values()) + 1)]
    for name, column in columns.items():
        layers[column].append((name, column))
    links = []
    for step in pipeline.steps:
        for source in dict.fromkeys(step.references.values()):
            before: Place = (source, columns[source])
            for column in range(columns[source] + 1, columns[step.name]):
                passing: Place = (f"{source}>{step.name}", column)
                layers[column].append(passing)
                links.append((before, passing))
                before = passing
            links.append((before, (step.name, columns[step.name])))
    return links, layers


def _untangle(layers: list[list[Place]], links: list[tuple[Place, Place]]) -> None:
    """Order each column by the mean position of its neighbours on the left, then of those on the right."""
    beside: dict[Place, list[Place]] = defaultdict(list)
    for one, other in links:
        beside[one].append(other)
        beside[other].append(one)
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        for layer in layers[::step]:
            position = {place: i / max(1, len(one) - 1) for one in layers for i, place in enumerate(one)}
            wanted = {}
            for place in layer:
                near = [position[other] for other in beside[place] if other[1] == place[1] - step]
                wanted[place] = sum(near) / len(near) if near else position[place]
            layer.sort(key=wanted.__getitem__)


def _height(place: Place, sizes: dict[str, Box]) -> float:
    return sizes[place[0]].height if place[0] in sizes else LINE


def _measured(step: Step, is_output: bool) -> Box:
    from matplotlib.textpath import TextPath

    kind = f"{step.kind} → output" if is_output else step.kind
    lines = field_lines(step)
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], f"and {len(lines) - MAX_LINES + 1} more"]
    texts = [(step.name, TITLE), *((line, BODY) for line in (kind, *lines))]
    widest = max(
        TextPath((0, 0), text.replace("$", "S"), size=size).get_extents().width for text, size in texts
    )
    width = max(1.2, widest * 1.08 / 72 + 2 * PAD)
    return Box(step.name, (kind, *lines), width, (len(lines) + 1) * LINE + 0.24 + 2 * PAD)


def _draw_box(axes: Any, box: Box, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (box.x, box.y), box.width, box.height, boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=colour, edgecolor=BORDER, linewidth=1.2, zorder=3,
        )
    )  # fmt: skip
    style = {"color": INK, "va": "center", "zorder": 4, "parse_math": False}
    y = box.y + PAD + 0.12
    axes.text(box.x + PAD, y, box.name, fontsize=TITLE, fontweight="bold", **style)
    for number, line in enumerate(box.lines):
        slanted = "italic" if number == 0 else "normal"
        axes.text(
            box.x + PAD, y + 0.24 + number * LINE, line, fontsize=BODY, fontstyle=slanted, **style
        )  # fmt: skip


def _draw_arrow(axes: Any, start: Box, end: Box, between: list[tuple[float, float]], label: str) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Line

    stops = [(start.x + start.width, start.y + start.height / 2), *between, (end.x, end.y + end.height / 2)]
    vertices, codes = [stops[0]], [Line.MOVETO]
    for number, ((x1, y1), (x2, y2)) in enumerate(itertools.pairwise(stops)):
        if number % 2:  # along a column
            vertices.append((x2, y2))
            codes.append(Line.LINETO)
            continue
        bend = (x2 - x1) / 2
        vertices += [(x1 + bend, y1), (x2 - bend, y2), (x2, y2)]
        codes += [Line.CURVE4] * 3
    axes.add_patch(
        FancyArrowPatch(
            path=Line(vertices, codes), arrowstyle="-|>,head_length=5,head_width=2.5", color=ARROW,
            linewidth=1.2, shrinkA=0, shrinkB=0, zorder=2,
        )
    )  # fmt: skip
    (x1, y1), (x2, y2) = stops[-2], stops[-1]
    axes.text(
        (x1 + x2) / 2, (y1 + y2) / 2, label, fontsize=BODY - 1, color=INK, ha="center", va="center",
        zorder=5, parse_math=False,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.9},
    )  # fmt: skip
