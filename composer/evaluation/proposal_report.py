"""Average recall as people read it: a table, and recall over the number of proposals."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from composer.evaluation.proposals import SIZES, ProposalEvaluation
from composer.formats.atomic import write_bytes

if TYPE_CHECKING:
    from rich.table import Table


def proposal_table(evaluation: ProposalEvaluation, title: str) -> Table:
    """A row for each number of proposals; a column for each size, and for each frequency where known."""
    from rich.table import Table
    from rich.text import Text

    found = Table(title=Text(title, style="table.title"), title_justify="left")
    found.add_column("proposals", justify="right")
    groups = list(evaluation.recall_by_frequency(evaluation.counts[-1]))
    for heading in ("average recall", *list(SIZES)[1:], *groups):
        found.add_column(heading, justify="right")
    for count in evaluation.counts:
        recalls = [evaluation.average_recall(count, size) for size in SIZES]
        by_frequency = evaluation.recall_by_frequency(count)
        cells = [*recalls, *(by_frequency[group] for group in groups)]
        found.add_row(str(count), *("-" if value is None else f"{value:.1%}" for value in cells))
    proposals = np.mean([image.proposals for image in evaluation.images])
    found.caption = (
        f"{evaluation.objects} objects in {len(evaluation.images)} photos, {proposals:.0f} proposals a photo"
    )
    found.caption_justify = "left"
    return found


def save_recall_plot(path: Path, evaluation: ProposalEvaluation, title: str) -> None:
    """Draw average recall over the number of proposals, for each size. Raises EnvironmentProblem."""
    from matplotlib.figure import Figure  # no pyplot: it would look for a display

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    counts = np.unique(np.geomspace(1, evaluation.counts[-1], 40).astype(int))
    for size in SIZES:
        recalls = [evaluation.average_recall(int(count), size) or 0.0 for count in counts]
        if evaluation.average_recall(1, size) is not None:
            axes.plot(counts, recalls, "-" if size == "all" else "--", label=size)
    axes.set_xscale("log")
    axes.set(ylim=(0, 1), xlabel="proposals for a photo", ylabel="average recall, IoU .5 to .95")
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend()
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix[1:].lower(), dpi=150)
    write_bytes(path, data.getvalue())
