"""Output formats by name."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sam.errors import UsageError

if TYPE_CHECKING:
    from composer.formats.base import Writer

FORMATS = {
    "json": "composer.formats.json_report:JsonReportWriter",
    "coco": "composer.formats.coco:CocoWriter",
    "sa1b": "composer.formats.sa1b:Sa1bWriter",
    "yolo": "composer.formats.yolo:YoloWriter",
    "labelme": "composer.formats.labelme:LabelMeWriter",
    "masks": "composer.formats.masks:MasksWriter",
}
"""Format name -> its writer, loaded when asked for. ``supervision`` writes no file: see its module."""


def make_writers(names: Iterable[str]) -> list[Writer]:
    """A fresh writer for each name, each name once.

    Raises:
        UsageError: an unknown name, with the known ones.
    """
    writers: list[Writer] = []
    for name in dict.fromkeys(names):
        if name not in FORMATS:
            known = ", ".join(FORMATS)
            raise UsageError(
                f"unknown format {name!r}; known: {known}", code="format_unknown", field="format"
            )
        module, _, writer = FORMATS[name].partition(":")
        writers.append(getattr(importlib.import_module(module), writer)())
    return writers
