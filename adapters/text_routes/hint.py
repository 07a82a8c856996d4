"""One click where the words were not enough: decoded again from the mask that they had chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.base import Scene
from adapters.decoding import segment
from adapters.points import FOREGROUND
from adapters.results import FloatArray, Instances
from adapters.rle import RLE, decode_mask, sample_mask
from adapters.text_routes.naming import labelled, look_at
from adapters.text_routes.sight import Sight, with_route
from adapters.text_routes.vocabulary import Vocabulary
from sam.prompts import Prompts

CERTAIN = 8.0
"""Logit of a pixel that is in a mask for certain, where its own logits are not at hand."""


def from_hint(
    sight: Sight, words: Vocabulary, masks: Sequence[Instances], point: tuple[float, float]
) -> Instances:
    """The object of one phrase at a click.

    Of the masks that hold the click (of ``masks``, and the three that the click alone may mean) the one that
    fits the phrase best is fed back, as low-resolution logits, together with the click.

    Args:
        sight: of the image.
        words: one phrase.
        masks: what the route chooses among.
        point: ``x, y`` pixels inside of the image.

    Returns:
        One instance with its text score, whatever that is: the person has pointed at it.
    """
    scene = sight.scene
    click = Prompts(points=torch.tensor([[point]], dtype=torch.float32), labels=torch.tensor([[FOREGROUND]]))
    meant = segment(scene, click, multimask=True, masks="all")
    own_logits = meant.low_res_logits
    numbered = with_route(meant, "rank").replace(prompt_index=np.arange(len(meant)))
    clicked = numbered[numbered.areas > 0]
    # Looking at a mask takes longer than anything else here, so at those of the place alone.
    here = [some[[i for i, rle in enumerate(some.rles) if _holds(rle, point)]] for some in masks]
    seen = look_at(scene.image, Instances.concatenate([clicked, *here]), sight.model)
    prompts = click
    if len(seen.instances):
        best = int(seen.named(words).relevance[:, 0].argmax())
        if best < len(clicked) and own_logits is not None:
            logits = own_logits[[int(clicked.prompt_index[best])]]
        else:
            logits = logits_of_mask(scene, seen.instances.rles[best])
        prompts = Prompts(points=click.points, labels=click.labels, mask_logits=logits)
    answer = segment(scene, prompts, multimask=False)
    kept = look_at(scene.image, with_route(answer, "hint"), sight.model)
    scores: FloatArray = kept.named(words).relevance[:, 0]
    return labelled(kept.instances, words.phrases[0], 0, scores)


def logits_of_mask(scene: Scene, rle: RLE) -> Tensor:
    """(1, h, w) float32 low-resolution logits of a mask, over the padded square as the decoder gives them.

    The logit of a cell is that of the share of it which the mask covers.
    """
    height, width = (4 * side for side in scene.embedding.features.shape[-2:])
    rows, columns = (
        max(1, round(side * low / scene.model.image_size))
        for side, low in zip(scene.embedding.input_size, (height, width), strict=True)
    )
    mask = torch.from_numpy(decode_mask(rle)).float()[None, None]
    share = F.interpolate(mask, (rows, columns), mode="bilinear", antialias=True, align_corners=False)[0]
    least = 1 / (1 + np.exp(CERTAIN))
    inside = share.clamp(least, 1 - least).logit()
    return F.pad(inside, (0, width - columns, 0, height - rows), value=-CERTAIN).to(
        scene.embedding.features.device
    )


def _holds(rle: RLE, point: tuple[float, float]) -> bool:
    x, y = (np.array([int(v)]) for v in point)
    return bool(sample_mask(rle, y, x)[0, 0])
