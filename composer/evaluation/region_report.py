"""The region measures as people read them: a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from composer.evaluation.regions import RegionEvaluation

if TYPE_CHECKING:
    from rich.table import Table

NAMES = {
    "covering": "covering",
    "rand_index": "probabilistic Rand index",
    "variation_of_information": "variation of information",
}


def region_table(evaluation: RegionEvaluation, title: str) -> Table:
    """A row for each measure: at the best threshold for the set, for each photo, for each region."""
    from rich.table import Table
    from rich.text import Text

    found = Table(title=Text(title, style="table.title"), title_justify="left")
    for heading in ("", "ODS", "threshold", "OIS", "best"):
        found.add_column(heading, justify="right" if heading else "left")
    report = evaluation.to_json()
    for key, name in NAMES.items():
        figures = [report[key].get(column) for column in ("ods", "ods_threshold", "ois", "best")]
        found.add_row(name, *("-" if value is None else f"{value:.3f}" for value in figures))
    found.caption = (
        f"{len(evaluation.images)} photos, {len(evaluation.thresholds)} thresholds; of the variation of "
        "information, which is in bits, less is better"
    )
    found.caption_justify = "left"
    return found
