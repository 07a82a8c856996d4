"""The boundary benchmark as people read it: a table, and the precision-recall curve over lines of equal F."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.evaluation.boundaries.summary import BoundaryEvaluation
from composer.formats.atomic import write_bytes

if TYPE_CHECKING:
    from rich.table import Table

ISO_F = np.arange(0.1, 1.0, 0.1)


def boundary_table(evaluation: BoundaryEvaluation, title: str) -> Table:
    """One row: ODS with its threshold, OIS, AP, R50."""
    from rich.table import Table
    from rich.text import Text

    found = Table(title=Text(title, style="table.title"), title_justify="left")
    for heading in ("ODS", "threshold", "OIS", "AP", "R50"):
        found.add_column(heading, justify="right")
    ods = evaluation.ods
    figures = (ods.f, ods.threshold, evaluation.ois.f, evaluation.ap, evaluation.r50)
    found.add_row(*(f"{value:.3f}" for value in figures))
    found.caption = f"{len(evaluation.images)} photos, {len(evaluation.thresholds)} thresholds"
    found.caption_justify = "left"
    return found


def save_curve(path: Path, evaluation: BoundaryEvaluation, title: str) -> None:
    """Draw the curve as PNG, SVG or PDF. Raises EnvironmentProblem where it cannot be written."""
    save_curves(path, {f"F = {evaluation.ods.f:.3f}": evaluation}, title)


def save_curves(path: Path, evaluations: dict[str, BoundaryEvaluation], title: str) -> None:
    """Draw several curves, by the names for the legend. Raises EnvironmentProblem."""
    from matplotlib.figure import Figure  # no pyplot: it would look for a display

    figure = Figure(figsize=(5.5, 5.2), layout="constrained")
    axes = figure.add_subplot()
    draw_iso_f(axes)
    for name, evaluation in evaluations.items():
        total, best = evaluation.total, evaluation.ods
        shown = total.predicted > 0
        (line,) = axes.plot(total.recall[shown], total.precision[shown], linewidth=2, label=name)
        axes.plot(best.recall, best.precision, "o", color=line.get_color(), markersize=6)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", aspect="equal")
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.legend(loc="lower left", fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix[1:].lower(), dpi=150)
    write_bytes(path, data.getvalue())


def draw_iso_f(axes: Any) -> None:
    """Thin lines on which F is the same, as the benchmark's own plots have them."""
    for f in ISO_F:
        recall = np.linspace(f / (2 - f), 1, 200)
        axes.plot(recall, f * recall / (2 * recall - f), color="#9ac49a", linewidth=0.7, zorder=0)
        axes.annotate(
            f"{f:.1f}", (1.0, f / (2 - f)), color="#6a9a6a", fontsize=6, xytext=(-12, 2),
            textcoords="offset points",
        )  # fmt: skip
