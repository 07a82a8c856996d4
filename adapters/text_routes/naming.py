"""Which masks answer which phrases: seen once, scored for any words, without duplicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F

from adapters.results import FloatArray, Instances
from adapters.rle import RLE, BoolArray, IntArray, areas, decode_window
from adapters.text_routes.agreement import Overlaps, outlines, overlaps, weights_of
from adapters.text_routes.vocabulary import Vocabulary, certain_score
from adapters.visual_prompts import LOOKS, Look, show_region
from sam.training.deepest import deepest_point

if TYPE_CHECKING:
    from adapters.clip import TextImageModel

Pixels = npt.NDArray[np.uint8]
PICTURES_BUDGET = 32 << 20
"""Most bytes of pictures shown to the text-image model at once, as float32: 53 of 224 x 224 pixels."""
SAME_OUTLINE = 0.8
"""IoU from which two masks are one object whatever their labels."""
ALSO = 0.25
"""A mask gets a second label only if the odds that the phrase applies are this share of the best one's. Odds,
since scores near 1 all look alike: .9 against .99 is one to eleven."""
UNSURE = 0.5
"""From this share of the threshold on, what was not taken was close."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Masks that the text-image model has looked at, whatever the words.

    Attributes:
        instances: n masks, none of them empty.
        vectors: (n, d) float32 unit vectors, each the mean over its looks.
    """

    instances: Instances
    vectors: Tensor

    def named(self, words: Vocabulary) -> Named:
        """How well each phrase fits each mask."""
        return Named(self.instances, words.relevance(self.vectors), fit=words.fit(self.vectors))


@dataclass(frozen=True, eq=False)
class Named:
    """n masks, and how well P phrases fit them.

    Attributes:
        instances: the masks, none of them empty.
        relevance: (n, P) float32 in [0, 1].
        known: (n, P) bool, where a detector says that it is that; None: nowhere.
        fit: (n, P) float32 logits by which masks of one phrase are compared, ``-inf`` where a mask is none of
            its objects; None: those of the relevance.
        between: tells how the masks lie to each other, where that may be known; None: it is not.
    """

    instances: Instances
    relevance: FloatArray
    known: BoolArray | None = None
    fit: FloatArray | None = None
    between: Callable[[], Overlaps] | None = None

    def __post_init__(self) -> None:
        if self.known is None:
            object.__setattr__(self, "known", np.zeros(self.relevance.shape, np.bool_))
        if self.fit is None:
            with np.errstate(divide="ignore"):
                object.__setattr__(self, "fit", np.log(_odds(self.relevance)).astype(np.float32))

    @classmethod
    def concatenate(cls, parts: Sequence[Named]) -> Named:
        """All masks of ``parts``, in order."""
        known = [part.known for part in parts if part.known is not None]
        fit = [part.fit for part in parts if part.fit is not None]
        return cls(
            Instances.concatenate([part.instances for part in parts]),
            np.concatenate([part.relevance for part in parts]),
            np.concatenate(known),
            np.concatenate(fit),
        )

    def only(self, phrases: BoolArray) -> Named:
        """The same masks for some phrases (P,) alone, the others' relevance 0."""
        assert self.fit is not None
        fit = np.where(phrases, self.fit, -np.inf).astype(np.float32)
        return replace(self, relevance=self.relevance * phrases.astype(np.float32), fit=fit)

    @cached_property
    def overlaps(self) -> Overlaps:
        """How the masks lie to each other."""
        return overlaps(self.instances.rles) if self.between is None else self.between()

    def best(self) -> FloatArray:
        """(P,) float32 the highest relevance of each phrase; 0 where there is no mask."""
        nothing = np.zeros((1, self.relevance.shape[1]), np.float32)
        best: FloatArray = np.concatenate([nothing, self.relevance]).max(0)
        return best


