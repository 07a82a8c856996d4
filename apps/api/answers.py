"""What was found, in the form that the client accepts: JSON, a zip of everything, or a picture."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image as PILImage
from starlette.responses import Response

from adapters.results import EdgeMap, Instances
from apps.api.problems import Problem
from composer.formats.base import Outcome
from composer.formats.json_report import edge_file_name, edge_png, report
from composer.formats.masks import id_map_png, mask_png
from composer.overlay import pictures_of
from composer.windows import outlines

MaskForm = Literal["rle", "polygons"]
JSON, ZIP, PNG = "application/json", "application/zip", "image/png"
OFFERED = (JSON, ZIP, PNG)
STEM = "image"
"""Name of the files in a zip, and of edge maps in reports."""


def choose_media_type(accept: str | None, offered: Sequence[str] = OFFERED) -> str:
    """The offered type that an ``Accept`` header likes best; the first of equals.

    Raises:
        Problem: 406, it accepts none of them.
    """
    best, weight = "", 0.0
    for kind in offered:
        wanted = _weight(accept or "*/*", kind)
        if wanted > weight:
            best, weight = kind, wanted
    if not best:
        raise Problem(
            406,
            "not_acceptable",
            f"the answer can be {', '.join(offered)}",
            field="Accept",
            allowed=list(offered),
        )
    return best


def respond(outcome: Outcome, media_type: str, masks: MaskForm) -> Response:
    """The answer in ``media_type``; ``masks`` says how JSON holds masks."""
    if media_type == PNG:
        content = _png(next(iter(pictures_of(outcome).values())))
    elif media_type == ZIP:
        content = zipped(outcome, masks)
    else:
        content = json.dumps(report_of(outcome, masks, inline=True), allow_nan=False).encode()
    name = {ZIP: f"{STEM}.zip", PNG: f"{STEM}.overlay.png"}.get(media_type)
    headers = {"Vary": "Accept"} | ({"Content-Disposition": f'inline; filename="{name}"'} if name else {})
    return Response(content, media_type=media_type, headers=headers)


def report_of(outcome: Outcome, masks: MaskForm, *, inline: bool) -> dict[str, Any]:
    """The report of :mod:`composer.formats.json_report`, the same as the command line writes.

    Args:
        outcome: what was found.
        masks: ``rle`` as there, or ``polygons`` as COCO has them.
        inline: edge maps are in it, as 16-bit PNG files in base64 under ``png``, since there are no files.
    """
    maps = edge_maps(outcome)
    told = report(outcome, [edge_file_name(STEM, i) for i in range(len(maps))])
    told["image"]["file_name"] = None  # the client's business
    remaining = iter(maps)
    for entry, answer in zip(told["results"], outcome.answers, strict=True):
        if isinstance(answer.result, EdgeMap):
            if inline:
                entry["png"] = base64.b64encode(edge_png(next(remaining))).decode()
        elif masks == "polygons":
            _with_polygons(entry["annotations"], answer.result)
    return told


def edge_maps(outcome: Outcome) -> list[EdgeMap]:
    """The edge maps among the answers, in order."""
    return [answer.result for answer in outcome.answers if isinstance(answer.result, EdgeMap)]


def zipped(outcome: Outcome, masks: MaskForm) -> bytes:
    """``image.json``, ``masks/000.png`` and so on, ``image.ids.png``, edge maps and pictures, in one zip."""
    buffer = io.BytesIO()
    # PNG files are compressed already; the report is the one that gains.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        told = json.dumps(report_of(outcome, masks, inline=False), allow_nan=False)
        archive.writestr(f"{STEM}.json", told, zipfile.ZIP_DEFLATED)
        instances = outcome.instances
        for i, rle in enumerate(instances.rles):
            archive.writestr(f"masks/{i:03d}.png", mask_png(rle, instances.image_size))
        if len(instances):
            archive.writestr(f"{STEM}.ids.png", id_map_png(instances))
        for i, edges in enumerate(edge_maps(outcome)):
            archive.writestr(edge_file_name(STEM, i), edge_png(edges))
        for name, picture in pictures_of(outcome).items():
            archive.writestr(f"{STEM}.{name}.png", _png(picture))
    return buffer.getvalue()


def _with_polygons(records: list[dict[str, Any]], instances: Instances) -> None:
    """Run lengths replaced by polygons through pixel centres, holes cut in; see :mod:`adapters.polygons`."""
    for record, rle in zip(records, instances.rles, strict=True):
        record["segmentation"] = [ring.ravel().tolist() for ring in outlines(rle)]


def _png(picture: PILImage.Image) -> bytes:
    done, data = cv2.imencode(".png", np.asarray(picture.convert("RGB"))[:, :, ::-1])
    if not done:
        raise RuntimeError("OpenCV could not encode a PNG")
    return bytes(data.tobytes())


def _weight(accept: str, kind: str) -> float:
    """How much a header likes ``kind``: the weight of the most exact entry for it (RFC 9110, 12.5.1)."""
    best = (-1, 0.0)
    for entry in accept.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        exactness = {kind: 2, f"{kind.partition('/')[0]}/*": 1, "*/*": 0}.get(name)
        if exactness is None:
            continue
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    weight = 0.0
        best = max(best, (exactness, weight))
    return best[1]
