"""All accepted masks of a project as one COCO dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from adapters.records import UNLABELLED
from composer.formats.atomic import write_json
from composer.projects.document import KEY
from composer.projects.project import Project
from sam.errors import BadAnnotation, EnvironmentProblem

DESCRIPTION = "sam-composer annotations"


class Written(NamedTuple):
    """What a COCO file holds.

    Attributes:
        path: the file.
        images: photos in it: all that have annotations, or are done without any.
        annotations: their masks.
    """

    path: Path
    images: int
    annotations: int


def write_coco(project: Project) -> Written:
    """Write ``annotations/coco/instances.json`` of ``project``, photos that were rejected left out.

    Raises:
        BadAnnotation: a photo's file is damaged.
        EnvironmentProblem: the file cannot be written, or another tool's is in its place.
    """
    path = project.annotations / "coco" / "instances.json"
    _check_ours(path)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    for photo in project.photos():
        content = _content(project.file_of(photo))
        if content is None or content.get(KEY, {}).get("state") == "rejected":
            continue
        masks = content["annotations"]
        if not masks and content.get(KEY, {}).get("state") != "done":
            continue
        about = content["image"]
        size = {"width": about["width"], "height": about["height"]}
        images.append({"id": len(images) + 1, "file_name": photo.name} | size)
        for mask in masks:
            name = mask.get("label") or UNLABELLED
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": categories.setdefault(name, len(categories) + 1),
                    "bbox": mask["bbox"],
                    "area": mask["area"],
                    "segmentation": mask["segmentation"],
                    "iscrowd": 0,
                }
            )
    listed = [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()]
    content = {"info": {"description": DESCRIPTION}, "licenses": []}
    write_json(path, content | {"images": images, "categories": listed, "annotations": annotations})
    return Written(path, len(images), len(annotations))


def _content(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadAnnotation(f"{path}: damaged: {error}", code="annotation_file") from error
    if not isinstance(content, dict) or not {"image", "annotations"} <= set(content):
        raise BadAnnotation(f"{path}: not an SA-1B file", code="annotation_file")
    return content


def _check_ours(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb") as file:
        ours = DESCRIPTION.encode() in file.read(200)
    if not ours:
        raise EnvironmentProblem(
            f"{path}: was not written by the annotator and is left alone; move it away first",
            code="output_unwritable",
        )
