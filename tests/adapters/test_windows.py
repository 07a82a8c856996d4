"""Small boxes in windows of their own: where the windows are, and that answers come back in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adapters.base import Scene
from adapters.boxes import Boxes, BoxesAdapter
from adapters.results import Instances
from adapters.rle import decode_mask
from adapters.windows import ROOM, Window, windows_of
from sam.errors import BadPrompt

SIZE = (600, 800)


def boxes_of(*rows: tuple[float, float, float, float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(rows, np.float32).reshape(-1, 4)


class TestWhereTheyAre:
    def test_around_a_small_box(self) -> None:
        (window,) = windows_of(boxes_of((300, 200, 340, 220)), SIZE, 2)
        assert window == Window((280, 170, 360, 250), [0])

    def test_moved_into_the_photo(self) -> None:
        (window,) = windows_of(boxes_of((0, 560, 40, 600)), SIZE, 2)
        assert window.box == (0, 520, 80, 600)

    def test_a_large_box_has_none(self) -> None:
        assert windows_of(boxes_of((0, 0, 320, 100)), SIZE, 2) == [], "2 x 320 x 1.25 is the photo's side"
        assert len(windows_of(boxes_of((0, 0, 319, 100)), SIZE, 2)) == 1
        assert windows_of(boxes_of((0, 0, 319, 100)), SIZE, 4) == []

    def test_a_window_as_wide_as_a_narrow_photo(self) -> None:
        (window,) = windows_of(boxes_of((10, 100, 40, 260)), (1000, 50), 2)
        assert window.box == (0, 20, 50, 340)

    def test_neighbours_of_one_size_share(self) -> None:
        near, smaller, far = (300, 200, 340, 240), (345, 205, 370, 235), (700, 400, 740, 440)
        tiny = (310, 210, 318, 218)
        windows = windows_of(boxes_of(smaller, near, far, tiny), SIZE, 4)
        assert [window.members for window in windows] == [[1, 0], [2], [3]]

    def test_each_box_lies_in_one_window_with_room_around_it(self) -> None:
        generator = np.random.default_rng(0)
        corners = generator.uniform((0, 0), (760, 560), (200, 2))
        boxes = np.concatenate([corners, corners + generator.uniform(1, 40, (200, 2))], 1).astype(np.float32)
        for zoom in (1.25, 2.0, 5.0):
            windows = windows_of(boxes, SIZE, zoom)
            assert sorted(row for window in windows for row in window.members) == list(range(200))
            assert len(windows) < 200 or zoom < 2
            for (x1, y1, x2, y2), members in windows:
                assert 0 <= x1 < x2 <= 800 and 0 <= y1 < y2 <= 600
                inside = boxes[members]
                assert (inside[:, :2] >= (x1, y1)).all() and (inside[:, 2:] <= (x2, y2)).all()
                others = inside[1:]
                room = ROOM * (others[:, 2:] - others[:, :2]).max(1, keepdims=True, initial=0)
                assert (np.maximum(others[:, :2] - room, 0) >= (x1, y1)).all()
                assert (np.minimum(others[:, 2:] + room, (800, 600)) <= (x2, y2)).all()


@pytest.mark.parametrize("zoom", [-1, 0.5, 1, 17, float("nan"), float("inf"), True, "2"])
def test_a_zoom_that_is_none(zoom: Any) -> None:
    with pytest.raises(BadPrompt, match=r"zoom must be 0 \(no windows\), or from 1\.25 to 16") as caught:
        Boxes([[0, 0, 5, 5]], zoom=zoom)
    assert caught.value.field == "zoom"


class TestWhatComesBack:
    """From a small model with random weights, on a photo of noise."""

    @pytest.fixture
    def scene(self, make_scene: Callable[..., Scene]) -> Scene:
        return make_scene(70, 100)

    BOXES = ((10, 12, 24, 30), (2, 2, 90, 66), (60, 40, 74, 52))

    def answer(self, scene: Scene, boxes: Any = BOXES, **fields: Any) -> Instances:
        found = BoxesAdapter()(scene, Boxes(boxes, margin=10, **fields))
        assert isinstance(found, Instances)
        return found

    def test_the_answer_of_a_window_is_that_of_the_cut_out_photo(self, scene: Scene) -> None:
        found = self.answer(scene, zoom=2)
        assert len(found) == 3 and found.image_size == scene.size
        assert found.prompt_index.tolist() == [0, 1, 2] and found.low_res_logits is None
        windows = windows_of(boxes_of(*self.BOXES), scene.size, 2)
        assert sorted(row for window in windows for row in window.members) == [0, 2]
        for (x1, y1, x2, y2), (row,) in windows:
            there = np.array(self.BOXES[row], float) - (x1, y1, x1, y1)
            alone = self.answer(scene.crop((x1, y1, x2, y2)), [there])
            placed = np.zeros(scene.size, bool)
            placed[y1:y2, x1:x2] = decode_mask(alone.rles[0])
            np.testing.assert_array_equal(decode_mask(found.rles[row]), placed)
            assert found.scores[row] == pytest.approx(alone.scores[0])
            assert found.crop_boxes[row].tolist() == [x1, y1, x2, y2]
        assert found.crop_boxes[1].tolist() == [0, 0, 100, 70]
        whole = self.answer(scene)
        assert found.rles[1] == whole.rles[1] and found.scores[1] == pytest.approx(whole.scores[1])

    def test_three_masks_of_each_stay_together(self, scene: Scene) -> None:
        found = self.answer(scene, zoom=2, masks="all")
        assert found.prompt_index.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert found.ambiguity.tolist() == [0, 1, 2] * 3

    def test_without_it_nothing_is_encoded_anew(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scene, "crops", lambda boxes: pytest.fail("encoded a window"))
        assert self.answer(scene).low_res_logits is not None
        assert self.answer(scene, [self.BOXES[1]], zoom=2).low_res_logits is not None, "no box is small"
