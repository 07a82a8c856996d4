"""A folder of photos with what people have said about them, and nothing lost when two work on one photo.

``FOLDER/annotations/sa1b/<photo's path>.json`` for each photo,
``FOLDER/annotations/coco/instances.json`` when it is asked for, and
``FOLDER/annotations/project.json`` with the photo that was worked on last.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.folders import find_images
from composer.formats.atomic import alone_in, ensure_folder, json_bytes, write_bytes, write_json
from composer.images import Image
from composer.projects.document import KEY, Document, read_document, sa1b_file
from sam.errors import BadImage, UsageError

FOLDER = "annotations"
NEW = "new"
"""Revision of a photo that has no file yet."""


class UnknownItem(UsageError):
    """No such project, or no such photo in it."""

    http_status, default_code = 404, "not_found"


class RevisionConflict(UsageError):
    """Somebody else has saved the photo since it was read.

    Attributes:
        revision: what is there now.
    """

    http_status, default_code = 409, "revision_conflict"

    def __init__(self, revision: str) -> None:
        super().__init__(
            "this photo was saved from elsewhere since you opened it; nothing was overwritten: "
            "read it again and merge",
            field="If-Match",
        )
        self.revision = revision


@dataclass(frozen=True)
class Photo:
    """One photo of a project.

    Attributes:
        key: names it in addresses, whatever characters its file name has.
        path: where it is.
        name: its path inside the project.
    """

    key: str
    path: Path
    name: str


@dataclass(frozen=True)
class Summary:
    """What a list of photos shows of one.

    Attributes:
        state: see :class:`composer.projects.document.Document`; ``new`` where there is no file,
            ``unreadable`` where it is damaged.
        masks: accepted ones.
        proposed: undecided ones.
        labels: how often each name occurs.
    """

    state: str = NEW
    masks: int = 0
    proposed: int = 0
    labels: tuple[tuple[str, int], ...] = ()


class Project:
    """A folder with photos, wherever in it they are. Safe to share between threads.

    Args:
        folder: existing.

    Attributes:
        name: of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.resolve().name or "project"
        self._lock = threading.Lock()
        self._summaries: dict[str, tuple[tuple[int, int], Summary]] = {}
        self._seen: dict[str, Photo] = {}

    @property
    def annotations(self) -> Path:
        """Where everything is written that this project writes."""
        return self.folder / FOLDER

    def photos(self) -> list[Photo]:
        """The photos there are now, sorted by path; none is an empty list."""
        try:
            paths = find_images([self.folder])
        except BadImage:
            return []
        photos = [self._photo(path) for path in paths]
        self._seen = {photo.key: photo for photo in photos}
        return photos

    def photo(self, key: str) -> Photo:
        """The photo of a key. Raises :class:`UnknownItem`."""
        photo = self._seen.get(key)
        if photo is not None and photo.path.exists():  # the folder need not be searched
            return photo
        self.photos()
        if key in self._seen:
            return self._seen[key]
        raise UnknownItem(
            f"no photo {key!r} in this project; it may have been renamed or removed", field="photo"
        )

    def file_of(self, photo: Photo) -> Path:
        """Where the photo's annotations are, or will be."""
        return self.annotations / "sa1b" / f"{photo.name}.json"

    def revision(self, photo: Photo) -> str:
        """A digest of the photo's file, :data:`NEW` without one."""
        try:
            data = self.file_of(photo).read_bytes()
        except FileNotFoundError:
            return NEW
        return hashlib.sha256(data).hexdigest()[:20]

    def read(self, photo: Photo, size: tuple[int, int]) -> tuple[Document, str]:
        """The photo's document and its revision.

        Args:
            photo: of this project; size: its (H, W).

        Raises:
            BadAnnotation: the file is damaged.
        """
        with self._locked():
            revision = self.revision(photo)
            document = Document() if revision == NEW else read_document(self.file_of(photo), size)
        return document, revision

    def save(self, photo: Photo, image: Image, document: Document, revision: str) -> str:
        """Write the photo's document if nobody else has since.

        Args:
            photo: of this project; image: what it shows.
            document: checked against the photo's size.
            revision: what the document was made from.

        Returns:
            The new revision.

        Raises:
            RevisionConflict: the file is of another revision; it stays as it is.
            EnvironmentProblem: it cannot be written.
        """
        data = json_bytes(sa1b_file(document, image, photo.name)) + b"\n"
        ensure_folder(self.annotations)
        with self._locked():
            present = self.revision(photo)
            if present != revision:
                raise RevisionConflict(present)
            write_bytes(self.file_of(photo), data)
        return hashlib.sha256(data).hexdigest()[:20]

    def summary(self, photo: Photo) -> Summary:
        """What the photo's file says in short; files that have not changed are not read again."""
        path = self.file_of(photo)
        try:
            status = path.stat()
        except OSError:
            return Summary()
        stamp = status.st_mtime_ns, status.st_size
        known = self._summaries.get(photo.key)
        if known is None or known[0] != stamp:
            known = self._summaries[photo.key] = stamp, _summarise(path)
        return known[1]

    @property
    def last(self) -> str | None:
        """Key of the photo that was worked on last; None if there is none."""
        try:
            content = json.loads((self.annotations / "project.json").read_bytes())
            return str(content["last"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, photo: Photo) -> None:
        """Note that this photo is worked on. Raises EnvironmentProblem."""
        write_json(self.annotations / "project.json", {"last": photo.key, "file_name": photo.name})

    def _photo(self, path: Path) -> Photo:
        name = path.relative_to(self.folder).as_posix()
        return Photo(hashlib.sha256(os.fsencode(name)).hexdigest()[:16], path, name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One reader or writer at a time, in all processes where the system has locks for that."""
        with self._lock, alone_in(self.annotations):
            yield


def _summarise(path: Path) -> Summary:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        own = content.get(KEY, {})
        labels = Counter(mask["label"] for mask in content["annotations"] if mask.get("label"))
        return Summary(
            str(own.get("state", "open")),
            len(content["annotations"]),
            len(own.get("proposed", [])),
            tuple(labels.most_common()),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Summary(state="unreadable")


def find_projects(root: Path) -> list[Project]:
    """``root`` itself if it holds photos directly, else each of its folders that holds some.

    Raises:
        UsageError: no such folder.
        BadImage: no photo anywhere.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder", code="folder_missing", field="folder")
    found = find_images([root])
    if any(path.parent == root for path in found):
        return [Project(root)]
    folders = {root / path.relative_to(root).parts[0]: None for path in found}
    return [Project(folder) for folder in folders]
