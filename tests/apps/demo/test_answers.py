"""Photos, answers, and what is made of them: pictures, tables, files."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapters.base import Request
from adapters.boxes import Boxes
from adapters.edges import Edges
from adapters.everything import Everything
from adapters.points import Points
from apps.demo import photos as photos_module
from apps.demo import showing
from apps.demo.answering import Found, answer
from apps.demo.files import files_of
from apps.demo.marks import draw_marks
from apps.demo.photos import Photos, example_photos
from apps.demo.session import Mode, Session, Suggestion
from composer import load_pipeline
from composer.composer import Composer
from composer.engine.engine import Engine
from composer.pipeline import Pipeline
from sam.errors import BadImage, BadPrompt, DeadlineExceeded, Unavailable, UsageError


def ask(photos: Photos, photo: str, asked: Request | Pipeline) -> Found:
    return answer(photos, photo, asked, lambda share, what: None)


def test_a_photo_is_encoded_once_for_all_questions(photos: Photos, photo: str) -> None:
    passes = [ask(photos, photo, r).passes for r in (Points([[20, 20]]), Boxes([[2, 2, 40, 40]]), Edges())]
    assert passes == [1, 0, 0]
    copied = str(Path(photo).with_name("copy.png"))
    shutil.copy(photo, copied)
    assert ask(photos, copied, Points([[20, 20]])).passes == 0, "the same pixels are the same photo"


def test_questions_are_jobs_of_the_engine(photos: Photos, photo: str) -> None:
    before, heard = photos.engine.stats.answered, []
    answer(photos, photo, Points([[20, 20]]), lambda share, what: heard.append((share, what)))
    assert photos.engine.stats.answered == before + 1
    assert [share for share, _ in heard] == sorted(share for share, _ in heard)
    assert [what for _, what in heard][1:] == ["waiting for its turn", "looking at the photo, once", "points"]
    with pytest.raises(BadPrompt, match="at most 4096"):
        ask(photos, photo, Boxes([[1, 1, 5, 5]] * 5000))


def test_a_full_queue_and_an_answer_that_is_late(
    photos: Photos, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(photos.engine._queue, "_full", lambda: True)
        with pytest.raises(Unavailable, match="requests are waiting already; try again"):
            ask(photos, photo, Points([[20, 20]]))
    monkeypatch.setattr(photos.composer, "limits", replace(photos.composer.limits, deadline_seconds=1e-6))
    with pytest.raises(DeadlineExceeded, match="not ready in time"):
        ask(photos, photo, Points([[20, 20]]))


def test_old_photos_go_and_come_back(
    photos: Photos, photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos_module, "KEPT", 1)
    other = str(tmp_path / "other.png")
    Image.new("RGB", (20, 20)).save(other)
    first = photos.open(photo)
    assert photos.open(photo) is first
    photos.open(other)
    assert photos.open(photo) is not first


def test_large_photos_are_shown_smaller_and_answered_in_full(photos: Photos, tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (3000, 1500), (90, 120, 60)).save(path)
    opened = photos.open(str(path))
    assert opened.shown.shape == (640, 1280, 3) and opened.scale == pytest.approx(1280 / 3000)
    found = ask(photos, str(path), Boxes([[100, 100, 2000, 1000]]))
    assert found.answers[0].result.image_size == (1500, 3000)
    for mask in showing.picture_of(found, opened).masks:
        assert Image.open(io.BytesIO(mask.png)).size == (1280, 640)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.png", b"", "image_empty"),
        ("text.png", b"not a picture", "image_format"),
        ("cut.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 40, "image_corrupt"),
        ("page.pdf", b"%PDF-1.4", "image_format"),
    ],
)
def test_bad_photos_are_refused_without_their_folder(
    photos: Photos, tmp_path: Path, name: str, content: bytes, code: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadImage) as refused:
        photos.open(str(tmp_path / name))
    assert refused.value.code == code
    assert name in str(refused.value) and str(tmp_path) not in str(refused.value)


def test_a_file_over_the_limit_is_not_read(composer: Composer, engine: Engine, photo: str) -> None:
    small = Photos(engine)
    limits = composer.limits
    composer.limits = replace(limits, max_body_bytes=100)
    try:
        with pytest.raises(BadImage, match="at most 0 MiB"):
            small.open(photo)
    finally:
        composer.limits = limits


@pytest.mark.parametrize("path", ["", "/nowhere/gone.jpg"])
def test_no_photo(photos: Photos, path: str) -> None:
    with pytest.raises(UsageError) as refused:
        photos.open(path)
    assert refused.value.code == "photo_missing" and "nowhere" not in str(refused.value)


def test_examples_are_photos_of_installed_packages(photos: Photos) -> None:
    paths = example_photos()
    assert any(path.name == "bus.jpg" for path in paths) and len(paths) >= 3
    for path in paths:
        assert min(photos.open(str(path)).image.size) > 200


@pytest.mark.parametrize(
    ("mode", "session"),
    [
        ("click", Session("a").marked("click", 30, 20, 1)),
        ("box", Session("a").marked("box", 30, 20, 1)),
        ("box", Session("a").marked("box", 20, 10, 1).marked("box", 40, 30, 1)),
        ("text", Session("a", hint=Suggestion("", 30, 20))),
        ("text", Session("a", suggestions=(Suggestion("dog", 30, 20),))),
    ],
)
def test_marks_are_drawn_on_their_own_tab_only(
    photos: Photos, photo: str, mode: Mode, session: Session
) -> None:
    opened = photos.open(photo)
    before = opened.shown.copy()
    assert (draw_marks(opened, session, mode) != before).any()
    assert np.array_equal(draw_marks(opened, session, "everything"), before)
    assert np.array_equal(opened.shown, before), "the photo itself is left as it is"


def test_the_picture_has_the_masks_of_the_answer(photos: Photos, photo: str) -> None:
    found = ask(photos, photo, Points([[20, 20]], masks="all"))
    picture = showing.picture_of(found, photos.open(photo))
    assert Image.open(io.BytesIO(picture.base)).size == (60, 45)
    by_number = {int(mask.label.split()[0]): mask for mask in picture.masks}
    assert sorted(by_number) == [1, 2, 3] and len({m.colour for m in picture.masks}) > 1
    for number, instance in enumerate(found.answers[0].result, start=1):  # type: ignore[arg-type]
        shown = Image.open(io.BytesIO(by_number[number].png)).convert("RGBA")
        assert np.array_equal(np.asarray(shown)[..., 3] > 0, instance.mask)
        assert f"reading {instance.ambiguity + 1}" in by_number[number].label
    areas = [
        (np.asarray(Image.open(io.BytesIO(m.png)).convert("RGBA"))[..., 3] > 0).sum() for m in picture.masks
    ]
    assert areas == sorted(areas, reverse=True), "the small ones lie on top"


def test_the_table_has_a_row_for_each_mask_and_no_empty_column(photos: Photos, photo: str) -> None:
    found = ask(photos, photo, Points([[20, 20]], masks="all"))
    table = showing.table_of(found)
    count = len(found.answers[0].result)  # type: ignore[arg-type]
    assert count > 1 and [row[0] for row in table["data"]] == list(range(1, count + 1))
    assert "text" not in table["headers"], "no phrase was asked for"
    assert {len(row) for row in table["data"]} == {len(table["headers"])}
    assert showing.table_of(None) == {"headers": ["#"], "data": []}


def test_one_line_says_how_much_and_how_often_encoded(photos: Photos, photo: str) -> None:
    first = showing.line_of(ask(photos, photo, Points([[20, 20]])))
    assert first.startswith("**1 mask**") and "photo encoded in" in first
    again = showing.line_of(ask(photos, photo, Edges(points_per_side=4)))
    assert again.startswith("**edges**") and "photo encoded before" in again
    found = ask(photos, photo, Everything(points_per_side=4))
    nothing = replace(found.answers[0], result=found.answers[0].result[:0])  # type: ignore[index]
    assert showing.line_of(replace(found, answers=(nothing,))).startswith("**nothing found**")


def test_files(photos: Photos, photo: str) -> None:
    found = ask(photos, photo, Points([[20, 20]], masks="all"))
    files = files_of(found, photos)
    assert files.coco is not None and files.coco.name == "street.coco.json"
    dataset = json.loads(files.coco.data)
    assert dataset["images"][0]["file_name"] == "street.png" and len(dataset["annotations"]) == 3
    with zipfile.ZipFile(io.BytesIO(files.masks.data)) as archive:
        names = set(archive.namelist())
        mask = np.asarray(Image.open(io.BytesIO(archive.read("masks/street/000.png"))))
    assert {"masks/street/002.png", "masks/street.ids.png", "street.json"} <= names
    assert np.array_equal(mask > 0, found.answers[0].result[0].mask)  # type: ignore[index]
    assert Image.open(io.BytesIO(files.overlay.data)).size == (60, 45)


def test_edges_have_files_of_their_own(photos: Photos, photo: str) -> None:
    files = files_of(ask(photos, photo, Edges(points_per_side=4)), photos)
    assert files.coco is None
    with zipfile.ZipFile(io.BytesIO(files.masks.data)) as archive:
        assert "street.edges.png" in archive.namelist()


def test_a_pipeline_is_answered_by_its_steps(photos: Photos, photo: str) -> None:
    heard: list[str] = []
    found = answer(photos, photo, load_pipeline("largest"), lambda share, what: heard.append(what))
    assert [one.name for one in found.answers] == ["things"]
    assert {"everything", "large", "things"} <= set(heard)
    table = showing.table_of(found)
    assert all(row[table["headers"].index("label")] == "things" for row in table["data"])
