"""Which files a list of files and folders means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from composer.folders import find_images
from sam.errors import BadImage, UsageError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.JPG",
        "a.png",
        "notes.txt",
        "sub/c.webp",
        "sub/deep/d.tiff",
        ".hidden/e.png",
        "._a.png",
        "B/f.bmp",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(found: list[Path], top: Path) -> list[str]:
    return [path.relative_to(top).as_posix() for path in found]


def test_a_folder_is_searched_to_the_bottom_in_sorted_order(tree: Path) -> None:
    assert names(find_images([tree]), tree) == ["a.png", "b.JPG", "B/f.bmp", "sub/c.webp", "sub/deep/d.tiff"]


def test_files_named_outright_come_in_their_order_whatever_their_name(tree: Path) -> None:
    asked = [tree / "notes.txt", tree / "b.JPG", tree / "a.png"]
    assert find_images(asked) == asked
    assert find_images([str(path) for path in asked]) == asked


def test_nothing_is_done_twice(tree: Path) -> None:
    assert names(find_images([tree / "sub" / "c.webp", tree, tree / "sub"]), tree)[0] == "sub/c.webp"
    assert len(find_images([tree / "sub" / "c.webp", tree, tree / "sub"])) == 5


def test_link_loops_end(tree: Path) -> None:
    (tree / "sub" / "up").symlink_to(tree)
    (tree / "sub" / "deep" / "self").symlink_to(".")
    (tree / "loop.jpg").symlink_to("loop.jpg")
    found = names(find_images([tree]), tree)
    assert len(found) == 6 and "loop.jpg" in found


def test_a_linked_folder_is_followed(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "z.png").touch()
    (tree / "linked").symlink_to(elsewhere)
    assert "linked/z.png" in names(find_images([tree]), tree)


def test_items_that_will_fail_are_listed_so_that_they_fail_one_by_one(tree: Path) -> None:
    os.mkfifo(tree / "fifo.jpg")
    (tree / "dangling.jpg").symlink_to("gone")
    found = names(find_images([tree]), tree)
    assert {"fifo.jpg", "dangling.jpg"} <= set(found)
    assert find_images([tree / "missing.jpg", tree / "a.png"]) == [tree / "missing.jpg", tree / "a.png"]


def test_missing_folder(tree: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder") as caught:
        find_images([tree / "nowhere"])
    assert caught.value.exit_code == 2


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(BadImage, match="no images found") as caught:
        find_images([tmp_path])
    assert (caught.value.code, caught.value.exit_code) == ("no_images", 3)


def test_nothing_asked() -> None:
    with pytest.raises(UsageError, match="no image given"):
        find_images([])


def test_a_folder_that_cannot_be_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: str) -> object:
        if os.fspath(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(UsageError, match="sub: the folder cannot be listed: Permission denied"):
        find_images([tree])
