"""Projects on disk: what is written, what is refused, and that nobody overwrites anybody."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from composer.images import open_image
from composer.projects.coco import write_coco
from composer.projects.document import Document, parse_document, read_document
from composer.projects.project import NEW, Project, RevisionConflict, UnknownItem, find_projects
from sam.errors import BadAnnotation, BadImage, EnvironmentProblem, UsageError

from .conftest import SIZE, mask


def document(**parts: Any) -> Document:
    return parse_document({"annotations": [], "proposed": [], "state": "open"} | parts, SIZE)


def save(project: Project, number: int, content: Document, revision: str = NEW) -> str:
    photo = project.photos()[number]
    return project.save(photo, open_image(photo.path), content, revision)


def test_what_is_saved_is_read_again(project: Project) -> None:
    kept = mask("one", label="dog", point_coords=[[5.0, 6.5]], point_labels=[1], predicted_iou=0.5)
    content = document(annotations=[kept], proposed=[mask("two", 9, draft=True)], state="done")
    revision = save(project, 1, content)
    photo = project.photos()[1]
    assert project.read(photo, SIZE) == (content, revision)
    assert Project(project.folder).read(photo, SIZE) == (content, revision)


def test_the_file_is_sa1b(project: Project) -> None:
    save(project, 1, document(annotations=[mask("one", label="dog")], proposed=[mask("two")]))
    path = project.folder / "annotations/sa1b/day/b.png.json"
    content = json.loads(path.read_text())
    assert content["image"] | {"sha256": "", "image_id": 0} == {
        "image_id": 0, "width": 40, "height": 30, "file_name": "day/b.png", "sha256": "",
    }  # fmt: skip
    (record,) = content["annotations"]
    assert (record["bbox"], record["area"], record["label"], record["id"]) == ([3, 5, 10, 8], 80, "dog", 1)
    assert {"predicted_iou", "stability_score", "crop_box", "point_coords", "segmentation"} <= set(record)


def test_a_file_of_another_tool_is_taken_up(project: Project) -> None:
    """SA-1B as it is published: no uid, no labels of points, no state."""
    record = {
        "id": 7, "segmentation": mask("x")["segmentation"], "bbox": [3, 5, 10, 8], "area": 80,
        "predicted_iou": 0.9, "stability_score": 0.97, "crop_box": [0, 0, 40, 30], "point_coords": [[5, 6]],
    }  # fmt: skip
    photo = project.photos()[0]
    path = project.file_of(photo)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"image": {}, "annotations": [record, record]}))
    found, _ = project.read(photo, SIZE)
    assert len({one.uid for one in found.annotations}) == 2
    assert found.annotations[0].point_labels == [1]


def test_only_who_knows_the_present_revision_may_save(project: Project) -> None:
    first = save(project, 0, document(annotations=[mask("one")]))
    before = project.file_of(project.photos()[0]).read_bytes()
    for stale in (NEW, "0" * 20):
        with pytest.raises(RevisionConflict) as refused:
            save(project, 0, document(), stale)
        assert refused.value.revision == first
    assert project.file_of(project.photos()[0]).read_bytes() == before
    assert save(project, 0, document(), first) != first


def test_of_many_at_once_one_wins(project: Project) -> None:
    """Each from its own Project, as several servers would have: the lock is the file system's."""
    save(project, 1, document())  # the folder is there
    photo = project.photos()[0]
    image, outcomes = open_image(photo.path), []
    start = threading.Barrier(8)

    def attempt(number: int) -> None:
        own, content = Project(project.folder), document(annotations=[mask(f"of-{number}")])
        start.wait()
        try:
            outcomes.append(own.save(photo, image, content, NEW))
        except RevisionConflict as error:
            outcomes.append(error)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    saved = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(outcomes) == 8 and len(saved) == 1
    assert project.revision(photo) == saved[0]


def test_photos_keep_their_keys(project: Project) -> None:
    keys = {photo.name: photo.key for photo in project.photos()}
    (project.folder / "a.jpg").write_bytes((project.folder / "a.png").read_bytes())
    assert keys.items() <= {photo.name: photo.key for photo in project.photos()}.items()
    files = {project.file_of(photo) for photo in project.photos()}
    assert len(files) == 3
    with pytest.raises(UnknownItem, match="no photo"):
        project.photo("nothing")


