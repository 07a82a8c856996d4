"""Instances with classes and scores: COCO's average precision, by pycocotools (paper App. D.4)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pycocotools.cocoeval import COCOeval

from composer.evaluation.instance_truth import InstanceTruth, Result
from sam.errors import BadAnnotation

if TYPE_CHECKING:
    from rich.table import Table

FIGURES = {"ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "ap_large": 5, "ar": 8}
"""Those of COCOeval's twelve that are told, by their places there; ``ar`` is for 100 results a photo."""


@dataclass(frozen=True)
class InstanceEvaluation:
    """The outcome.

    Attributes:
        masks, boxes: COCO's figures in [0, 1] by name (-1 where there is no such object), or None where the
            results or the annotations have no masks, the results no boxes.
        results, images: how many were evaluated.
        note: why there are no figures of masks although the results have some; None otherwise.
        class_agnostic: whether a result may find an object of any class.
    """

    masks: Mapping[str, float] | None
    boxes: Mapping[str, float] | None
    results: int
    images: int
    note: str | None = None
    class_agnostic: bool = False

    def to_json(self) -> dict[str, Any]:
        """``{"ap", "ap50", …}`` of masks (of boxes, where there are no masks), and both apart."""
        main = self.masks or self.boxes or {}
        return {
            **main,
            "masks": self.masks,
            "boxes": self.boxes,
            "results": self.results,
            "images": self.images,
            "note": self.note,
            "class_agnostic": self.class_agnostic,
        }


def evaluate_instances(
    truth: InstanceTruth, results: Sequence[Result], *, class_agnostic: bool = False
) -> InstanceEvaluation:
    """COCO's mask AP and box AP.

    Args:
        truth: the annotations.
        results: as :meth:`InstanceTruth.read_results` gives them: all with masks, all with boxes, or both.
        class_agnostic: a result may find an object of any class, and all of a photo's are ranked together.

    Raises:
        BadAnnotation: no result at all.
    """
    if not results:
        raise BadAnnotation(f"no result for any of the {len(truth.image_ids)} photos of {truth.path}")
    has_masks = all("segmentation" in result for result in results)
    note = None
    if has_masks and truth.unmasked is not None:
        note = f"masks not measured: annotation {truth.unmasked} of {truth.path.name} has a box, but no mask"
    return InstanceEvaluation(
        _average_precision(truth, results, "segm", class_agnostic) if has_masks and not note else None,
        # Boxes of masks are their own, unless each result brings one.
        _average_precision(truth, results, "bbox", class_agnostic),
        len(results),
        len(truth.image_ids),
        note,
        class_agnostic,
    )


def instance_table(evaluation: InstanceEvaluation, title: str) -> Table:
    """A row for masks and one for boxes."""
    from rich.table import Table
    from rich.text import Text

    found = Table(title=Text(title, style="table.title"), title_justify="left")
    for heading in ("", "AP", "AP50", "AP75", "small", "medium", "large", "AR"):
        found.add_column(heading, justify="right" if heading else "left")
    for name, figures in (("masks", evaluation.masks), ("boxes", evaluation.boxes)):
        if figures is not None:
            found.add_row(name, *("-" if figures[f] < 0 else f"{figures[f]:.1%}" for f in FIGURES))
    found.caption = f"{evaluation.results} results in {evaluation.images} photos"
    if evaluation.class_agnostic:
        found.caption += ", whatever the class"
    if evaluation.note:
        found.caption += f"\n{evaluation.note}"
    found.caption_justify = "left"
    return found


def _average_precision(
    truth: InstanceTruth, results: Sequence[Result], kind: str, class_agnostic: bool
) -> dict[str, float]:
    # loadRes takes masks for masks where the first result has no box, and boxes for boxes where it has one.
    key = "segmentation" if kind == "segm" or not all("bbox" in r for r in results) else "bbox"
    wanted = [
        {"image_id": r["image_id"], "category_id": r["category_id"], "score": r["score"], key: r[key]}
        for r in results
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth.coco, truth.coco.loadRes(wanted), kind)
        evaluation.params.imgIds = list(truth.image_ids)
        evaluation.params.useCats = int(not class_agnostic)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(evaluation.stats[place]) for name, place in FIGURES.items()}
