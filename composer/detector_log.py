"""What a detector's training said of each epoch, kept as a table and drawn."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from composer.formats.atomic import write_bytes

RESULTS = "results.csv"
"""Where ultralytics writes it, in the folder of its run."""
LOG, CURVE = "log.csv", "learning-curve.png"
_LOSSES = {"train/box_loss": "boxes", "train/cls_loss": "object or not", "train/dfl_loss": "sides"}
_FIGURES = {"metrics/mAP50(B)": "AP50", "metrics/mAP50-95(B)": "AP", "metrics/recall(B)": "recall at best F1"}


def save_log(results: Path, folder: Path) -> None:
    """Keep ultralytics' table as :data:`LOG`, and draw it as :data:`CURVE`.

    Raises:
        EnvironmentProblem: they cannot be written.
    """
    text = results.read_text("utf-8")
    write_bytes(folder / LOG, text.encode())
    rows = [
        {name.strip(): float(value) for name, value in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]
    _draw(folder / CURVE, rows)


def _draw(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    sides = zip(
        figure.subplots(1, 2), (_LOSSES, _FIGURES), ("training losses", "boxes, held out"), strict=True
    )
    for axes, names, title in sides:
        for name, label in names.items():
            axes.plot([row["epoch"] for row in rows], [row[name] for row in rows], ".-", label=label)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    write_bytes(path, data.getvalue())
