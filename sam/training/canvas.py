"""Training samples: a square canvas composed from packed photos, and a few target masks on it.

Where a photo has one labelled object a click carries no information, and a model learns to return the
salient blob wherever one clicks. So single-object photos are composed: mosaics of four, cut-outs pasted on
scenes, and the object's surroundings as a mask of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from sam.errors import BadAnnotation
from sam.training.data import PackedSet

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Random = np.random.Generator
SURROUNDINGS = 255
"""Id of the canvas that a sparsely labelled photo leaves around its objects."""
GREY = np.array([0.299, 0.587, 0.114])
MAX_TRIES = 1000
"""Canvases composed in search of one with a usable segment."""


@dataclass(frozen=True)
class SamplingConfig:
    """How canvases are composed.

    Attributes:
        weights: relative share of samples for each set; a set left out is not sampled.
        mosaic: probability that a photo with at most two segments becomes a quarter of a 2x2 mosaic.
        paste: probability of pasting a cut-out of another photo.
        surroundings: probability that the unlabelled rest of a sparsely labelled photo is a target too.
        component: probability of taking one connected component of a segment that has several.
        group: probability of merging a segment with one of its neighbours (part, object, group).
        scale: range of the resize factor relative to the photo filling the canvas (App. A's large-scale
            jitter is [.1, 2]; weak models learn more from a milder one).
        masks: targets on each canvas.
        min_area, max_area: share of the canvas that a target may cover.
        photos: share of each set's photos that is drawn from at all, spread evenly over the set: what less
            data would give.
        area_power: a segment is drawn in proportion to its area to this power: 0 draws all alike, 1 by area.
    """

    weights: dict[str, float] = field(default_factory=dict)
    mosaic: float = 0.5
    paste: float = 0.35
    surroundings: float = 0.15
    component: float = 0.3
    group: float = 0.1
    scale: tuple[float, float] = (0.6, 1.8)
    masks: int = 6
    min_area: float = 0.0008
    max_area: float = 0.9
    photos: float = 1.0
    area_power: float = 0.25


@dataclass(frozen=True)
class Sample:
    """One canvas of side S.

    Attributes:
        pixels: (S, S, 3) uint8. ids: (S, S) uint8. targets: (K, S / 4, S / 4) uint8.
        texts: (K, d) float32 unit vectors of the targets' own pictures, NaN for a target without one; None
            where no set has vectors.
    """

    pixels: UInt8
    ids: UInt8
    targets: UInt8
    texts: Float32 | None = None


class Drawn(NamedTuple):
    """A photo, a layer of its segments, and where they are from: the set, the photo's and layer's number."""

    pixels: UInt8
    ids: UInt8
    where: tuple[PackedSet, int, int]


@dataclass
class Canvas:
    """A composed canvas.

    Attributes:
        pixels: (S, S, 3) uint8. ids: (S, S) uint8.
        base: of the photo whose ids the canvas has; None for a mosaic.
        others: of ids that are not ``base``'s, where they are from and the id there.
    """

    pixels: UInt8
    ids: UInt8
    base: tuple[PackedSet, int, int] | None
    others: dict[int, tuple[tuple[PackedSet, int, int], int]] = field(default_factory=dict)

    def vectors(self, segment: int) -> npt.NDArray[np.float16] | None:
        """(V, d) vectors of the whole segment with this id on the canvas, if it has any."""
        where, original = self.others.get(segment, (self.base, segment))
        if where is None or where[0].texts is None:
            return None
        return where[0].texts.of(where[1], where[2], original)


class CanvasSampler:
    """Draws canvases; sample number ``i`` depends on the seed and ``i`` alone: a resumed run goes on."""

    def __init__(self, sets: Sequence[PackedSet], config: SamplingConfig, seed: int) -> None:
        self.sets = [s for s in sets if config.weights.get(s.name, 0) > 0 and len(s)]
        if not self.sets:
            raise ValueError("no set with a weight above 0: name at least one packed set in sampling.weights")
        weights = np.array([config.weights[s.name] for s in self.sets])
        self.shares = weights / weights.sum()
        self.config = config
        self.seed = seed
        widths = {s.texts.width for s in self.sets if s.texts is not None}
        self.text_width = widths.pop() if widths else None

    def __call__(self, number: int, side: int) -> Sample:
        """Sample ``number`` on a canvas of ``side`` pixels."""
        rng = np.random.default_rng((self.seed, number))
        for _ in range(MAX_TRIES):
            canvas = self._compose(rng, side)
            found = self._targets(rng, canvas.ids)
            if found is not None:
                targets, whole = found
                pixels = photometric_jitter(canvas.pixels, rng)
                return Sample(pixels, canvas.ids, targets, self._texts(rng, canvas, whole))
        low, high = self.config.min_area, self.config.max_area
        raise BadAnnotation(
            f"no segment covers {low:.2%} to {high:.0%} of a canvas in {MAX_TRIES} tries: "
            "are the photos labelled?"
        )

    def _compose(self, rng: Random, side: int) -> Canvas:
        drawn = self._draw(rng)
        if np.count_nonzero(areas(drawn.ids)[1:]) <= 2 and rng.random() < self.config.mosaic:
            return self._mosaic(rng, side, drawn)
        canvas = Canvas(*place(drawn.pixels, drawn.ids, side, rng, self.config.scale), drawn.where)
        if rng.random() < self.config.paste:
            other = self._draw(rng)
            pasted = paste_cutout(canvas.pixels, canvas.ids, other.pixels, other.ids, rng)
            if pasted is not None:
                canvas.others[pasted[0]] = (other.where, pasted[1])
        if rng.random() < self.config.surroundings:
            self._fill_surroundings(canvas.pixels, canvas.ids)
        return canvas

    def _draw(self, rng: Random) -> Drawn:
        packed = self.sets[rng.choice(len(self.sets), p=self.shares)]
        drawn = max(1, round(len(packed) * self.config.photos))
        index = int(rng.integers(drawn)) * len(packed) // drawn
        # The layer is drawn after the photo is read, as it always was: a seed goes on meaning the same.
        photo, layer = packed.photo(index), packed.draw_layer(index, rng)
        return Drawn(photo, packed.layer(index, layer), (packed, index, layer))

    def _mosaic(self, rng: Random, side: int, drawn: Drawn) -> Canvas:
        canvas = Canvas(np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8), None)
        split_y, split_x = (int(side * rng.uniform(0.35, 0.65)) for _ in range(2))
        next_id = 1
        for rows in (slice(0, split_y), slice(split_y, side)):
            for columns in (slice(0, split_x), slice(split_x, side)):
                tile_side = max(rows.stop - rows.start, columns.stop - columns.start)
                tile, tile_ids = place(drawn.pixels, drawn.ids, tile_side, rng, (0.9, 1.6))
                height, width = rows.stop - rows.start, columns.stop - columns.start
                canvas.pixels[rows, columns] = tile[:height, :width]
                cut = tile_ids[:height, :width]
                present = 1 + np.flatnonzero(areas(cut)[1:])[:60]
                table = np.zeros(256, np.uint8)
                table[present] = np.arange(next_id, next_id + len(present))
                canvas.others.update({int(table[i]): (drawn.where, int(i)) for i in present})
                next_id += len(present)
                canvas.ids[rows, columns] = table[cut]
                drawn = self._draw(rng)
        return canvas

    @staticmethod
    def _fill_surroundings(pixels: UInt8, ids: UInt8) -> None:
        photo_area = pixels.any(2)
        if (ids[photo_area] == 0).mean() > 0.15:
            ids[photo_area & (ids == 0)] = SURROUNDINGS

    def _texts(self, rng: Random, canvas: Canvas, whole: Sequence[int | None]) -> Float32 | None:
        """A vector for each target that is a whole segment and has some; see :class:`Sample`."""
        if self.text_width is None:
            return None
        texts = np.full((len(whole), self.text_width), np.nan, np.float32)
        for row, segment in enumerate(whole):
            vectors = None if segment is None else canvas.vectors(segment)
            if vectors is not None:
                texts[row] = vectors[int(rng.integers(len(vectors)))]
        return texts

    def _targets(self, rng: Random, ids: UInt8) -> tuple[UInt8, list[int | None]] | None:
        """The targets, and of each that is a whole segment its id."""
        counts = areas(ids)
        low, high = self.config.min_area * ids.size, self.config.max_area * ids.size
        usable = [i for i in range(1, 256) if low <= counts[i] <= high]
        if not usable:
            return None
        shares = counts[usable] ** self.config.area_power
        chosen = rng.choice(
            usable, self.config.masks, replace=len(usable) < self.config.masks, p=shares / shares.sum()
        )
        targets = [self._target(rng, ids, int(i), low, high) for i in chosen]
        whole = [int(i) if is_whole else None for i, (_, is_whole) in zip(chosen, targets, strict=True)]
        return np.stack([target for target, _ in targets]), whole

    def _target(self, rng: Random, ids: UInt8, chosen: int, low: float, high: float) -> tuple[UInt8, bool]:
        """A target, and whether it is the segment and no part or group."""
        mask = (ids == chosen).astype(np.uint8)
        roll = rng.random()
        if roll < self.config.group:
            candidate = merge_with_neighbour(mask, ids, rng)
        elif roll < self.config.group + self.config.component:
            candidate = one_component(mask, rng)
        else:
            candidate = mask
        for option in (candidate, mask):
            if low <= option.sum() <= high:
                small = shrink_mask(option)
                if small.any():
                    return small, option is mask
        ys, xs = np.nonzero(mask)  # thinner than a cell everywhere: keep the cells that it touches
        small = np.zeros((ids.shape[0] // 4, ids.shape[1] // 4), np.uint8)
        small[ys // 4, xs // 4] = 1
        return small, True


def place(
    photo: UInt8, layer: UInt8, side: int, rng: Random, scale: tuple[float, float]
) -> tuple[UInt8, UInt8]:
    """Resize by a random factor, flip at random, crop or pad (right and bottom) to a square."""
    h, w = layer.shape
    factor = side / max(h, w) * float(np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1]))))
    size = (max(8, round(w * factor)), max(8, round(h * factor)))
    # Down to a half a bilinear filter sees every pixel, in a seventh of the time.
    resized = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR)
    ids = cv2.resize(layer, size, interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        resized, ids = resized[:, ::-1], ids[:, ::-1]
    y = int(rng.integers(0, max(1, size[1] - side + 1)))
    x = int(rng.integers(0, max(1, size[0] - side + 1)))
    resized, ids = resized[y : y + side, x : x + side], ids[y : y + side, x : x + side]
    pixels = np.zeros((side, side, 3), np.uint8)
    canvas_ids = np.zeros((side, side), np.uint8)
    # Padding alone is black: a black pixel of a photo is a dark one, at inference too.
    pixels[: ids.shape[0], : ids.shape[1]] = np.maximum(resized, 1)
    canvas_ids[: ids.shape[0], : ids.shape[1]] = ids
    return pixels, canvas_ids


def paste_cutout(
    pixels: UInt8, ids: UInt8, photo: UInt8, layer: UInt8, rng: Random
) -> tuple[int, int] | None:
    """Paste one segment of ``layer`` somewhere on the canvas, in place, under an unused id.

    Returns:
        That id and the segment's in ``layer``; None where there is none to paste, or no id for it.
    """
    counts = areas(layer)[1:]
    free = 1 + np.flatnonzero(areas(ids)[1:SURROUNDINGS] == 0)
    if not counts.any() or not len(free):
        return None
    chosen = 1 + int(rng.choice(len(counts), p=counts / counts.sum()))
    mask = (layer == chosen).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(mask)
    side = ids.shape[0]
    factor = side * rng.uniform(0.15, 0.55) / max(w, h)
    size = (max(4, round(w * factor)), max(4, round(h * factor)))
    cut = cv2.resize(photo[y : y + h, x : x + w], size, interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(mask[y : y + h, x : x + w], size, interpolation=cv2.INTER_NEAREST) > 0
    top = int(rng.integers(0, max(1, side - size[1])))
    left = int(rng.integers(0, max(1, side - size[0])))
    window = (slice(top, top + size[1]), slice(left, left + size[0]))
    alpha = alpha[: ids[window].shape[0], : ids[window].shape[1]]
    # A segment that keeps almost nothing visible is no longer that segment.
    pixels[window][alpha] = np.maximum(cut[: alpha.shape[0], : alpha.shape[1]][alpha], 1)
    ids[window][alpha] = free[0]
    return int(free[0]), chosen


def one_component(mask: UInt8, rng: Random) -> UInt8:
    """The connected component under a random pixel of the mask."""
    count, components = cv2.connectedComponents(mask, connectivity=8)
    if count <= 2:
        return mask
    ys, xs = np.nonzero(mask)
    pick = int(rng.integers(len(ys)))
    chosen: UInt8 = (components == components[ys[pick], xs[pick]]).astype(np.uint8)
    return chosen


def merge_with_neighbour(mask: UInt8, ids: UInt8, rng: Random) -> UInt8:
    """The mask together with one labelled segment that touches it."""
    ring = cv2.dilate(mask, np.ones((5, 5), np.uint8)).astype(bool) & (mask == 0)
    neighbours = np.unique(ids[ring])
    neighbours = neighbours[neighbours > 0]
    if not len(neighbours):
        return mask
    merged: UInt8 = mask | (ids == rng.choice(neighbours)).astype(np.uint8)
    return merged


def shrink_mask(mask: UInt8) -> UInt8:
    """Majority of each 4x4 block: (S, S) -> (S / 4, S / 4)."""
    # Each of 16 votes counts 15 in the mean of 240s: whole numbers, so that a half is exact.
    height, width = mask.shape[0] // 4, mask.shape[1] // 4
    votes = cv2.resize(mask * np.uint8(240), (width, height), interpolation=cv2.INTER_AREA)
    small: UInt8 = (votes >= 120).astype(np.uint8)
    return small


def areas(ids: UInt8) -> npt.NDArray[np.int64]:
    """(256,) pixels of each id."""
    return cv2.calcHist([np.ascontiguousarray(ids)], [0], None, [256], [0, 256]).ravel().astype(np.int64)


def photometric_jitter(pixels: UInt8, rng: Random) -> UInt8:
    """Random brightness, contrast, saturation and, rarely, grey; padding stays black."""
    saturation = 0.0 if rng.random() < 0.05 else rng.uniform(0.6, 1.4)
    contrast, brightness = rng.uniform(0.75, 1.3), rng.uniform(0.75, 1.25)
    tint = rng.uniform(0.94, 1.06, 3)
    mean = float(GREY @ cv2.mean(pixels)[:3])
    # All of it is linear in the three channels: one matrix, and an offset from the mean.
    colours = contrast * (saturation * np.eye(3) + (1 - saturation) * GREY)
    matrix = tint[:, None] * np.column_stack([colours, np.full(3, mean * (brightness - contrast))])
    out: UInt8 = np.maximum(cv2.transform(pixels, matrix), 1)
    out[cv2.inRange(pixels, (0, 0, 0), (0, 0, 0)) > 0] = 0
    return out
