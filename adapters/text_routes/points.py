"""Dense relevance to clicks: where the words are seen becomes points on, and what is least like them off.

For what has no outline of its own in a grid of clicks (grass, a crowd), and where other routes are unsure.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from scipy import ndimage

from adapters.decoding import segment
from adapters.points import BACKGROUND, FOREGROUND
from adapters.results import FloatArray, Instances
from adapters.rle import RLE, BoolArray, sample_mask
from adapters.text_routes.naming import Named, look_at
from adapters.text_routes.sight import Sight, with_route
from adapters.text_routes.vocabulary import Vocabulary
from sam.prompts import Prompts

MOST_PEAKS = 6
PEAK_SHARE = 0.5
"""A place is a peak from this share of the way between a phrase's least and highest relevance."""
MIN_RELEVANCE = 0.02
"""Nothing is clicked where the highest relevance of an image is less."""
APART = 0.12
"""Least distance of two clicks, as a share of the image's longer side."""
NEGATIVES = 2
LOW_SHARE = 0.1
"""Places up to this share of the way are strongly negative."""


def from_points(sight: Sight, words: Vocabulary, phrases: BoolArray | None = None) -> Named:
    """Masks of clicks at the peaks of each phrase's relevance, named by their crops.

    Each click asks for three masks; the one whose inside is most like the phrase, against its outside, stays.

    Args:
        sight: of the image.
        words: phrases to look for.
        phrases: (P,) bool which of them; None: all.
    """
    nothing = with_route(Instances.empty(sight.scene.size), "points")
    parts = [Named(nothing, np.zeros((0, len(words.phrases)), np.float32))]
    for number in range(len(words.phrases)):
        if phrases is not None and not phrases[number]:
            continue
        parts.append(sight.once(("points", id(words), number), words, partial(_of_one, sight, words, number)))
    return Named.concatenate(parts)


def _of_one(sight: Sight, words: Vocabulary, number: int) -> Named:
    """Masks of the clicks of one phrase."""
    maps = sight.once(("maps", id(words)), words, lambda: relevance_maps(sight, words))
    found = masks_of_map(sight, maps[..., number])
    one = np.arange(len(words.phrases)) == number
    return look_at(sight.scene.image, found, sight.model).named(words).only(one)


def relevance_maps(sight: Sight, words: Vocabulary) -> FloatArray:
    """(h, w, P) float32 in [0, 1]: how well each phrase fits each place, among its rivals.

    Places are compared with each other, so all models share by softmax here: probabilities of pictures say
    little of places.
    """
    height, width, dim = sight.places.shape
    shares = Vocabulary(words.phrases, words.scale, None, words.vectors, words.phrase_of, words.rivals)
    return shares.relevance(sight.places.reshape(-1, dim)).reshape(height, width, -1)


def masks_of_map(sight: Sight, relevance: FloatArray) -> Instances:
    """The masks of the clicks that a relevance map (h, w) asks for; empty where it is low everywhere."""
    scene = sight.scene
    on, off = clicks_of(relevance, scene.size)
    if not len(on):
        return with_route(Instances.empty(scene.size), "points")
    points = np.stack([np.concatenate([click[None], _nearest(off, click)]) for click in on])
    labels = np.full(points.shape[:2], BACKGROUND, np.int64)
    labels[:, 0] = FOREGROUND
    prompts = Prompts(points=torch.from_numpy(points), labels=torch.from_numpy(labels))
    every = segment(scene, prompts, multimask=True, masks="all")
    contrast = np.array([_contrast(one, relevance) for one in every.rles])
    best = contrast.reshape(len(on), -1).argmax(1) + np.arange(len(on)) * (len(every) // len(on))
    return with_route(every[best[contrast[best] > 0]], "points")


def clicks_of(relevance: FloatArray, size: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Clicks on and off what a map shows.

    Args:
        relevance: (h, w) of places that cover the image.
        size: (H, W) of the image.

    Returns:
        (k, 2) and (j, 2) float32 ``x, y`` pixels, at least :data:`APART` from each other.
    """
    low, high = float(relevance.min()), float(relevance.max())
    if high < MIN_RELEVANCE or high <= low:
        none = np.zeros((0, 2), np.float32)
        return none, none
    smooth = ndimage.gaussian_filter(relevance, 0.7, mode="nearest")
    share = (smooth - low) / (high - low)
    peaks = (smooth == ndimage.maximum_filter(smooth, 3, mode="nearest")) & (share >= PEAK_SHARE)
    valleys = (smooth == ndimage.minimum_filter(smooth, 3, mode="nearest")) & (share <= LOW_SHARE)
    on = _spread(peaks, smooth, size, MOST_PEAKS)
    off = _spread(valleys, -smooth, size, 4 * NEGATIVES)
    far = [p for p in off if len(on) and np.hypot(*(on - p).T).min() >= APART * max(size)]
    return on, np.array(far, np.float32).reshape(-1, 2)


def _spread(chosen: BoolArray, height: FloatArray, size: tuple[int, int], most: int) -> FloatArray:
    """Centres of the chosen cells in pixels, the highest first, none too near to a higher one."""
    rows, columns = np.nonzero(chosen)
    order = np.argsort(-height[rows, columns], kind="stable")
    scale = np.array([size[1] / chosen.shape[1], size[0] / chosen.shape[0]])
    centres = (np.stack([columns, rows], 1)[order] + 0.5) * scale - 0.5
    kept: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    for centre in centres:
        if len(kept) < most and all(np.hypot(*(centre - one)) >= APART * max(size) for one in kept):
            kept.append(centre)
    spread = np.clip(np.array(kept, np.float32).reshape(-1, 2), 0, [size[1] - 1, size[0] - 1])
    return np.asarray(spread, np.float32)


def _nearest(points: FloatArray, click: FloatArray) -> FloatArray:
    """The :data:`NEGATIVES` points nearest to a click: they bound what it may mean."""
    order = np.argsort(np.hypot(*(points - click).T), kind="stable")[:NEGATIVES]
    return points[order]


def _contrast(rle: RLE, relevance: FloatArray) -> float:
    """Mean relevance inside of a mask less that outside; at least a cell must lie inside, and one outside."""
    height, width = rle["size"]
    rows = ((np.arange(relevance.shape[0]) + 0.5) * height / relevance.shape[0]).astype(np.int64)
    columns = ((np.arange(relevance.shape[1]) + 0.5) * width / relevance.shape[1]).astype(np.int64)
    inside = sample_mask(rle, rows, columns)
    if not inside.any() or inside.all():
        return 0.0
    return float(relevance[inside].mean() - relevance[~inside].mean())
