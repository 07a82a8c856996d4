"""What is known about one photo of a project: its masks, those that wait for a decision, and its state.

On disk this is an SA-1B file with a few more keys, which SA-1B's readers pass over: each annotation also has
its ``label``, where it came from, and the prompts that made it, so that it can be taken up again. Masks that
nobody has accepted yet are not among ``annotations``; they and the state are under ``sam_composer``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.rle import RLE, areas, bounding_boxes, from_json, to_json
from composer.images import Image
from sam.errors import BadAnnotation

VERSION = 1
KEY = "sam_composer"
MAX_MASKS = 5000
MAX_PROMPTS = 1000

Source = Literal["clicks", "box", "brush", "detect", "everything"]
State = Literal["open", "done", "rejected"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Label = Annotated[str, Field(min_length=1, max_length=200)]
Uid = Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Segmentation(_Strict):
    """A mask in COCO's run-length encoding, ``size`` being [height, width]."""

    size: tuple[int, int]
    counts: str


class Mask(_Strict):
    """One mask.

    Attributes:
        uid: tells masks apart, also between two people who work on one photo; made up by whoever draws it.
        segmentation: at the photo's size.
        label: its name, if it has one.
        source: what drew it first.
        predicted_iou, stability_score: as the model gave them.
        point_coords: clicks ``x, y``, pixels of the photo; point_labels: 1 object, 0 background.
        box: ``x1, y1, x2, y2`` of the prompt.
        draft: in the making when it was saved.
    """

    uid: Uid
    segmentation: Segmentation
    label: Label | None = None
    source: Source = "clicks"
    predicted_iou: Number | None = None
    stability_score: Number | None = None
    point_coords: list[tuple[Number, Number]] = Field(default_factory=list, max_length=MAX_PROMPTS)
    point_labels: list[Literal[0, 1]] = Field(default_factory=list, max_length=MAX_PROMPTS)
    box: tuple[Number, Number, Number, Number] | None = None
    draft: bool = False


class Document(_Strict):
    """All masks of one photo.

    Attributes:
        annotations: accepted ones.
        proposed: those that wait to be accepted or rejected.
        state: ``open``, ``done``, or ``rejected`` for a photo that is not to be used.
    """

    annotations: list[Mask] = Field(default_factory=list, max_length=MAX_MASKS)
    proposed: list[Mask] = Field(default_factory=list, max_length=MAX_MASKS)
    state: State = "open"

    def rles(self) -> list[RLE]:
        """The masks of both lists, in order, as pycocotools has them."""
        return [_rle(mask) for mask in (*self.annotations, *self.proposed)]


def parse_document(data: bytes | dict[str, Any], size: tuple[int, int]) -> Document:
    """Read what a client sends.

    Args:
        data: JSON, or what it holds.
        size: (H, W) of the photo.

    Raises:
        BadAnnotation: not such a document, naming the place; a mask that is damaged or of another size; one
            uid twice.
    """
    try:
        document = (
            Document.model_validate_json(data) if isinstance(data, bytes) else Document.model_validate(data)
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise BadAnnotation(f"{place}: {first['msg'].lower()}", field=place) from error
    _check(document, size)
    return document


def read_document(path: Path, size: tuple[int, int]) -> Document:
    """Read a file that :func:`sa1b_file` made, or any SA-1B file of a photo of ``size`` (H, W).

    Raises:
        BadAnnotation: not such a file.
    """
    try:
        content = json.loads(path.read_bytes())
        annotations = content["annotations"]
        own = content.get(KEY, {})
        found = {
            "annotations": [_known(mask, number) for number, mask in enumerate(annotations)],
            "proposed": own.get("proposed", []),
            "state": own.get("state", "open"),
        }
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise BadAnnotation(
            f"{path}: not an SA-1B file ({type(error).__name__}: {error}); move it away to start over",
            code="annotation_file",
        ) from error
    try:
        return parse_document(found, size)
    except BadAnnotation as error:
        raise BadAnnotation(f"{path}: {error}", code="annotation_file", field=error.field) from error


def sa1b_file(document: Document, image: Image, file_name: str) -> dict[str, Any]:
    """The content of the photo's file.

    Args:
        document: checked against the photo's size.
        image: the photo.
        file_name: its path inside the project.
    """
    height, width = image.size
    about = {
        # A number from the picture itself, as in the sa1b format: the same wherever the file goes.
        "image_id": int(image.sha256[:8], 16) >> 1,
        "width": width,
        "height": height,
        "file_name": file_name,
        "sha256": image.sha256,
    }
    return {
        "image": about,
        "annotations": _records(document.annotations, (height, width)),
        KEY: {
            "version": VERSION,
            "state": document.state,
            "proposed": [mask.model_dump(mode="json") for mask in document.proposed],
        },
    }


def _records(masks: list[Mask], size: tuple[int, int]) -> list[dict[str, Any]]:
    rles = [_rle(mask) for mask in masks]
    boxes = bounding_boxes(rles)
    height, width = size
    records = []
    for number, (mask, rle, area, box) in enumerate(zip(masks, rles, areas(rles), boxes, strict=True)):
        x1, y1, x2, y2 = box.tolist()
        told = mask.model_dump(mode="json", exclude={"segmentation", "draft"})
        geometry = {
            "id": number + 1,
            "segmentation": to_json(rle),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": int(area),
            "crop_box": [0, 0, width, height],
        }
        records.append(geometry | told)
    return records


def _known(record: dict[str, Any], number: int) -> dict[str, Any]:
    """An annotation of a file without what follows from its mask; other tools' files have no uid."""
    kept = {key: value for key, value in record.items() if key in Mask.model_fields}
    points = kept.get("point_coords") or []
    missing = {"uid": f"file-{number}", "source": "everything", "point_labels": [1] * len(points)}
    return missing | kept


def _check(document: Document, size: tuple[int, int]) -> None:
    masks = [*document.annotations, *document.proposed]
    if len({mask.uid for mask in masks}) < len(masks):
        raise BadAnnotation("two masks have the same uid", field="uid")
    for mask in masks:
        rle = _rle(mask)
        if tuple(rle["size"]) != size:
            height, width = rle["size"]
            raise BadAnnotation(
                f"mask {mask.uid} is {width} x {height} pixels, but the photo is {size[1]} x {size[0]}",
                field="segmentation",
            )
        if len(mask.point_coords) != len(mask.point_labels):
            raise BadAnnotation(f"mask {mask.uid}: give one label for each point", field="point_labels")


def _rle(mask: Mask) -> RLE:
    return from_json({"size": list(mask.segmentation.size), "counts": mask.segmentation.counts})
