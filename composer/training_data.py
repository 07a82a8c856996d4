"""The photos of a training run: named sets, as folders or tar files, packed once for fast reading."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image as PILImage

from composer.evaluation.ground_truth import GroundTruth
from composer.formats.atomic import alone_in, atomic_file, ensure_folder, write_json, writing
from composer.processes import worker_pool
from composer.training_photos import labelled_photos, open_truth
from sam.errors import BadAnnotation, UsageError
from sam.training.data import LabelledPhoto, PackedSet, pack, read_bsds, read_panoptic
from sam.training.shapes import made_photos

MAX_UNPACKED_BYTES = 64 << 30
"""Most bytes that one tar file may hold."""
ABOUT = "about.json"
PACKED = frozenset({"pixels.bin", "ids.bin", "counts.npy", "table.npy", "texts", ABOUT})
"""What lies in the folder of a packed set."""
FORMATS = ("panoptic", "coco", "sa1b", "masks", "bsds", "shapes")
COCO_FILES = ("images", "annotations.json")
"""What the photos' folder and the annotation file of a COCO set are called, unless it says otherwise."""


@dataclass(frozen=True)
class DataSet:
    """A set of labelled photos of a training run.

    Attributes:
        name: what the run calls it.
        format: one of :data:`FORMATS`: ``panoptic``, ``coco`` (instances), ``sa1b``, ``masks`` (see
            :func:`composer.evaluation.ground_truth.open_mask_folder`), ``bsds`` or ``shapes``.
        source: name under the data root: a folder, or NAME.tar with one; for made shapes how many photos.
        weight: relative share of the samples.
        skip: the first so many photos (by image id or name) are held out; not of BSDS or shapes.
        splits: of BSDS500.
        licence: as its source states it, for the model card.
        images, annotations: of COCO instances: folder of the photos and annotation file, in the source.
    """

    name: str
    format: str
    source: str
    weight: float
    skip: int = 0
    splits: tuple[str, ...] = ("train", "val")
    licence: str = ""
    images: str = COCO_FILES[0]
    annotations: str = COCO_FILES[1]

    def told(self) -> dict[str, Any]:
        """All that it says, as plain values; names of COCO files only where there are any."""
        unsaid = () if self.format == "coco" else ("images", "annotations")
        return {key: value for key, value in asdict(self).items() if key not in unsaid}

    def open_truth(self, folder: Path) -> GroundTruth:
        """Its labelled photos in an opened source; not of BSDS. Raises as :func:`open_truth`."""
        return open_truth(self.format, folder, self.images, self.annotations)


def find_source(root: Path, source: str) -> Path:
    """The folder ``root/source``, or else the file ``root/source.tar``.

    Raises:
        UsageError: neither exists.
    """
    for path in (root / source, root / f"{source}.tar"):
        if path.is_dir() or (path.suffix == ".tar" and path.is_file()):
            return path
    raise UsageError(
        f"{root / source}: neither a folder nor a .tar file; --data names the folder that holds the sets",
        code="data_missing",
        field="data",
    )


def pack_sets(
    sets: Sequence[DataSet],
    root: Path,
    folder: Path,
    *,
    long_side: int = 512,
    processes: int = 2,
    on_packed: Callable[[str, int], None] | None = None,
) -> list[PackedSet]:
    """Decode every set once, in parallel processes; a set that is packed already is only opened.

    Args:
        sets: what to pack.
        root: folder of the sources.
        folder: for the packs, one folder each.
        long_side: larger photos are shrunk to this.
        processes: at most so many at a time.
        on_packed: called with a set's name and number of photos once it is ready.

    Raises:
        UsageError: a source that is not there, or a folder of a pack's name with anything else in it.
        BadAnnotation: a set that contradicts itself, or without photos.
        EnvironmentProblem: the folder cannot be written.
    """
    ensure_folder(folder)
    with alone_in(folder):  # several runs may share it
        return _packed(sets, root, folder, long_side, processes, on_packed)


def _packed(
    sets: Sequence[DataSet],
    root: Path,
    folder: Path,
    long_side: int,
    processes: int,
    on_packed: Callable[[str, int], None] | None,
) -> list[PackedSet]:
    sizes = {one.name: _source_size(one, root) for one in sets}
    missing = [one for one in sets if not _is_packed(folder / one.name, _about(one, root, long_side))]
    for one in sets:
        if one not in missing and on_packed:
            on_packed(one.name, len(PackedSet.open(folder / one.name)))
    workers = max(1, min(processes, len(missing)))
    if missing:
        with worker_pool(workers) as pool:
            jobs = [
                pool.submit(_pack_one, one, root, folder, long_side)
                for one in sorted(missing, key=lambda one: -sizes[one.name])
            ]
            try:
                for job in as_completed(jobs):
                    name, count = job.result()
                    if on_packed:
                        on_packed(name, count)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [PackedSet.open(folder / one.name) for one in sets]


def _source_size(one: DataSet, root: Path) -> int:
    """Bytes of a tar file; folders and made photos count as 0."""
    path = None if one.format == "shapes" else find_source(root, one.source)
    return path.stat().st_size if path is not None and path.is_file() else 0