def look_at(
    image: Pixels, instances: Instances, model: TextImageModel, looks: Sequence[Look] = LOOKS
) -> Seen:
    """Show each mask to the model, a crop for each look, and keep what it saw.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: masks of it; empty ones are left out.
        model: the text-image model.
        looks: ways to show a region.
    """
    kept = instances[instances.areas > 0]
    side = max(model.size)
    parts = [torch.zeros(0, model.width)]
    at_once = max(1, PICTURES_BUDGET // (12 * side**2 * len(looks)))
    for start in range(0, len(kept), at_once):
        some = list(zip(kept.rles, kept.boxes, strict=True))[start : start + at_once]
        shown = [show_region(image, rle, box, side, look) for rle, box in some for look in looks]
        vectors = model.encode_pictures(shown).reshape(len(some), len(looks), -1)
        parts.append(F.normalize(vectors.mean(1), dim=-1))
    return Seen(kept, torch.cat(parts))


def answers(
    named: Named,
    words: Vocabulary,
    thresholds: FloatArray,
    *,
    strict: BoolArray | None = None,
    limit: int | None = None,
) -> Instances:
    """The objects that phrases fit well enough, labelled, the highest text score first.

    What a detector knows stays as it is. Of the others, each object is answered with the outline on which the
    masks agree, see :mod:`adapters.text_routes.agreement`; its score is that of the best mask of it.

    Args:
        named: masks and relevance.
        words: whose phrases are the labels.
        thresholds: (P,) least relevance.
        strict: (P,) bool, phrases whose threshold counts for what a detector knows too; None: none.
        limit: at most so many masks of each phrase.
    """
    assert named.known is not None
    passes = (named.relevance >= thresholds) & (named.relevance > 0)
    passes |= named.known & (named.relevance > 0) & ~(np.zeros(1, bool) if strict is None else strict)
    # A detector's score says nothing of how well the text-image model's other phrases fit, nor they of it.
    odds = _odds(named.relevance)
    best = np.where(named.known, 0, odds).max(1, initial=0.0)
    enough = named.known | (odds >= ALSO * best[:, None])
    parts, sure = [_unlabelled(named.instances[[]])], [np.zeros(0, bool)]
    for number, phrase in enumerate(words.phrases):
        chosen = passes[:, number] & enough[:, number]
        if not chosen.any():
            continue
        first, scores = _objects(named, number, chosen, enough[:, number], certain_score(words))
        parts.append(labelled(named.instances[first], phrase, number, scores))
        sure.append(named.known[first, number])
    found, certain = Instances.concatenate(parts), np.concatenate(sure)
    order = np.argsort(-found.scores, kind="stable")
    found = _named_once(found[order], certain[order])
    if limit is None:
        return found
    best_of_each = [np.flatnonzero(found.prompt_index == p)[:limit] for p in range(len(words.phrases))]
    return found[np.sort(np.concatenate(best_of_each))]


def _objects(
    named: Named, number: int, chosen: BoolArray, enough: BoolArray, certain: float
) -> tuple[IntArray, FloatArray]:
    """The masks that answer one phrase, each object once, and their text scores.

    Args:
        named: masks.
        number: of the phrase.
        chosen: (n,) bool, those that fit it well enough.
        enough: (n,) bool, those that no other phrase fits much better.
        certain: see :func:`adapters.text_routes.agreement.outlines`.
    """
    assert named.known is not None and named.fit is not None
    known, fit, scores = named.known[:, number], named.fit[:, number], named.relevance[:, number]
    standing, theirs = outlines(
        named.overlaps,
        weights_of(fit, named.instances.predicted_iou),
        np.where(chosen & ~known, scores, 0),
        np.isfinite(fit) & enough & ~known,
        certain,
    )
    told = np.flatnonzero(chosen & known)
    numbers, every = np.append(told, standing), np.append(scores[told], theirs)
    first = distinct([named.instances.rles[i] for i in numbers], every)
    return numbers[first], every[first]


def settled(
    named: Named,
    words: Vocabulary,
    thresholds: FloatArray,
    *,
    strict: BoolArray,
    limit: int | None = None,
    further: Callable[[BoolArray], Named] | None = None,
) -> tuple[Instances, Named]:
    """As :func:`answers`, after a second look for phrases that have none though something was close.

    Args:
        named, words, thresholds, strict, limit: see there.
        further: more masks for some phrases (P,); None: there is no second look.

    Returns:
        The answers, and all masks that they were chosen from.
    """
    found = answers(named, words, thresholds, strict=strict, limit=limit)
    near = close(named, found, thresholds)
    if further is None or not near.any():
        return found, named
    named = Named.concatenate([named, further(near)])
    return answers(named, words, thresholds, strict=strict, limit=limit), named


def _named_once(found: Instances, certain: BoolArray) -> Instances:
    """Without the second of two that outline the same under different labels, of which the first fits better.

    Two masks of one object may be named differently as one mask may: the same odds decide.
    """
    if not len(found):
        return found
    odds = _odds(found.scores)
    iou = np.asarray(coco_mask.iou(list(found.rles), list(found.rles), [0] * len(found)))
    kept: list[int] = []
    for i in range(len(found)):
        better = [j for j in kept if iou[i, j] >= SAME_OUTLINE and found.labels[j] != found.labels[i]]
        if certain[i] or all(certain[j] or odds[i] >= ALSO * odds[j] for j in better):
            kept.append(i)
    return found[kept]


def _odds(scores: FloatArray) -> FloatArray:
    odds: FloatArray = scores / (1 - scores).clip(min=1e-6)
    return odds


def labelled(instances: Instances, phrase: str, number: int, scores: FloatArray) -> Instances:
    """Instances as the answer to phrase ``number``, with (n,) text scores."""
    return _unlabelled(instances).replace(
        labels=(phrase,) * len(instances),
        scores=scores,
        text_score=scores,
        prompt_index=np.full(len(instances), number, np.int64),
    )


def _unlabelled(instances: Instances) -> Instances:
    return instances.replace(score_kind="text_score", low_res_logits=None)


def distinct(rles: Sequence[RLE], scores: FloatArray) -> IntArray:
    """Numbers of the masks that stay where each object is to be had once, best first.

    Of two that overlap, or of which one holds the other, the one that fits the phrase better stays: a wheel
    scores below the car and goes, and so does the car with the street around it; of equal scores the larger
    stays. A group that scores below its members goes with the first of them, and the others stay.

    Args:
        rles: n masks with one label.
        scores: (n,).
    """
    if not rles:
        return np.zeros(0, np.int64)
    sizes, clash = areas(rles), overlaps(rles).clash
    kept: list[int] = []
    for i in np.lexsort((-sizes, -scores)):
        if not clash[i, kept].any():
            kept.append(int(i))
    return np.array(kept, np.int64)


def suggestions(named: Named, found: Instances, thresholds: FloatArray) -> dict[str, Any]:
    """Where a click would settle it: in the best mask of each phrase that was close, and has no answer.

    Returns:
        ``points`` (k, 2) float32 ``x, y`` pixels and ``prompts`` (k,) int64 numbers of phrases.
    """
    points, prompts = [], []
    for number in np.flatnonzero(close(named, found, thresholds)):
        best = int(named.relevance[:, number].argmax())
        points.append(inner_point(named.instances.rles[best], named.instances.boxes[best]))
        prompts.append(int(number))
    return {
        "points": np.array(points, np.float32).reshape(-1, 2),
        "prompts": np.array(prompts, np.int64),
    }


def close(named: Named, found: Instances, thresholds: FloatArray) -> BoolArray:
    """(P,) the phrases that nothing was found for, though something came near the threshold."""
    best = named.best()
    answered = np.isin(np.arange(len(best)), found.prompt_index)
    near: BoolArray = ~answered & (best > 0) & (best >= UNSURE * thresholds)
    return near


def inner_point(rle: RLE, box: FloatArray) -> tuple[float, float]:
    """``x, y`` of the pixel of a mask that is farthest from its border: where a person would click."""
    x1, y1, x2, y2 = (int(v) for v in box)
    found = deepest_point(decode_window(rle, (slice(y1, y2), slice(x1, x2))))
    assert found is not None, "no mask is empty here"
    return float(x1 + found[0]), float(y1 + found[1])
