"""An evaluation as people read it: a table, a JSON file, a plot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.evaluation.groups import GroupScores, Interval
from composer.evaluation.scoring import Evaluation
from composer.evaluation.thresholds import ThresholdEvaluation
from composer.formats.atomic import write_bytes, write_json

if TYPE_CHECKING:
    from rich.table import Table

PLOT_FORMATS = (".png", ".svg", ".pdf")


def table(evaluation: Evaluation, title: str) -> Table:
    """A row for each click count (or one for boxes): mean IoU in percent."""
    found = _titled(title)
    boxes = evaluation.prompt == "boxes"
    for heading in ("prompt", "mean IoU", "oracle", *(("box filled",) if boxes else ())):
        found.add_column(heading, justify="left" if heading == "prompt" else "right")
    for count in evaluation.clicks:
        prompt = "box" if boxes else f"{count} click{'s' if count > 1 else ''}"
        cells = [prompt, f"{evaluation.miou[count]:.1%}", f"{evaluation.oracle[count]:.1%}"]
        if evaluation.box_filled is not None:
            cells.append(f"{evaluation.box_filled:.1%}")
        found.add_row(*cells)
    found.caption = f"{evaluation.masks} masks in {len(evaluation.images)} photos"
    found.caption_justify = "left"
    return found


def threshold_table(evaluation: ThresholdEvaluation, title: str, count: int = 10) -> Table:
    """The pairs with the highest F1, best first."""
    found = _titled(title)
    for heading in ("predicted IoU >", "stability >=", "precision", "recall", "F1", "masks a photo"):
        found.add_column(heading, justify="right")
    for row in sorted(evaluation.rows, key=lambda row: -row.f1)[:count]:
        found.add_row(
            f"{row.pred_iou_thresh:g}",
            f"{row.stability_score_thresh:g}",
            f"{row.precision:.1%}",
            f"{row.recall:.1%}",
            f"{row.f1:.1%}",
            f"{row.masks_per_photo:.1f}",
        )
    found.caption = f"{evaluation.masks} segments in {evaluation.images} photos"
    found.caption_justify = "left"
    return found


def group_table(groups: Sequence[GroupScores], title: str) -> Table:
    """A row for each group: mean IoU with its 95 % interval, in percent, for each click count."""
    from rich.text import Text

    found = _titled(title)
    found.add_column("group")
    found.add_column("masks", justify="right")
    found.add_column("photos", justify="right")
    for count in groups[0].miou:
        found.add_column(str(count), justify="right")
    for group in groups:
        cells = [_interval(interval) for interval in group.miou.values()]
        found.add_row(Text(group.name), str(group.masks), str(group.images), *map(Text, cells))
    found.caption = "mean IoU in % by number of prompts, with 95 % intervals (bootstrap over photos)"
    found.caption_justify = "left"
    return found


def groups_json(groups: Sequence[GroupScores]) -> dict[str, Any]:
    """``{group: {"masks", "images", "miou": {"1": {"mean", "low", "high"}, …}}}``; null: one photo."""
    return {
        group.name: {
            "masks": group.masks,
            "images": group.images,
            "miou": {
                str(count): {"mean": round(i.mean, 6), "low": _rounded(i.low), "high": _rounded(i.high)}
                for count, i in group.miou.items()
            },
        }
        for group in groups
    }


def _interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{100 * interval.mean:.1f} -"
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _titled(title: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Text, since it names a folder: in a str, rich takes [brackets] for markup.
    return Table(title=Text(title, style="table.title"), title_justify="left")


def save_json(path: Path, evaluation: Evaluation | ThresholdEvaluation, about: Mapping[str, Any]) -> None:
    """Write the figures, then what they are about (model, data, options). Raises EnvironmentProblem."""
    write_json(path, {**evaluation.to_json(), **about})


def save_plot(path: Path, evaluation: Evaluation | ThresholdEvaluation, title: str) -> None:
    """As PNG, SVG or PDF: mean IoU over clicks, for boxes over the masks' sizes; precision over recall.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    from matplotlib.figure import Figure  # no pyplot: it would look for a display

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    if isinstance(evaluation, ThresholdEvaluation):
        _plot_thresholds(axes, evaluation)
    elif evaluation.prompt == "boxes":
        _plot_sizes(axes, evaluation)
    else:
        counts = list(evaluation.clicks)
        axes.plot(counts, list(evaluation.miou.values()), "o-", label="top-ranked mask")
        axes.plot(counts, list(evaluation.oracle.values()), "s--", label="best of three, then corrected")
        axes.set_xticks(counts)
        axes.set_xlabel("clicks")
    axes.set_ylim(0, 1)
    axes.set_ylabel("precision" if isinstance(evaluation, ThresholdEvaluation) else "mean IoU")
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend()
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix[1:].lower(), dpi=150)
    write_bytes(path, data.getvalue())


def _plot_thresholds(axes: Any, evaluation: ThresholdEvaluation) -> None:
    for stability in sorted({row.stability_score_thresh for row in evaluation.rows}):
        rows = [row for row in evaluation.rows if row.stability_score_thresh == stability]
        kept = [row for row in rows if row.masks_per_photo]
        axes.plot(
            [r.recall for r in kept], [r.precision for r in kept], ".-", label=f"stability {stability:g}"
        )
    best = evaluation.best
    axes.plot(best.recall, best.precision, "k*", markersize=12, label=f"best: IoU > {best.pred_iou_thresh:g}")
    axes.set_xlabel("recall")


def _plot_sizes(axes: Any, evaluation: Evaluation) -> None:
    areas = [area**0.5 for image in evaluation.images for area in image.areas]
    ious = [iou for image in evaluation.images for iou in image.top[:, 0]]
    filled = [iou for image in evaluation.images if image.filled is not None for iou in image.filled]
    axes.scatter(areas, filled, s=8, alpha=0.4, color="grey", label="box filled")
    axes.scatter(areas, ious, s=8, alpha=0.7, label="mask")
    axes.axhline(evaluation.miou[1], linewidth=1, label=f"mean {evaluation.miou[1]:.2f}")
    axes.set_xscale("log")
    axes.set_xlabel("square root of the mask's area, pixels")
