"""The click protocol (paper App. D.1): mean IoU after N simulated clicks, and what better ranking could gain.

The first click is answered with three masks. The top-ranked one (predicted IoU) is what a user gets and what
the next clicks correct, each with the previous logits fed back beside all clicks so far, answered by the
single-mask token. A mask without any error gets no more clicks and keeps its IoU of 1.

The *oracle* is a user who picks the best of the three masks of the first click and goes on correcting that
one: at N = 1 it is the best of three, at N > 1 it says what a wrong first choice still costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from adapters.base import Scene
from adapters.decoding import KEPT_LOGITS_BUDGET, PROMPTS_PER_DECODE
from adapters.points import Points, PointsAdapter
from adapters.results import Instances
from adapters.rle import RLE, decode_mask
from composer.evaluation.clicks import Click, Clicker, DeepestClicks

DEFAULT_CLICKS = (1, 2, 3, 5, 9)
DEEPEST = DeepestClicks()
IoUs = npt.NDArray[np.float64]
AnswerPoints = Callable[[Scene, Points], Instances]


@dataclass
class _Track:
    """One mask on its way: the clicks so far and the answer to them."""

    truth: RLE
    clicks: list[Click]
    rle: RLE
    iou: float
    logits: Tensor


@dataclass(frozen=True)
class PointScores:
    """Of n masks of one image.

    Attributes:
        top, oracle: (n, number of click counts) IoU in [0, 1].
    """

    top: IoUs
    oracle: IoUs


def score_points(
    scene: Scene,
    masks: Sequence[RLE],
    clicks: Sequence[int] = DEFAULT_CLICKS,
    answer: AnswerPoints | None = None,
    clicker: Clicker = DEEPEST,
) -> PointScores:
    """Click on every mask of one image.

    Args:
        scene: the image.
        masks: n ground-truth masks at its size, none empty.
        clicks: the counts to report, ascending from 1.
        answer: answers a request; default: the ``points`` adapter.
        clicker: who clicks; default: the paper's careful person.
    """
    answer = answer or PointsAdapter()
    height, width = scene.embedding.features.shape[-2:]
    logits_bytes = 3 * 16 * height * width * 4
    step = min(PROMPTS_PER_DECODE, max(1, KEPT_LOGITS_BUDGET // logits_bytes))
    parts = [
        _score_chunk(scene, masks[i : i + step], clicks, answer, clicker) for i in range(0, len(masks), step)
    ]
    empty = np.zeros((0, len(clicks)))
    return PointScores(
        np.concatenate([empty, *(part.top for part in parts)]),
        np.concatenate([empty, *(part.oracle for part in parts)]),
    )


def _score_chunk(
    scene: Scene, masks: Sequence[RLE], clicks: Sequence[int], answer: AnswerPoints, clicker: Clicker
) -> PointScores:
    top, oracle = _first_round(scene, masks, answer, clicker)
    # Where the top-ranked mask is the best one, both go the same way.
    tracks = top + [track for track, other in zip(oracle, top, strict=True) if track is not other]
    scores: dict[int, tuple[list[float], list[float]]] = {}
    for count in range(1, max(clicks) + 1):
        if count > 1:
            _correct(scene, tracks, answer, clicker)
        if count in clicks:
            scores[count] = [track.iou for track in top], [track.iou for track in oracle]
    return PointScores(*(np.array([scores[n][i] for n in clicks]).T for i in (0, 1)))


def _first_round(
    scene: Scene, masks: Sequence[RLE], answer: AnswerPoints, clicker: Clicker
) -> tuple[list[_Track], list[_Track]]:
    firsts = [clicker.first(decode_mask(mask)) for mask in masks]
    points = np.array([[[click.x, click.y]] for click in firsts], np.float32)
    found = answer(scene, Points(points, masks="all"))
    options = len(found) // len(masks)
    ranked = found.predicted_iou.reshape(-1, options).argmax(1)
    top, oracle = [], []
    for i, (mask, click) in enumerate(zip(masks, firsts, strict=True)):
        rows = range(options * i, options * (i + 1))
        ious = [rle_iou(found.rles[row], mask) for row in rows]
        tracks = {
            j: _Track(mask, [click], found.rles[rows[j]], ious[j], _logits(found)[rows[j]])
            for j in {int(ranked[i]), int(np.argmax(ious))}
        }
        top.append(tracks[int(ranked[i])])
        oracle.append(tracks[int(np.argmax(ious))])
    return top, oracle


def _correct(scene: Scene, tracks: Sequence[_Track], answer: AnswerPoints, clicker: Clicker) -> None:
    """One more click on every track that is not perfect yet, in place."""
    open_tracks = []
    for track in tracks:
        click = clicker.next(decode_mask(track.rle), decode_mask(track.truth), len(track.clicks))
        if click is not None:
            track.clicks.append(click)
            open_tracks.append(track)
    for start in range(0, len(open_tracks), PROMPTS_PER_DECODE):
        chunk = open_tracks[start : start + PROMPTS_PER_DECODE]
        request = Points(
            np.array([[[c.x, c.y] for c in track.clicks] for track in chunk], np.float32),
            np.array([[c.label for c in track.clicks] for track in chunk]),
            mask_logits=torch.stack([track.logits for track in chunk]),
        )
        found = answer(scene, request)
        for track, rle, logits in zip(chunk, found.rles, _logits(found), strict=True):
            track.rle, track.logits, track.iou = rle, logits, rle_iou(rle, track.truth)


def _logits(found: Instances) -> Tensor:
    if found.low_res_logits is None:
        raise ValueError("the answers have no logits to feed back: ask for fewer masks at a time")
    return found.low_res_logits


def rle_iou(predicted: RLE, truth: RLE) -> float:
    """IoU of two masks of one size, in [0, 1]; two empty masks have 0."""
    return float(coco_mask.iou([predicted], [truth], [0])[0, 0])
