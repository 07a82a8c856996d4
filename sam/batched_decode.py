"""Prompts on several images through one pass of the decoder: a server's clicks, a few on each of many images.

The two-way transformer takes an image for each prompt as readily as one for all. What is alike for the
prompts of one image, its keys before the first attention, is worked out for each of them here, so that many
prompts on one image belong into ``SegmentAnything.decode``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sam.embedding import Embedding
from sam.errors import BadPrompt
from sam.mask_decoder import NUM_MASK_TOKENS, Attended
from sam.model import Candidates, SegmentAnything
from sam.prompts import Prompts


@torch.inference_mode()
def decode_many(
    model: SegmentAnything,
    embeddings: Sequence[Embedding],
    prompts: Sequence[Prompts],
    *,
    multimask: bool,
) -> list[Candidates]:
    """Decode the prompts of B images, those of one form in one pass.

    Args:
        model: whose ``encode`` made the embeddings.
        embeddings: B images.
        prompts: B batches of prompts, each in pixels of its own image. Prompts are of one form if they have
            as many points each, and the same of boxes, mask logits and text.
        multimask: as in ``SegmentAnything.decode``, for all.

    Returns:
        What ``decode`` gives for each image, to rounding.

    Raises:
        BadPrompt: not as many batches of prompts as images.
    """
    if len(embeddings) != len(prompts):
        raise BadPrompt(f"{len(prompts)} batches of prompts for {len(embeddings)} images", field="prompts")
    groups: dict[tuple[int | None, ...], list[int]] = {}
    for place, one in enumerate(prompts):
        groups.setdefault(_form(one), []).append(place)
    found: dict[int, Candidates] = {}
    for places in groups.values():
        some = _decode_alike(model, [embeddings[i] for i in places], [prompts[i] for i in places], multimask)
        found.update(zip(places, some, strict=True))
    return [found[place] for place in range(len(prompts))]


def _form(prompts: Prompts) -> tuple[int | None, ...]:
    """What prompts must share to have as many tokens, and the same sort of image side."""
    points = None if prompts.points is None else prompts.points.shape[1]
    others = (prompts.boxes, prompts.mask_logits, prompts.text)
    return (points, *(None if value is None else 1 for value in others))


def _decode_alike(
    model: SegmentAnything, embeddings: Sequence[Embedding], prompts: Sequence[Prompts], multimask: bool
) -> list[Candidates]:
    moved = [one.to(model.device) for one in prompts]
    scales = [embedding.scale(model.device) for embedding in embeddings]
    points = _joined([p.points for p in moved], scales)
    boxes = _joined([None if p.boxes is None else p.boxes.view(-1, 2, 2) for p in moved], scales)
    labels, logits, text = (
        _joined([getattr(p, name) for p in moved]) for name in ("labels", "mask_logits", "text")
    )
    counts = [len(one) for one in moved]
    image = torch.cat([e.features.expand(n, -1, -1, -1) for e, n in zip(embeddings, counts, strict=True)])
    with model.decoding():
        sparse = model.prompt_encoder.sparse(
            points, labels, None if boxes is None else boxes.reshape(-1, 4), text
        )
        attended = model.mask_decoder.attend(
            image, model.image_pe(image), sparse, model.prompt_encoder.dense(logits), sum(counts)
        )
    first, last = (1, NUM_MASK_TOKENS) if multimask else (0, 1)
    ends = torch.tensor(counts).cumsum(0).tolist()
    return [
        Candidates(
            model.mask_decoder,
            _part(attended, slice(end - n, end)),
            embedding.high_res_features,
            first,
            last,
            model.decoding(),
        )
        for embedding, n, end in zip(embeddings, counts, ends, strict=True)
    ]


def _joined(values: Sequence[Tensor | None], scales: Sequence[Tensor] | None = None) -> Tensor | None:
    """The batches of all images one after another, each scaled; None if there are none."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    if scales is not None:
        present = [value.float() * scale for value, scale in zip(present, scales, strict=True)]
    return torch.cat(present)


def _part(attended: Attended, rows: slice) -> Attended:
    """The decoder's state of some of the prompts."""
    total = len(attended.iou_predictions)
    parts: dict[str, Any] = {
        name: value[rows]
        for name, value in attended._asdict().items()
        if isinstance(value, Tensor) and len(value) == total
    }
    return attended._replace(**parts)
