"""The click protocol over rounds and chunks: against answers that the test decides on, then with a model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from adapters.points import Points
from adapters.results import Instances
from adapters.rle import bounding_boxes, decode_mask, encode_masks
from composer import Composer
from composer.evaluation import points as protocol
from composer.evaluation.clicks import next_click
from composer.evaluation.points import rle_iou, score_points

OBJECT = (10, 10, 30, 30)


def rectangles(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (40, 40)) -> npt.NDArray[np.bool_]:
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def instances(
    masks: npt.NDArray[np.bool_], predicted_iou: list[float], tags: list[float] | None = None
) -> Instances:
    """An answer whose logits are 2 x 2 pixels of each mask's tag."""
    rles, scores = encode_masks(masks), np.array(predicted_iou, np.float32)
    logits = None if tags is None else torch.tensor(tags).float()[:, None, None].expand(-1, 2, 2)
    return Instances(
        masks.shape[1:], tuple(rles), bounding_boxes(rles), scores,
        predicted_iou=scores, low_res_logits=logits,
    )  # fmt: skip


def blank(side: int = 4) -> SimpleNamespace:
    """A scene that nobody encodes, with an embedding of side x side."""
    return SimpleNamespace(embedding=SimpleNamespace(features=torch.zeros(1).expand(1, 1, side, side)))


class Scripted:
    """Answers a first click with three masks, and every correction by the logits that it was fed.

    Logits are a number, the tag of the mask that they belong to.
    """

    def __init__(self, firsts, corrections) -> None:
        self.firsts, self.corrections = firsts, corrections
        self.requests: list[Points] = []

    def __call__(self, scene: object, request: Points) -> Instances:
        self.requests.append(request)
        if request.mask_logits is None:
            assert request.masks == "all"
            answers = [
                row for x, y in np.asarray(request.points)[:, 0] for row in self.firsts[int(x), int(y)]
            ]
        else:
            assert request.masks == "best"
            answers = [(*self.corrections[tag], 0.5) for tag in self.fed(-1)]
        boxes, tags, predicted_iou = zip(*answers, strict=True)
        return instances(rectangles(*boxes), list(predicted_iou), list(tags))

    def fed(self, request: int) -> list[float]:
        """The tags of the logits in a request."""
        return torch.as_tensor(self.requests[request].mask_logits)[:, 0, 0].tolist()

    def clicked(self, request: int) -> list[list[tuple[int, ...]]]:
        """For each prompt its clicks ``x, y, label``."""
        points, labels = self.requests[request].arrays()
        return np.concatenate([points, labels[..., None]], 2).astype(int).tolist()


@pytest.fixture
def scripted() -> Scripted:
    """Of an object of 20 x 20 pixels: the top-ranked mask has its upper half, the best one four fifths."""
    return Scripted(
        {
            (19, 19): [
                ((10, 10, 30, 14), 1, 0.6),
                ((10, 10, 30, 20), 2, 0.9),
                ((10, 10, 30, 26), 3, 0.5),
            ],
            (4, 4): [((0, 0, 9, 9), 4, 0.9), ((0, 0, 9, 3), 5, 0.8), ((0, 0, 3, 3), 6, 0.7)],
            (35, 35): [((34, 34, 39, 35), 7, 0.9), ((0, 0, 2, 2), 8, 0.8), ((1, 1, 2, 2), 9, 0.7)],
        },
        {
            2: ((10, 10, 30, 28), 20),
            3: (OBJECT, 30),
            20: ((10, 10, 30, 32), 200),
            200: (OBJECT, 2000),
            7: ((34, 34, 39, 36), 70),
        },
    )


def test_by_hand(scripted: Scripted) -> None:
    scores = score_points(blank(), encode_masks(rectangles(OBJECT)), (1, 2, 3, 4, 9), scripted)
    assert scores.top.tolist() == [pytest.approx([0.5, 0.9, 400 / 440, 1, 1])]
    assert scores.oracle.tolist() == [pytest.approx([0.8, 1, 1, 1, 1])]


def test_clicks_gather_with_their_labels_and_logits_are_fed_back(scripted) -> None:
    score_points(blank(), encode_masks(rectangles(OBJECT)), (9,), scripted)
    first, lower_half, last_rows, too_much = [19, 19, 1], [14, 24, 1], [10, 28, 1], [10, 30, 0]
    assert len(scripted.requests) == 4  # nothing is asked about a mask without an error
    assert scripted.clicked(0) == [[first]]
    # The top-ranked mask and, beside it, the best one; then the best one is perfect.
    assert scripted.clicked(1) == [[first, lower_half], [first, [11, 27, 1]]]
    assert scripted.fed(1) == [2, 3]
    assert scripted.clicked(2) == [[first, lower_half, last_rows]]
    assert scripted.fed(2) == [20]
    assert scripted.clicked(3) == [[first, lower_half, last_rows, too_much]]
    assert scripted.fed(3) == [200]