def _pack_one(one: DataSet, root: Path, folder: Path, long_side: int) -> tuple[str, int]:
    """Pack one set in a process of its own: (name, number of photos)."""
    target = folder / one.name
    with opened(one.format, one.source, root, folder) as source, writing(target):
        _clear(target)
        photos = _photos(one, source, long_side)
        first = next(photos, None)
        if first is None:
            raise BadAnnotation(f"{one.source}: no photo left after the first {one.skip}")
        packed = pack(chain([first], photos), target, long_side)
    write_json(target / ABOUT, _about(one, root, long_side))
    return one.name, len(packed)


def _clear(target: Path) -> None:
    """Make way for a pack, where nothing lies but an earlier or a broken one.

    Raises:
        UsageError: the folder has files that no pack has: the photos of a set, perhaps.
    """
    there = {path.name for path in target.iterdir()} if target.is_dir() else set()
    foreign = sorted(name for name in there - PACKED if not name.startswith("."))
    if foreign:
        raise UsageError(
            f"{target}: holds {foreign[0]!r}, which is of no packed set, and would have to go: "
            "choose another folder with --packed",
            field="packed",
        )
    shutil.rmtree(target, ignore_errors=True)


def _photos(one: DataSet, source: Path, long_side: int) -> Iterator[LabelledPhoto]:
    if one.format == "bsds":
        return read_bsds(source, one.splits)
    if one.format in ("panoptic", "shapes"):
        return read_panoptic(source, one.skip)
    return labelled_photos(one.open_truth(source), one.skip, long_side)


def _about(one: DataSet, root: Path, long_side: int) -> dict[str, object]:
    """What a pack was made of: another answer means packing again. How often it is drawn does not matter."""
    told = {key: value for key, value in one.told().items() if key not in ("weight", "licence")}
    path = None if one.format == "shapes" else str(find_source(root, one.source).resolve())
    about = {**told, "path": path, "size": _source_size(one, root), "long_side": long_side}
    if path is not None and Path(path).is_dir():
        about["files"], about["newest"] = _state_of(Path(path))
    return dict(json.loads(json.dumps(about)))


def _state_of(folder: Path) -> tuple[int, int]:
    """How many files are below a folder, and when the newest was changed, ns."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return len(files), max((file.st_mtime_ns for file in files), default=0)


def _is_packed(target: Path, about: dict[str, object]) -> bool:
    try:
        return bool(json.loads((target / ABOUT).read_text()) == about) and (target / "table.npy").is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def opened(format: str, source: str, root: Path, scratch: Path) -> Iterator[Path]:
    """The data folder of a source; what is unpacked or made for it lies in ``scratch`` until the block ends.

    Raises:
        UsageError: a source that is not there.
        BadAnnotation: a damaged tar file, or one with anything but plain files inside its folder.
    """
    path = None if format == "shapes" else find_source(root, source)
    if path is not None and path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=scratch) as temporary:
        target = Path(temporary)
        if path is None:
            # Sets of different sizes share no photo, so that one can be held out for another.
            write_panoptic(made_photos(int(source), seed=int(source)), target)
            yield target
        else:
            unpack_tar(path, target)
            entries = list(target.iterdir())
            yield entries[0] if len(entries) == 1 and entries[0].is_dir() else target


def write_panoptic(photos: Iterable[LabelledPhoto], folder: Path) -> None:
    """Write photos with their first layer as a COCO-panoptic folder. Raises :class:`EnvironmentProblem`."""
    images, annotations = [], []
    for number, photo in enumerate(photos, 1):
        name, layer = f"{Path(photo.name).stem}.png", photo.layers[0]
        ids = [int(i) for i in np.unique(layer) if i]
        images.append({"id": number, "file_name": name, "height": layer.shape[0], "width": layer.shape[1]})
        segments = [{"id": i, "category_id": 1, "iscrowd": 0, "area": int((layer == i).sum())} for i in ids]
        annotations.append({"image_id": number, "file_name": name, "segments_info": segments})
        coded = np.stack([layer, np.zeros_like(layer), np.zeros_like(layer)], 2)
        for kind, pixels in (("images", photo.pixels), ("panoptic", coded)):
            with atomic_file(folder / kind / name) as file:
                PILImage.fromarray(pixels).save(file, "PNG")
    categories = [{"id": 1, "name": "segment", "isthing": 1}]
    index = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "panoptic.json", index)


def unpack_tar(path: Path, target: Path) -> None:
    """Unpack plain files and nothing else: no links, no devices, no name that leads outside of ``target``.

    Raises:
        BadAnnotation: any of these, or a damaged file.
    """
    total = 0
    try:
        with tarfile.open(path, "r:") as archive:  # uncompressed: no decompressor meets hostile bytes
            for member in archive:
                name = PurePosixPath(member.name)
                if member.isdir():
                    continue
                if not member.isreg() or name.is_absolute() or ".." in name.parts or not name.name:
                    raise BadAnnotation(
                        f"{path}: {member.name!r} is no plain file inside the archive's folder"
                    )
                total += member.size
                if total > MAX_UNPACKED_BYTES:
                    raise BadAnnotation(f"{path}: over {MAX_UNPACKED_BYTES >> 30} GiB when unpacked")
                content = archive.extractfile(member)
                assert content is not None  # a regular member has content
                file = target / name
                with writing(file):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with content, file.open("wb") as out:
                        shutil.copyfileobj(content, out)
    except (tarfile.TarError, EOFError) as error:
        raise BadAnnotation(f"{path}: not a readable tar file ({error})") from error
