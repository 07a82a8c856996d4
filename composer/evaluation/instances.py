"""Instances with classes and scores: COCO's average precision, by pycocotools (paper App. D.4)."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from adapters.boxes import Boxes, BoxesAdapter
from adapters.detect import Detect, DetectAdapter
from adapters.rle import from_json, to_json
from composer.evaluation.scoring import OpenScene
from sam.errors import BadAnnotation, UsageError
from sam.training.panoptic import entries, file_inside, is_number, read_json, read_json_list

if TYPE_CHECKING:
    from rich.table import Table

Result = Mapping[str, Any]
FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""The first six of COCOeval's twelve."""


@dataclass(frozen=True, eq=False)
class InstanceTruth:
    """A COCO instance file and the folder of its photos.

    Attributes:
        path: the file.
        images: the folder.
        coco: the file, read.
        image_ids: photos to evaluate.
    """

    path: Path
    images: Path
    coco: COCO
    image_ids: tuple[int, ...]

    @classmethod
    def open(cls, images: Path, path: Path) -> InstanceTruth:
        """Read the annotations.

        Raises:
            UsageError: no such folder.
            BadAnnotation: a file that is missing, malformed, or has no instance.
        """
        if not images.is_dir():
            raise UsageError(f"{images}: no such folder", field="coco")
        index = read_json(path)
        for key in ("images", "annotations", "categories"):
            entries(path, index, key)
        coco = COCO()
        coco.dataset = dict(index)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                coco.createIndex()
        except (KeyError, TypeError) as error:
            raise BadAnnotation(
                f"{path}: not a COCO instance file ({error!r} is missing or wrong)"
            ) from error
        if not coco.anns:
            raise BadAnnotation(f"{path}: no instance in it, nothing to evaluate on")
        return cls(path, images, coco, tuple(sorted(coco.imgs)))

    def limited(self, count: int | None) -> InstanceTruth:
        """The first ``count`` photos by id; None: all."""
        return replace(self, image_ids=self.image_ids[:count])

    def photo(self, image_id: int) -> Path:
        """Where a photo is."""
        return file_inside(self.path, self.images, self.coco.imgs[image_id].get("file_name"))

    def existing_photo(self, image_id: int) -> Path:
        """Where a photo is.

        Raises:
            BadAnnotation: it is not there.
        """
        path = self.photo(image_id)
        if not path.is_file():
            raise BadAnnotation(f"{path}: is named in {self.path}, but there is no such photo")
        return path

    def photos_of(self, results: Sequence[Result]) -> list[int]:
        """Ids of the photos that have results, ascending."""
        wanted = set(self.image_ids)
        return sorted({r["image_id"] for r in results} & wanted)

    def read_results(self, path: Path, *, boxes_only: bool = False) -> list[Result]:
        """A COCO results file: a list of objects with image_id, category_id, score, and a mask or box.

        Args:
            path: the file.
            boxes_only: masks are not looked at, and every result must have a box.

        Raises:
            BadAnnotation: malformed, or of photos, categories or sizes that the annotations do not have.
        """
        results = read_json_list(path)
        for number, result in enumerate(results):
            self._check(path, number, result, boxes_only)
        wanted = set(self.image_ids)
        return [result for result in results if result["image_id"] in wanted]

    def _check(self, path: Path, number: int, result: Result, boxes_only: bool) -> None:
        where = f"{path}: result {number}"
        if result.get("image_id") not in self.coco.imgs:
            raise BadAnnotation(f"{where}: image {result.get('image_id')!r} is not in {self.path}")
        if result.get("category_id") not in self.coco.cats:
            raise BadAnnotation(f"{where}: category {result.get('category_id')!r} is not in {self.path}")
        if not is_number(result.get("score")):
            raise BadAnnotation(f"{where}: 'score' must be a number, not {result.get('score')!r}")
        box, mask = result.get("bbox"), result.get("segmentation")
        if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
            raise BadAnnotation(f"{where}: 'bbox' must be [x, y, width, height], not {box!r}")
        if box is None and (boxes_only or mask is None):
            needed = "'bbox'" if boxes_only else "'segmentation' or 'bbox'"
            raise BadAnnotation(f"{where}: has no {needed}")
        if isinstance(mask, dict) and not boxes_only:
            try:
                size = tuple(from_json(mask)["size"])
            except BadAnnotation as error:
                raise BadAnnotation(f"{where}: {error}") from error
            photo = self.coco.imgs[result["image_id"]]
            if size != (photo.get("height"), photo.get("width")):
                raise BadAnnotation(
                    f"{where}: a mask of {size[1]} x {size[0]} pixels, but its photo has "
                    f"{photo.get('width')} x {photo.get('height')}"
                )


@dataclass(frozen=True)
class InstanceEvaluation:
    """The outcome.

    Attributes:
        masks, boxes: COCO's figures in [0, 1] by name (-1 where there is no such object), or None where the
            results have no masks, no boxes.
        results, images: how many were evaluated.
    """

    masks: Mapping[str, float] | None
    boxes: Mapping[str, float] | None
    results: int
    images: int

    def to_json(self) -> dict[str, Any]:
        """``{"ap", "ap50", …}`` of masks (of boxes, where there are no masks), and both apart."""
        main = self.masks or self.boxes or {}
        return {
            **main,
            "masks": self.masks,
            "boxes": self.boxes,
            "results": self.results,
            "images": self.images,
        }


