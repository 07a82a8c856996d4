"""What was found as files to take home: COCO JSON, masks in a zip, the picture with masks."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from adapters.results import Instances
from apps.demo.answering import Found
from apps.demo.photos import Photos
from composer.formats.coco import CocoWriter
from composer.formats.json_report import JsonReportWriter
from composer.formats.masks import MasksWriter
from composer.formats.names import unique_stems
from composer.overlay import OverlayWriter


class File(NamedTuple):
    """A file's name and its content."""

    name: str
    data: bytes


class Files(NamedTuple):
    """The files of one answer; edges alone have no COCO form.

    Attributes:
        coco: the instances as a COCO dataset of one image.
        masks: a zip of one PNG for each mask, and the JSON report; for edges the 16-bit map.
        overlay: the photo with what was found.
    """

    coco: File | None
    masks: File
    overlay: File


def files_of(found: Found, photos: Photos) -> Files:
    """Write them with the writers of ``sam-composer segment``.

    Raises:
        EnvironmentProblem: no room for temporary files.
        UsageError: the photo is gone.
    """
    outcome = found.outcome(photos)
    stem = unique_stems([Path(outcome.image.file_name or "photo")])[0]
    has_instances = any(isinstance(answer.result, Instances) for answer in found.answers)
    with tempfile.TemporaryDirectory(prefix="sam-composer-demo-") as folder:
        root = Path(folder)
        overlay = OverlayWriter().write(stem, outcome, root)[0].read_bytes()
        JsonReportWriter().write(stem, outcome, root / "zip")
        coco = None
        if has_instances:
            MasksWriter().write(stem, outcome, root / "zip")
            writer = CocoWriter()
            writer.write(stem, outcome, root)
            coco = File(f"{stem}.coco.json", writer.finish(root)[0].read_bytes())
        return Files(
            coco, File(f"{stem}.masks.zip", _zipped(root / "zip")), File(f"{stem}.overlay.png", overlay)
        )


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # PNGs do not shrink further
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()
