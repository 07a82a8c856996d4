"""A COCO instance dataset over all images of a run: ``coco/instances.json``.

Masks are compressed RLE, exact to the pixel, which pycocotools and most readers take for any annotation.
Images and annotations are numbered from 1 in the order they come, categories in the order their names first
appear; an instance without a label is an ``object``. Images of an earlier run that this one does not have
stay, after its own.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from adapters.records import UNLABELLED
from composer.formats.atomic import atomic_file, ensure_folder, json_bytes, writing
from composer.formats.base import Outcome

HEAD = b'{"info": {"description": "sam-composer"}, "licenses": [],\n"images": '
CATEGORIES = b',\n"categories": '
ANNOTATIONS = b',\n"annotations": ['


@dataclass(frozen=True)
class EarlierDataset:
    """A dataset that this module wrote; of any other there are no images.

    Attributes:
        path: the file.
        images, categories: as in it.
    """

    path: Path
    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]

    @classmethod
    def open(cls, path: Path) -> EarlierDataset:
        """Read its head; the annotations stay on disk."""
        try:
            with path.open("rb") as file:
                first, images, categories = (file.readline() for _ in range(3))
            if (first + images).startswith(HEAD):
                return cls(path, _value_of(images), _value_of(categories))
        except (OSError, ValueError):
            pass
        return cls(path, [], [])

    def annotations(
        self, images: Mapping[int, int], categories: Mapping[int, int], count: int
    ) -> Iterator[bytes]:
        """Those of some images, renumbered.

        Args:
            images: new ids of the wanted images by their old ones.
            categories: new ids by old ones.
            count: the last id that is taken.
        """
        if not images:
            return
        with self.path.open("rb") as file:
            for line in islice(file, 4, None):  # one a line, the last with the end of the file behind it
                text = line.rstrip(b",\n")
                record = json.loads(text[:-2] if text.endswith(b"}]}") else text)
                if record["image_id"] in images:
                    count += 1
                    record["id"] = count
                    record["image_id"] = images[record["image_id"]]
                    record["category_id"] = categories[record["category_id"]]
                    yield json_bytes(record)


def _value_of(line: bytes) -> list[dict[str, Any]]:
    """Of a line ``"key": value,``."""
    found: list[dict[str, Any]] = json.loads(line.partition(b": ")[2].rstrip(b",\n"))
    return found


class CocoWriter:
    """Collects annotations on disk, so memory does not grow with the run, and writes the file at the end.

    The collected annotations lie in an unnamed temporary file beside the target: it is gone with the process,
    and a run that is killed leaves the previous ``instances.json`` as it was.
    """

    def __init__(self) -> None:
        self._spool: io.FileIO | None = None
        self._images: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}
        self._annotations = 0
        self._file_names: set[str] = set()

    def write(self, stem: str, outcome: Outcome, folder: Path) -> list[Path]:
        """See :class:`composer.formats.base.Writer`. Nothing is visible before :meth:`finish`."""
        height, width = outcome.image.size
        image_id = len(self._images) + 1
        lines = self._lines(outcome, image_id)
        path = self._path(folder)
        with writing(path):
            if self._spool is None:
                ensure_folder(path.parent)
                # Open until finish, and unbuffered: what has been written is all there is to undo.
                self._spool = tempfile.TemporaryFile(dir=path.parent, buffering=0)  # noqa: SIM115
            _append(self._spool, b"".join(lines))
        self._annotations += len(lines)
        file_name = self._file_name(stem, outcome)
        self._images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        return []

    def finish(self, folder: Path) -> list[Path]:
        """The dataset of all images written so far and those of earlier runs, or an empty one."""
        try:
            return [self._assemble(self._path(folder))]
        finally:
            if self._spool is not None:
                self._spool.close()

    def _assemble(self, path: Path) -> Path:
        earlier = EarlierDataset.open(path)
        images = {one["id"]: one for one in earlier.images if one["file_name"] not in self._file_names}
        numbers = {old: len(self._images) + i for i, old in enumerate(images, 1)}
        classes = {
            one["id"]: self._categories.setdefault(one["name"], len(self._categories) + 1)
            for one in earlier.categories
        }
        kept = [one | {"id": numbers[one["id"]]} for one in images.values()]
        categories = [{"id": i, "name": name, "supercategory": ""} for name, i in self._categories.items()]
        with atomic_file(path) as file:
            file.write(HEAD + json_bytes(self._images + kept))
            file.write(CATEGORIES + json_bytes(categories) + ANNOTATIONS)
            others = earlier.annotations(numbers, classes, self._annotations)
            for i, line in enumerate(chain(self._collected(), others)):
                file.write((b",\n" if i else b"\n") + line)
            file.write(b"]}\n")
        return path

    def _collected(self) -> Iterator[bytes]:
        if self._spool is not None:
            self._spool.seek(0)
            with io.BufferedReader(self._spool) as lines:
                for line in lines:
                    yield line.rstrip(b"\n")

    def _file_name(self, stem: str, outcome: Outcome) -> str:
        """The image's own name, or, where another folder's image has it already, its path."""
        name = outcome.image.file_name or stem
        if name in self._file_names and outcome.image.path is not None:
            name = outcome.image.path.as_posix()
        self._file_names.add(name)
        return name

    def _lines(self, outcome: Outcome, image_id: int) -> list[bytes]:
        instances = outcome.instances
        lines = []
        for i, record in enumerate(instances.to_coco(image_id)):
            name = instances.labels[i] or UNLABELLED
            record["id"] = self._annotations + i + 1
            record["category_id"] = self._categories.setdefault(name, len(self._categories) + 1)
            lines.append(json_bytes(record) + b"\n")
        return lines

    @staticmethod
    def _path(folder: Path) -> Path:
        return folder / "coco" / "instances.json"


def _append(spool: io.FileIO, data: bytes) -> None:
    """All of ``data`` or, if the disk fills up on the way, none: no half image may get into the dataset."""
    start = spool.tell()
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[spool.write(rest) :]
    except OSError:
        spool.seek(start)
        spool.truncate()
        raise