def test_summaries_follow_the_files(project: Project) -> None:
    photo = project.photos()[0]
    assert project.summary(photo).state == NEW
    masks = [mask("one", label="dog"), mask("two", label="dog"), mask("three")]
    revision = save(project, 0, document(annotations=masks, proposed=[mask("four")]))
    told = project.summary(photo)
    assert (told.state, told.masks, told.proposed, told.labels) == ("open", 3, 1, (("dog", 2),))
    save(project, 0, document(state="done"), revision)
    assert project.summary(photo).state == "done"
    project.file_of(photo).write_text("{")
    assert project.summary(photo).state == "unreadable"


def test_the_last_photo_is_remembered(project: Project) -> None:
    assert project.last is None
    project.remember(project.photos()[1])
    assert Project(project.folder).last == project.photos()[1].key
    (project.annotations / "project.json").write_text("[1]")
    assert project.last is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "json"),
        (b"[]", "the document"),
        ({"annotations": [mask("a b")]}, "annotations.0.uid"),
        ({"annotations": [mask("a")], "proposed": [mask("a")]}, "same uid"),
        ({"annotations": [mask("a", label="")]}, "label"),
        ({"annotations": [mask("a", colour="red")]}, "colour"),
        ({"annotations": [mask("a", predicted_iou=float("nan"))]}, "predicted_iou"),
        ({"annotations": [mask("a", point_coords=[[1, 2]])]}, "one label for each point"),
        ({"annotations": [mask("a") | {"segmentation": {"size": [30, 40], "counts": "5"}}]}, "add up"),
        (
            {"annotations": [mask("a") | {"segmentation": {"size": [1, 4], "counts": "4"}}]},
            "photo is 40 x 30",
        ),
        ({"state": "perhaps"}, "state"),
    ],
)
def test_bad_documents(content: Any, told: str) -> None:
    with pytest.raises(BadAnnotation) as refused:
        parse_document(content, SIZE)
    assert told in str(refused.value).lower()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"annotations": 3}', '{"annotations": [{"uid": "a"}]}'])
def test_a_damaged_file_is_told_with_its_name(project: Project, content: str) -> None:
    path = project.folder / "x.json"
    path.write_text(content)
    with pytest.raises(BadAnnotation, match=r"x\.json"):
        read_document(path, SIZE)


def test_coco_of_a_project(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    save(
        project, 0, document(annotations=[mask("one", label="dog"), mask("two", 9)], proposed=[mask("three")])
    )
    save(project, 1, document(state="done"))
    written = write_coco(project)
    assert (written.images, written.annotations) == (2, 2)
    coco = COCO(written.path)
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["dog", "object"]
    (first, second) = coco.loadAnns(coco.getAnnIds())
    assert (first["area"], coco.annToMask(first).sum()) == (80, 80)
    assert np.flatnonzero(coco.annToMask(second).any(0)).tolist() == list(range(9, 19))
    assert coco.loadImgs(first["image_id"])[0]["file_name"] == "a.png"
    write_coco(project)  # over its own file


def test_coco_leaves_out_rejected_and_untouched_photos(project: Project) -> None:
    save(project, 0, document(annotations=[mask("one")], state="rejected"))
    assert write_coco(project)[1:] == (0, 0)


def test_coco_does_not_overwrite_what_is_not_its_own(project: Project) -> None:
    path = project.annotations / "coco/instances.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"images": []}')
    with pytest.raises(EnvironmentProblem, match="left alone"):
        write_coco(project)
    assert path.read_text() == '{"images": []}'


def test_which_folders_are_projects(project: Project, tmp_path: Path) -> None:
    assert [p.name for p in find_projects(project.folder)] == ["set"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/c.png").write_bytes((project.folder / "a.png").read_bytes())
    (tmp_path / "empty").mkdir()
    assert sorted(p.name for p in find_projects(tmp_path)) == ["other", "set"]
    with pytest.raises(BadImage, match="no images"):
        find_projects(tmp_path / "empty")
    with pytest.raises(UsageError, match="no such folder"):
        find_projects(tmp_path / "nowhere")
