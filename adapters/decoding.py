"""From prompts to instances: what `points`, `boxes` and `everything` share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from adapters.base import Scene
from adapters.drawing import DrawnMask, MaskDrawer
from adapters.results import Instances
from sam.mask_decoder import NUM_MULTIMASK_OUTPUTS
from sam.model import MASK_THRESHOLD, Candidates
from sam.prompts import Prompts

PROMPTS_PER_DECODE = 64
CACHE_BUDGET = 32 << 20
"""On a CPU, so many bytes of the prompts' image sides are worked on at a time: what caches hold is not
fetched from memory again at each step of the decoder."""
RENDER_BUDGET = 256 << 20
"""Most bytes that drawing the low-resolution logits of one chunk of masks may take in the decoder."""
KEPT_LOGITS_BUDGET = 64 << 20
"""Results hold their low-resolution logits only up to this many bytes (256 masks of 256 x 256)."""
STABILITY_OFFSET = 1.0

Masks = Literal["best", "all"]
"""``best``: one mask for each prompt; ``all``: the three that an ambiguous prompt may mean."""
PER_PROMPT: dict[Masks, int] = {"best": 1, "all": NUM_MULTIMASK_OUTPUTS}


def drawer_of(
    scene: Scene, *, origin: tuple[int, int] = (0, 0), canvas: tuple[int, int] | None = None
) -> MaskDrawer:
    """Draws ``scene``'s masks; if it is a window, at ``origin`` in the whole image of size ``canvas``."""
    embedding = scene.embedding
    height, width = embedding.features.shape[-2:]
    return MaskDrawer(
        (4 * height, 4 * width),
        scene.model.image_size,
        embedding.input_size,
        scene.size,
        origin=origin,
        canvas=canvas,
        device=embedding.features.device,
    )


def prompts_at_once(scene: Scene, most: int) -> int:
    """How many of ``most`` prompts to decode together: speed and memory, not the result."""
    features = scene.embedding.features
    if features.device.type != "cpu":
        return most
    return max(1, min(most, CACHE_BUDGET // features[0].nbytes))


def render(
    scene: Scene, candidates: Candidates, index: Tensor, *, inside: tuple[int, int] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Low-resolution logits of chosen candidates, few enough at a time for :data:`RENDER_BUDGET`.

    Args:
        index: (n, 2) int64 rows of (prompt, column).
        inside: draw the upper left (rows, columns) of the embedding's cells alone.

    Yields:
        Rows of ``index`` and their (k, h, w) float32 logits.
    """
    _, channels, height, width = scene.embedding.features.shape
    # The upscaled features (C/8 at stride 4) of a mask's prompt, beside their activation and two copies.
    mask_bytes = 4 * (channels // 8) * (4 * height) * (4 * width) * 4
    for rows in torch.split(index, max(1, RENDER_BUDGET // mask_bytes)):
        yield rows, candidates.low_res_logits(rows, window=inside)


def segment(
    scene: Scene,
    prompts: Prompts,
    *,
    multimask: bool,
    masks: Masks = "best",
    refine: int = 0,
    origin: tuple[int, int] = (0, 0),
    canvas: tuple[int, int] | None = None,
) -> Instances:
    """Answer every prompt: N instances, or 3 N for ``masks="all"``, in the order of the prompts.

    Args:
        multimask: ask for the three masks of an ambiguous prompt and rank them by predicted IoU; else the
            single-mask token answers.
        masks: whether to return the top-ranked mask of each prompt or all of them.
        refine: rounds in which the best mask's logits are fed back beside the prompt (App. D.4).
        origin, canvas: of a window, see :func:`drawer_of`; prompts are pixels of ``scene`` all the same.
    """
    drawer = drawer_of(scene, origin=origin, canvas=canvas)
    keep_logits = held_logits(drawer, len(prompts), masks)
    parts = []
    at_once = prompts_at_once(scene, PROMPTS_PER_DECODE)
    for start in range(0, len(prompts), at_once):
        chunk = prompts[start : start + at_once]
        for _ in range(refine):
            candidates = scene.decode(chunk, multimask=multimask)
            chunk = replace(chunk, mask_logits=_logits(scene, candidates, _best(candidates)))
        candidates = scene.decode(chunk, multimask=multimask)
        answer = answer_of(scene, drawer, candidates, chunk, start=start, multimask=multimask, masks=masks)
        parts.append(answer if keep_logits else answer.replace(low_res_logits=None))
    return Instances.concatenate(parts)


def held_logits(drawer: MaskDrawer, prompts: int, masks: Masks) -> bool:
    """Whether an answer to so many prompts holds its low-resolution logits: :data:`KEPT_LOGITS_BUDGET`."""
    height, width = drawer.low_size
    return prompts * PER_PROMPT[masks] * height * width * 4 <= KEPT_LOGITS_BUDGET


def answer_of(
    scene: Scene,
    drawer: MaskDrawer,
    candidates: Candidates,
    prompts: Prompts,
    *,
    start: int = 0,
    multimask: bool,
    masks: Masks,
) -> Instances:
    """The instances of decoded prompts, with their low-resolution logits.

    Args:
        candidates: of ``prompts``, decoded with ``multimask``.
        start: number of the first prompt in its request.
        masks: see :func:`segment`.
    """
    index = _every(candidates) if masks == "all" else _best(candidates)
    logits = _logits(scene, candidates, index)
    drawn = drawer.draw(logits, threshold=MASK_THRESHOLD, offset=STABILITY_OFFSET)
    return collect(
        drawer.canvas,
        drawn,
        candidates.iou_predictions[tuple(index.T)],
        ambiguity=index[:, 1] if multimask else None,
        prompt_index=index[:, 0] + start,
        points=None if prompts.points is None else prompts.points[:, 0][index[:, 0].cpu()],
        low_res_logits=logits,
    )


def collect(
    image_size: tuple[int, int],
    drawn: Sequence[DrawnMask],
    predicted_iou: Tensor,
    *,
    ambiguity: Tensor | None = None,
    prompt_index: Tensor | None = None,
    points: Tensor | None = None,
    low_res_logits: Tensor | None = None,
) -> Instances:
    """Instances from n drawn masks and their (n,) predicted IoU, which becomes the ranking score."""
    iou = predicted_iou.float().cpu().numpy()
    optional = {"ambiguity": ambiguity, "prompt_index": prompt_index, "points": points}
    columns: dict[str, Any] = {k: v.cpu().numpy() for k, v in optional.items() if v is not None}
    return Instances(
        image_size=image_size,
        rles=tuple(mask.rle for mask in drawn if mask.rle is not None),
        boxes=np.array([mask.box for mask in drawn], np.float32).reshape(-1, 4),
        scores=iou,
        predicted_iou=iou,
        stability=np.array([mask.stability for mask in drawn], np.float32),
        low_res_logits=low_res_logits,
        **columns,
    )


def _best(candidates: Candidates) -> Tensor:
    best = candidates.iou_predictions.argmax(1)
    return torch.stack([torch.arange(len(best), device=best.device), best], 1)


def _every(candidates: Candidates) -> Tensor:
    return torch.ones_like(candidates.iou_predictions, dtype=torch.bool).nonzero()


def _logits(scene: Scene, candidates: Candidates, index: Tensor) -> Tensor:
    return torch.cat([logits for _, logits in render(scene, candidates, index)])
