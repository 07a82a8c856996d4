"""Means by group: who belongs where, and what the intervals say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from composer.evaluation.clicks import RandomClicks
from composer.evaluation.ground_truth import GroundTruth, LabelledImage
from composer.evaluation.groups import Groups, group_scores
from composer.evaluation.report import group_table, groups_json
from composer.evaluation.scoring import Evaluation, ImageScores
from sam.errors import BadAnnotation, UsageError


def photo(name: str, *ious: float, ids: tuple[int | None, ...] = ()) -> ImageScores:
    column = np.array(ious)[:, None]
    return ImageScores(name, (9,) * len(ious), column, column, annotation_ids=ids)


def test_by_photo(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("file_name,place\na.jpg,south\nb.jpg,north\nc.jpg,north\nd.jpg,\n")
    images = (photo("a.jpg", 0.5), photo("b.jpg", 0.2, 0.4), photo("c.jpg", 0.9), photo("d.jpg", 0.0))
    north, south = group_scores(Evaluation("points", (1,), images), Groups.read(path, "place"))
    assert (north.name, north.masks, north.images) == ("north", 3, 2)
    assert north.miou[1].mean == pytest.approx(0.5)
    assert (north.miou[1].low, north.miou[1].high) == pytest.approx(
        (0.3, 0.9)
    )  # one photo twice, or the other
    assert (south.miou[1].mean, south.miou[1].low, south.miou[1].high) == (0.5, None, None)
    assert groups_json([south])["south"]["miou"]["1"] == {"mean": 0.5, "low": None, "high": None}
    table = group_table([north, south], "by place")
    assert [str(cell) for cell in table.columns[3].cells] == ["50.0 [30.0, 90.0]", "50.0 -"]


def test_by_annotation_before_photo(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("annotation_id,file_name,age\n7,a.jpg,old\n8,a.jpg,young\n")
    images = (photo("a.jpg", 0.5, 0.7, 0.1, ids=(7, 8, 9)),)
    found = group_scores(Evaluation("points", (1,), images), Groups.read(path, "age"))
    assert [(g.name, g.miou[1].mean) for g in found] == [("old", 0.5), ("young", 0.7)]


def test_an_interval_covers_the_mean_and_shrinks_with_more_photos() -> None:
    rng = np.random.default_rng(0)
    groups = Groups("g", {f"{i}": "a" if i < 20 else "b" for i in range(420)}, {})
    images = tuple(photo(f"{i}", *rng.random(3)) for i in range(420))
    few, many = group_scores(Evaluation("points", (1,), images), groups)
    for group in (few, many):
        assert group.miou[1].low < group.miou[1].mean < group.miou[1].high
    assert many.miou[1].high - many.miou[1].low < 0.4 * (few.miou[1].high - few.miou[1].low)


def test_files_that_do_not_say_it(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("file_name,place\na.jpg,south\na.jpg,north\n")
    with pytest.raises(UsageError, match="has no column 'age', but file_name, place"):
        Groups.read(path, "age")
    with pytest.raises(BadAnnotation, match=r"m\.csv: line 3: a second 'place' for 'a\.jpg'"):
        Groups.read(path, "place")
    path.write_text("photo,place\na.jpg,south\n")
    with pytest.raises(BadAnnotation, match="needs a column file_name or annotation_id"):
        Groups.read(path, "place")
    path.write_text("annotation_id,place\nseven,south\n")
    with pytest.raises(BadAnnotation, match="line 2: annotation_id must be a whole number, not 'seven'"):
        Groups.read(path, "place")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadAnnotation, match="cannot be read as a CSV file"):
        Groups.read(path, "place")
    none = Groups("place", {"z.jpg": "south"}, {})
    with pytest.raises(BadAnnotation, match="no evaluated segment has a value of 'place'"):
        group_scores(Evaluation("points", (1,), (photo("a.jpg", 0.5),)), none)


def test_keys_that_match_nothing_are_found_before_an_evaluation() -> None:
    photos = [
        LabelledImage(Path(f"{i}.jpg"), f"{i}.jpg", lambda size: [], (2 * i, 2 * i + 1)) for i in range(5)
    ]
    truth = GroundTruth("made", tuple(photos))
    Groups("g", {"4.jpg": "x"}, {}).check(truth)
    Groups("g", {}, {9: "x"}).check(truth)
    with pytest.raises(BadAnnotation) as caught:
        Groups("g", {"a/0.jpg": "x"}, {}).check(truth)
    assert str(caught.value) == (
        "made: nothing in it has a value of 'g': the metadata have the file_name a/0.jpg, "
        "the set 0.jpg, 1.jpg, 2.jpg and 2 more"
    )
    with pytest.raises(BadAnnotation, match="annotation_id 77, the set 0, 1, 2 and 7 more"):
        Groups("g", {}, {77: "x"}).check(truth)


class TestRandomClicks:
    truth = np.zeros((40, 50), bool)
    truth[10:30, 5:45] = True

    def test_are_on_the_segment_and_then_in_the_error(self) -> None:
        predicted = self.truth.copy()
        predicted[10:30, 25:] = False
        predicted[:5, :5] = True
        labels = set()
        for seed in range(40):
            clicker = RandomClicks(seed)
            x, y, label = clicker.first(self.truth)
            assert self.truth[y, x] and label == 1
            click = clicker.next(predicted, self.truth, 1)
            assert click is not None and predicted[click.y, click.x] != self.truth[click.y, click.x]
            assert click.label == self.truth[click.y, click.x]
            labels.add(click.label)
        assert labels == {0, 1}

    def test_are_spread_and_can_be_had_again(self) -> None:
        clicks = {RandomClicks(seed).first(self.truth) for seed in range(60)}
        assert len(clicks) > 50
        assert RandomClicks(3).first(self.truth) == RandomClicks(3).first(self.truth)
        assert RandomClicks(3).next(~self.truth, self.truth, 1) != RandomClicks(3).next(
            ~self.truth, self.truth, 2
        )

    def test_of_a_perfect_mask_there_is_none(self) -> None:
        assert RandomClicks().next(self.truth, self.truth, 1) is None
        with pytest.raises(ValueError, match="empty mask"):
            RandomClicks().first(np.zeros((4, 4), bool))