def evaluate_instances(truth: InstanceTruth, results: Sequence[Result]) -> InstanceEvaluation:
    """COCO's mask AP and box AP.

    Raises:
        BadAnnotation: no result at all.
    """
    if not results:
        raise BadAnnotation(f"no result for any of the {len(truth.image_ids)} photos of {truth.path}")
    has_masks = all("segmentation" in result for result in results)
    has_boxes = all("bbox" in result for result in results)
    return InstanceEvaluation(
        _average_precision(truth, results, "segm") if has_masks else None,
        # Of masks the box is theirs, as in loadRes, unless each result brings its own.
        _average_precision(truth, results, "bbox") if has_boxes or has_masks else None,
        len(results),
        len(truth.image_ids),
    )


def masks_of_boxes(
    open_scene: OpenScene,
    truth: InstanceTruth,
    detections: Sequence[Result],
    refine: int = 1,
    on_image: Callable[[str], None] | None = None,
) -> list[Result]:
    """Turn a detector's boxes into masks: the paper's zero-shot instance segmentation.

    Args:
        open_scene: opens a photo.
        truth: whose photos they are.
        detections: COCO results with boxes.
        refine: rounds in which a mask's logits are fed back beside its box.
        on_image: called with a photo's name before it is opened.

    Returns:
        The same results with masks; the score stays the detector's. Boxes outside of the photo are clipped,
        empty ones left out.
    """
    of_photo: dict[int, list[Result]] = defaultdict(list)
    for detection in detections:
        of_photo[detection["image_id"]].append(detection)
    found: list[Result] = []
    for image_id in truth.photos_of(detections):
        path = truth.existing_photo(image_id)
        if on_image:
            on_image(path.name)
        scene = open_scene(path)
        height, width = scene.size
        xywh = np.array([d["bbox"] for d in of_photo[image_id]], np.float64)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        clipped = np.clip(xyxy, 0, [width, height, width, height])
        kept = np.flatnonzero((clipped[:, 2:] - clipped[:, :2] >= 1).all(1))
        if not len(kept):
            continue
        answer = BoxesAdapter()(scene, Boxes(clipped[kept], refine=refine))
        for row, rle in zip(kept, answer.rles, strict=True):
            found.append({**of_photo[image_id][row], "segmentation": to_json(rle)})
    return found


def masks_of_detector(
    open_scene: OpenScene,
    truth: InstanceTruth,
    request: Detect,
    on_image: Callable[[str], None] | None = None,
) -> list[Result]:
    """Run a detector and turn its boxes into masks.

    Args:
        open_scene: opens a photo.
        truth: whose photos they are; its categories are matched with the detector's classes by name.
        request: which detector, and how sure it has to be.
        on_image: called with a photo's name before it is opened.

    Returns:
        COCO results with masks; their boxes are the masks'. Classes that are no category are left out.

    Raises:
        BadAnnotation: none of what was found is of a category.
    """
    categories = {category["name"]: number for number, category in truth.coco.cats.items()}
    found: list[Result] = []
    unknown: set[str] = set()
    for image_id in truth.image_ids:
        path = truth.existing_photo(image_id)
        if on_image:
            on_image(path.name)
        for one in DetectAdapter()(open_scene(path), request):
            if one.label not in categories:
                unknown.add(str(one.label))
                continue
            result = {"image_id": image_id, "category_id": categories[one.label], "score": one.score}
            found.append(result | {"segmentation": to_json(one.rle)})
    if unknown and not found:
        names = ", ".join(sorted(unknown)[:5])
        raise BadAnnotation(f"{truth.path}: has no category named {names}, as the detector's classes are")
    return found


def instance_table(evaluation: InstanceEvaluation, title: str) -> Table:
    """A row for masks and one for boxes."""
    from rich.table import Table
    from rich.text import Text

    found = Table(title=Text(title, style="table.title"), title_justify="left")
    for heading in ("", "AP", "AP50", "AP75", "small", "medium", "large"):
        found.add_column(heading, justify="right" if heading else "left")
    for name, figures in (("masks", evaluation.masks), ("boxes", evaluation.boxes)):
        if figures is not None:
            found.add_row(name, *("-" if figures[f] < 0 else f"{figures[f]:.1%}" for f in FIGURES))
    found.caption = f"{evaluation.results} results in {evaluation.images} photos"
    found.caption_justify = "left"
    return found


def _average_precision(truth: InstanceTruth, results: Sequence[Result], kind: str) -> dict[str, float]:
    # loadRes takes masks for masks where the first result has no box, and boxes for boxes where it has one.
    key = "segmentation" if kind == "segm" or not all("bbox" in r for r in results) else "bbox"
    wanted = [
        {"image_id": r["image_id"], "category_id": r["category_id"], "score": r["score"], key: r[key]}
        for r in results
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth.coco, truth.coco.loadRes(wanted), kind)
        evaluation.params.imgIds = list(truth.image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(FIGURES, evaluation.stats, strict=False)}
