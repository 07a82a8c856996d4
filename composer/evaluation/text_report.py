"""Phrases on labelled photos as people read it: a row for each way, and overlap over false alarms."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from composer.evaluation.text import BASELINES, TextEvaluation
from composer.evaluation.text_scores import TextScores
from composer.formats.atomic import write_bytes

if TYPE_CHECKING:
    from rich.table import Table


def text_table(evaluation: TextEvaluation, title: str) -> Table:
    """A row for each route and baseline."""
    from rich.table import Table
    from rich.text import Text

    found = Table(title=Text(title, style="table.title"), title_justify="left")
    found.add_column("route")
    for heading in ("mean IoU, present", "instance recall", "false alarms, absent"):
        found.add_column(heading, justify="right")
    for name, asked in evaluation.routes.items():
        scores = TextScores.of(asked)
        cells = (scores.present_miou, scores.instance_recall, scores.false_alarm_rate)
        label = f"{name} (baseline)" if name in BASELINES else name
        found.add_row(label, *("-" if value is None else f"{value:.1%}" for value in cells))
    questions = next(iter(evaluation.routes.values()))
    present = sum(one.present for one in questions)
    absent = len(questions) - present
    found.caption = (
        f"{evaluation.images} photos, {present} phrases that are there and {absent} that are not; text score "
        f"of at least {evaluation.threshold:.3g} (best balance: {evaluation.best_threshold:.3g})"
    )
    found.caption_justify = "left"
    return found


def save_text_plot(path: Path, evaluation: TextEvaluation, title: str) -> None:
    """Draw mean IoU of present phrases over false alarms of absent ones. Raises EnvironmentProblem."""
    from matplotlib.figure import Figure  # no pyplot: it would look for a display

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    first = next(iter(evaluation.routes))
    places = {level: _place(scores) for level, scores in evaluation.sweep.items()}
    curve = [place for place in places.values() if place is not None]
    if curve:
        axes.plot(*zip(*curve, strict=True), ".-", label=f"{first}, by least text score")
    best = places.get(evaluation.best_threshold)
    if best is not None:
        axes.plot(*best, "k*", markersize=12, label=f"best balance, {evaluation.best_threshold:.3g}")
    for name, asked in evaluation.routes.items():
        place = _place(TextScores.of(asked))
        if place is not None:
            axes.plot(*place, "s" if name in BASELINES else "o", label=name)
    axes.set(xlim=(-0.02, 1.02), ylim=(0, 1))
    axes.set(xlabel="absent phrases with an answer", ylabel="mean IoU of present phrases")
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix[1:].lower(), dpi=150)
    write_bytes(path, data.getvalue())


def _place(scores: TextScores) -> tuple[float, float] | None:
    """False alarms and mean IoU; None where no absent or no present phrase was asked for."""
    alarms, overlap = scores.false_alarm_rate, scores.present_miou
    return None if alarms is None or overlap is None else (alarms, overlap)