def test_where_the_top_ranked_mask_is_the_best_it_is_corrected_once(scripted) -> None:
    scores = score_points(blank(), encode_masks(rectangles((34, 34, 39, 37))), (1, 2), scripted)
    assert scripted.clicked(1) == [[[35, 35, 1], [34, 35, 1]]] and scripted.fed(1) == [7]
    assert scores.top.tolist() == scores.oracle.tolist() == [pytest.approx([1 / 3, 2 / 3])]


def test_a_perfect_first_answer_ends_it(scripted: Scripted) -> None:
    scores = score_points(blank(), encode_masks(rectangles((0, 0, 9, 9))), (1, 2, 9), scripted)
    assert len(scripted.requests) == 1
    assert scores.top.tolist() == scores.oracle.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(("side", "first_rounds"), [(4, 1), (600, 3)], ids=["at once", "one by one"])
def test_masks_of_one_photo_go_together_as_far_as_their_logits_are_kept(
    scripted: Scripted, side: int, first_rounds: int
) -> None:
    masks = encode_masks(rectangles((34, 34, 39, 37), OBJECT, (0, 0, 9, 9)))
    scores = score_points(blank(side), masks, (1, 2), scripted)
    assert scores.top.tolist() == [pytest.approx(row) for row in ([1 / 3, 2 / 3], [0.5, 0.9], [1, 1])]
    assert scores.oracle[:, 0].tolist() == pytest.approx([1 / 3, 0.8, 1])
    assert sum(request.mask_logits is None for request in scripted.requests) == first_rounds


def test_corrections_go_in_chunks(scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "PROMPTS_PER_DECODE", 2)
    masks = encode_masks(rectangles(OBJECT, (34, 34, 39, 37)))
    scores = score_points(blank(), masks, (2,), scripted)
    assert [len(scripted.clicked(i)) for i in range(3)] == [2, 2, 1]
    assert scores.top.ravel().tolist() == pytest.approx([0.9, 2 / 3])
    assert scores.oracle.ravel().tolist() == pytest.approx([1, 2 / 3])


def test_an_answer_without_logits_cannot_be_corrected() -> None:
    def answer(scene: object, request: Points) -> Instances:
        return instances(rectangles((0, 0, 2, 2), (0, 0, 3, 3), (0, 0, 4, 4)), [0.1, 0.2, 0.3])

    with pytest.raises(ValueError, match="no logits to feed back"):
        score_points(blank(), encode_masks(rectangles(OBJECT)), (1,), answer)


def test_iou_by_hand() -> None:
    a, b, apart, nothing = encode_masks(
        rectangles((0, 0, 10, 10), (5, 0, 15, 10), (20, 20, 30, 30), (0, 0, 0, 0))
    )
    assert rle_iou(a, a) == 1
    assert rle_iou(a, b) == rle_iou(b, a) == pytest.approx(50 / 150)
    assert rle_iou(a, apart) == rle_iou(a, nothing) == rle_iou(nothing, nothing) == 0


def test_with_a_model_it_is_what_the_adapter_answers(small_preset, photo: npt.NDArray[np.uint8]) -> None:
    scene = Composer.load(small_preset, device="cpu").open(photo)
    y, x = np.mgrid[:90, :140]
    disc = (x - 40) ** 2 + (y - 45) ** 2 < 25**2
    masks = encode_masks(np.stack([disc, *rectangles((95, 20, 115, 70), size=(90, 140))]))
    scores = score_points(scene, masks, (1, 2))
    assert scores.top.shape == scores.oracle.shape == (2, 2)
    assert (scores.oracle[:, 0] >= scores.top[:, 0]).all()

    # Asked for together, as the protocol does: alone, a mask's sums may be rounded otherwise.
    firsts = [protocol.DEEPEST.first(decode_mask(mask)) for mask in masks]
    assert (firsts[0].x, firsts[0].y) == (40, 45)
    both = scene.run(Points([[[one.x, one.y]] for one in firsts], masks="all"))
    three = both[[0, 1, 2]]
    ious = [rle_iou(rle, masks[0]) for rle in three.rles]
    assert scores.top[0, 0] == pytest.approx(ious[int(three.predicted_iou.argmax())])
    assert scores.oracle[0, 0] == pytest.approx(max(ious)) and max(ious) > 0

    best = scene.run(Points([[40, 45]]))
    click = next_click(best[0].mask, decode_mask(masks[0]))
    assert click is not None
    corrected = scene.run(
        Points([[40, 45], [click.x, click.y]], [1, click.label], mask_logits=best.low_res_logits)
    )
    # Two tracks in one batch: another order of additions than one alone.
    assert scores.top[0, 1] == pytest.approx(rle_iou(corrected.rles[0], masks[0]), abs=0.01)
