"""Different images never share an output name."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.formats.names import MAX_STEM_BYTES, unique_stems


@pytest.mark.parametrize(
    ("paths", "stems"),
    [
        ([], []),
        (["a.jpg"], ["a"]),
        (["x/a.jpg", "b.png"], ["a", "b"]),
        (["a.jpg", "a.png", "b.png"], ["a_jpg", "a_png", "b"]),
        (["x/a.jpg", "y/a.jpg"], ["x-a_jpg", "y-a_jpg"]),
        (["x/1/a.jpg", "y/1/a.jpg", "y/2/a.jpg"], ["x-1-a_jpg", "y-1-a_jpg", "2-a_jpg"]),
        (["v1.2.jpg", "v1.3.jpg"], ["v1.2", "v1.3"]),
        (["x/a_jpg.bmp", "x/a.jpg", "x/a.png"], ["a_jpg_bmp", "x-a_jpg", "a_png"]),
    ],
)
def test_examples(paths: list[str], stems: list[str], tmp_path: Path) -> None:
    assert unique_stems([tmp_path / path for path in paths]) == stems


def test_names_that_differ_only_in_case_get_a_number(tmp_path: Path) -> None:
    first, second = unique_stems([tmp_path / "A.jpg", tmp_path / "a.jpg"])
    assert first.endswith("A_jpg")
    assert second.endswith("a_jpg-2")


def test_no_longer_than_a_file_system_takes(tmp_path: Path) -> None:
    long = ["x" * 250 + end for end in ("1.jpg", "2.jpg")] + ["ü" * 125 + "1.jpg", "ü" * 125 + "2.jpg"]
    found = unique_stems([tmp_path / name for name in long])
    assert len(set(found)) == 4
    assert max(len(os.fsencode(name)) for name in found) <= MAX_STEM_BYTES


def test_names_that_some_file_systems_take_for_the_same(tmp_path: Path) -> None:
    composed, apart = unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg")
    found = unique_stems([tmp_path / composed, tmp_path / apart])
    assert len({unicodedata.normalize("NFC", name).casefold() for name in found}) == 2


PART = st.text("abAB_-.é", min_size=1, max_size=4).filter(lambda part: part.strip("."))


@given(st.lists(st.lists(PART, min_size=1, max_size=3).map("/".join), max_size=8, unique=True))
def test_always_different_and_a_part_of_one_file_name(paths: list[str]) -> None:
    found = unique_stems([Path("/data", path) for path in paths])
    assert len({unicodedata.normalize("NFC", name).casefold() for name in found}) == len(paths)
    assert all(name and "/" not in name for name in found)
    # The names do not depend on the order in which a folder is listed, unless only numbers tell them apart.
    backwards = unique_stems([Path("/data", path) for path in reversed(paths)])[::-1]
    if not any("-2" in name for name in found):
        assert found == backwards
