"""Sets are packed once, from folders and tar files alike, and a hostile tar file leaves nothing behind."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from composer import training_data
from composer.training_data import DataSet, find_source, opened, pack_sets, unpack_tar, write_panoptic
from sam.errors import BadAnnotation, EnvironmentProblem, UsageError
from sam.training.data import PackedSet, read_panoptic
from sam.training.shapes import made_photos

PHOTOS = DataSet("scenes", "panoptic", "photos", 1.0)
FILES = ("pixels.bin", "ids.bin", "table.npy")


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing in threads of this process: starting an interpreter for each set takes seconds."""
    monkeypatch.setattr(training_data, "worker_pool", ThreadPoolExecutor)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with the folder ``photos``: six of them."""
    write_panoptic(made_photos(6, side=32), tmp_path / "root/photos")
    return tmp_path / "root"


def tar_of(folder: Path, path: Path, mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(folder, folder.name)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_and_a_tar_file_give_the_same_pack(root: Path, tmp_path: Path) -> None:
    """In processes of their own, as a run packs them."""
    (tmp_path / "tars").mkdir()
    tar_of(root / "photos", tmp_path / "tars/photos.tar")
    told: list[tuple[str, int]] = []
    (packed,) = pack_sets([PHOTOS], root, tmp_path / "a", on_packed=lambda *one: told.append(one))
    pack_sets([PHOTOS], tmp_path / "tars", tmp_path / "b")
    assert told == [("scenes", 6)] and packed.name == "scenes"
    assert bytes_of(tmp_path / "a/scenes") == bytes_of(tmp_path / "b/scenes")
    for index, photo in enumerate(read_panoptic(root / "photos")):
        assert np.array_equal(packed.photo(index), photo.pixels)
        assert np.array_equal(packed.layer(index, 0), photo.layers[0])
    assert names(tmp_path / "a") == names(tmp_path / "b") == {"scenes"}  # what was unpacked is gone


@pytest.mark.usefixtures("in_threads")
class TestAPackThatIsThere:
    def again(
        self, root: Path, folder: Path, one: DataSet = PHOTOS, **options: int
    ) -> tuple[bool, PackedSet]:
        """Whether packing again wrote anything, and the pack."""
        before = (folder / "scenes/pixels.bin").stat()
        (packed,) = pack_sets([one], root, folder, **options)
        after = (folder / "scenes/pixels.bin").stat()
        return (before.st_mtime_ns, before.st_ino) != (after.st_mtime_ns, after.st_ino), packed

    def test_is_reused_whatever_its_weight(self, root: Path, tmp_path: Path) -> None:
        pack_sets([PHOTOS], root, tmp_path / "packed")
        assert self.again(root, tmp_path / "packed")[0] is False
        heavier = replace(PHOTOS, weight=7.0, licence="mine")
        assert self.again(root, tmp_path / "packed", heavier)[0] is False

    def test_is_packed_again_when_other_photos_are_held_out(self, root: Path, tmp_path: Path) -> None:
        pack_sets([PHOTOS], root, tmp_path / "packed")
        anew, packed = self.again(root, tmp_path / "packed", replace(PHOTOS, skip=2))
        assert anew and len(packed) == 4
        third = list(read_panoptic(root / "photos"))[2]
        assert np.array_equal(packed.photo(0), third.pixels)

    def test_is_packed_again_for_another_size_or_source(self, root: Path, tmp_path: Path) -> None:
        pack_sets([PHOTOS], root, tmp_path / "packed")
        anew, packed = self.again(root, tmp_path / "packed", long_side=16)
        assert anew and packed.photo(0).shape == (16, 16, 3)
        write_panoptic(made_photos(3, side=32), tmp_path / "elsewhere/photos")
        anew, packed = self.again(tmp_path / "elsewhere", tmp_path / "packed", long_side=16)
        assert anew and len(packed) == 3

    @pytest.mark.parametrize("content", [None, "", "[]", "{"])
    def test_is_packed_again_when_packing_was_interrupted(
        self, root: Path, tmp_path: Path, content: str | None
    ) -> None:
        pack_sets([PHOTOS], root, tmp_path / "packed")
        about = tmp_path / "packed/scenes/about.json"
        about.unlink() if content is None else about.write_text(content)
        anew, packed = self.again(root, tmp_path / "packed")
        assert anew and len(packed) == 6

    def test_is_packed_again_when_a_photo_has_come_or_changed(self, root: Path, tmp_path: Path) -> None:
        pack_sets([PHOTOS], root, tmp_path / "packed")
        photo = next((root / "photos/images").iterdir())
        os.utime(photo, (1, 2**31))
        assert self.again(root, tmp_path / "packed")[0] is True
        assert self.again(root, tmp_path / "packed")[0] is False
        (root / "photos/images/more.txt").touch()
        assert self.again(root, tmp_path / "packed")[0] is True


@pytest.mark.usefixtures("in_threads")
class TestWhatCannotBePacked:
    def test_where_something_else_lies(self, root: Path) -> None:
        """A folder of the set's name, which may be the set itself."""
        before = sorted(path for path in root.rglob("*"))
        with pytest.raises(UsageError, match="which is of no packed set") as caught:
            pack_sets([replace(PHOTOS, name="photos")], root, root)
        assert caught.value.field == "packed"
        assert sorted(path for path in root.rglob("*")) == before

    def test_a_source_that_is_missing(self, root: Path, tmp_path: Path) -> None:
        sets = [PHOTOS, replace(PHOTOS, name="other", source="sets/none")]
        with pytest.raises(UsageError, match=r"none: neither a folder nor a \.tar file; --data") as caught:
            pack_sets(sets, root, tmp_path / "packed")
        assert caught.value.code == "data_missing" and caught.value.field == "data"
        assert names(tmp_path / "packed") == set()  # found before any work
        with pytest.raises(UsageError) as caught:
            find_source(tmp_path / "nowhere", "photos")
        assert caught.value.code == "data_missing"

    def test_a_file_is_no_folder(self, root: Path) -> None:
        (root / "file").touch()
        with pytest.raises(UsageError, match=r"neither a folder nor a \.tar file"):
            find_source(root, "file")

    def test_a_set_of_which_everything_is_held_out(self, root: Path, tmp_path: Path) -> None:
        for _ in range(2):  # what the first try leaves does not pass for a pack
            with pytest.raises(BadAnnotation, match="photos: no photo left after the first 6"):
                pack_sets([replace(PHOTOS, skip=6)], root, tmp_path / "packed")

    def test_a_damaged_photo(self, root: Path, tmp_path: Path) -> None:
        photo = root / "photos/images/00003.png"
        photo.write_bytes(photo.read_bytes()[:200])
        with pytest.raises(BadAnnotation, match=r"00003\.png: cannot be read as an image"):
            pack_sets([PHOTOS], root, tmp_path / "packed")
        write_panoptic(made_photos(6, side=32), root / "photos")
        (packed,) = pack_sets([PHOTOS], root, tmp_path / "packed")
        assert len(packed) == 6

    def test_a_folder_that_cannot_be_written(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "packed").touch()
        with pytest.raises(EnvironmentProblem, match="packed: cannot be written"):
            pack_sets([PHOTOS], root, tmp_path / "packed")


