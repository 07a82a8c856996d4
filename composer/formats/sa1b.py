"""SA-1B's own layout: one JSON file for each image, masks as compressed COCO RLE."""

from __future__ import annotations

from pathlib import Path

from composer.formats.atomic import write_json
from composer.formats.base import Outcome, PerImageWriter


class Sa1bWriter(PerImageWriter):
    """``sa1b/<stem>.json``."""

    def write(self, stem: str, outcome: Outcome, folder: Path) -> list[Path]:
        """See :class:`composer.formats.base.Writer`."""
        # A number from the picture itself: the same in every run, whatever else is in the folder.
        image_id = int(outcome.image.sha256[:8], 16) >> 1
        content = outcome.instances.to_sa1b(outcome.image.file_name or stem, image_id)
        return [write_json(folder / "sa1b" / f"{stem}.json", content)]