def cut(path: Path, keep: int | float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])


HOSTILE: dict[str, list[tarfile.TarInfo]] = {
    "symbolic link": [member("photos/link", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link": [member("photos/link", tarfile.LNKTYPE, "photos/images/00000.png")],
    "folder link": [member("photos/out", tarfile.SYMTYPE, "/tmp"), member("photos/out/x")],
    "device": [member("photos/null", tarfile.CHRTYPE)],
    "pipe": [member("photos/pipe", tarfile.FIFOTYPE)],
    "upwards": [member("photos/../../outside")],
    "absolute": [member("/tmp/sam-composer-outside")],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_tar_file_with_anything_but_plain_files_inside(root: Path, tmp_path: Path, kind: str) -> None:
    path = tar_of(root / "photos", root / "bad.tar")
    with tarfile.open(path, "a") as archive:
        for info in HOSTILE[kind]:
            archive.addfile(info, io.BytesIO())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    complaint = pytest.raises(BadAnnotation, match="is no plain file inside the archive's folder")
    with complaint as caught, opened("panoptic", "bad", root, scratch):
        pytest.fail("was opened")
    assert "bad.tar" in str(caught.value) and repr(HOSTILE[kind][0].name) in str(caught.value)
    assert names(scratch) == set()
    assert not (tmp_path / "outside").exists() and not Path("/tmp/sam-composer-outside").exists()


def break_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0:8] = b"\xff" * 8  # the checksum of the first header no longer fits
    path.write_bytes(data)


def compress_and_break(path: Path) -> None:
    tar_of(path.parents[1] / "photos", path, "w:gz")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: cut(path, 0.6),
        lambda path: cut(path, 300),
        lambda path: cut(path, 0),
        lambda path: path.write_bytes(b"I am no archive" * 100),
        break_header,
        compress_and_break,
    ],
    ids=["cut off", "cut off in the first header", "empty", "text", "header", "compressed and damaged"],
)
def test_a_damaged_tar_file(root: Path, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    (root / "photos").rename(tmp_path / "photos")
    path = tar_of(tmp_path / "photos", root / "photos.tar")
    damage(path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    complaint = pytest.raises(BadAnnotation, match=r"photos\.tar: not a readable tar file")
    with complaint, opened("panoptic", "photos", root, scratch):
        pytest.fail("was opened")
    assert names(scratch) == set()


def test_a_tar_file_that_would_fill_the_disk(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tar_of(root / "photos", tmp_path / "photos.tar")
    size = sum(file.stat().st_size for file in (root / "photos").rglob("*") if file.is_file())
    monkeypatch.setattr(training_data, "MAX_UNPACKED_BYTES", size)
    unpack_tar(path, tmp_path / "a")
    monkeypatch.setattr(training_data, "MAX_UNPACKED_BYTES", size - 1)
    with pytest.raises(BadAnnotation, match="GiB when unpacked"):
        unpack_tar(path, tmp_path / "b")


def test_what_is_unpacked_is_gone_after_the_block_even_when_it_fails(root: Path, tmp_path: Path) -> None:
    (root / "photos").rename(tmp_path / "photos")
    tar_of(tmp_path / "photos", root / "photos.tar")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(ZeroDivisionError), opened("panoptic", "photos", root, scratch) as folder:
        assert folder.is_relative_to(scratch) and (folder / "panoptic.json").is_file()
        raise ZeroDivisionError
    assert names(scratch) == set()


def test_a_tar_file_may_hold_its_files_without_a_folder(root: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "flat.tar", "w") as archive:
        archive.add(root / "photos", ".")
    with opened("panoptic", "flat", tmp_path, root) as folder:
        assert len(list(read_panoptic(folder))) == 6


def test_made_photos_are_made_anew_and_differ_between_counts(tmp_path: Path) -> None:
    with opened("shapes", "2", tmp_path, tmp_path) as folder:
        two = [photo.pixels for photo in read_panoptic(folder)]
    with opened("shapes", "3", tmp_path, tmp_path) as folder:
        three = [photo.pixels for photo in read_panoptic(folder)]
    assert (len(two), len(three)) == (2, 3) and names(tmp_path) == set()
    assert not any(np.array_equal(a, b) for a in two for b in three)
