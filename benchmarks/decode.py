"""The mask decoder beside segment-anything's, transformers' and ultralytics', same weights, taking turns.

    python benchmarks/decode.py [--points N] [--repeats N] [--models NAME...] [--json FILE]

What is timed is prompts to low-resolution logits, for clicks (three masks each), boxes (one each) and boxes
with the mask of the round before; and a click on a photo of 1200 x 1800 pixels to masks of its size, as a
person waits for it. Two models: ViT-B's shape on random features, its decoder wired so that a click is
answered by blobs, and `tiny`'s weights on its own features of the photo, without its skips. Peers that are
not installed are left out (`pip install -e '.[bench]'`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _models
import _report
import torch
from _peer_decoders import Decode, decoders
from _peer_predictors import mask_iou, predictors
from torch import Tensor
from torch.nn import functional as F

from adapters.base import Defaults, Scene
from adapters.decoding import prompts_at_once
from adapters.points import Points, PointsAdapter
from sam.embedding import Embedding
from sam.model import SegmentAnything
from sam.prompts import Prompts

CLICK = (600.0, 700.0)
"""x, y pixels of the photo."""


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=list(_models.MODELS), default=list(_models.MODELS))
    parser.add_argument("--json", type=Path, default=_report.RESULTS / "decode.json")
    options = parser.parse_args()
    about = _report.machine(prompts=True)
    rows: list[dict[str, Any]] = []
    for name in options.models:
        scene = _models.encoded(_models.named(name), _models.photo())
        rows += low_resolution_rows(name, scene, options.points, options.repeats)
        rows += click_rows(name, scene, options.repeats)
        print(f"{_models.MODELS[name]}: done", flush=True)
    settings = {"prompts": options.points, "repeats": options.repeats, "photo": list(_models.PHOTO_SIZE)}
    _report.write("decode", settings, rows, about, options.json)


def prompt_sets(model: SegmentAnything, count: int) -> dict[str, tuple[Prompts, bool]]:
    """Prompts in pixels of the padded square and whether three masks are asked for, by name of the case."""
    side, generator = model.image_size, torch.Generator().manual_seed(0)
    clicks = torch.rand(count, 1, 2, generator=generator) * side
    corners = torch.rand(count, 2, 2, generator=generator).sort(1).values * side
    boxes = (corners + torch.tensor([[0, 0], [8, 8]])).flatten(1)
    coarse = torch.randn(count, 1, 8, 8, generator=generator) * 6
    logits = F.interpolate(coarse, (side // 4, side // 4), mode="bicubic")[:, 0]
    ones = torch.ones(count, 1, dtype=torch.int64)
    return {
        f"{count} clicks": (Prompts(points=clicks, labels=ones), True),
        "1 click": (Prompts(points=clicks[:1], labels=ones[:1]), True),
        f"{count} boxes": (Prompts(boxes=boxes), False),
        "1 box": (Prompts(boxes=boxes[:1]), False),
        f"{count} boxes with masks": (Prompts(boxes=boxes, mask_logits=logits), False),
        "1 box with mask": (Prompts(boxes=boxes[:1], mask_logits=logits[:1]), False),
    }


def low_resolution_rows(name: str, scene: Scene, count: int, repeats: int) -> list[dict[str, Any]]:
    """Rows of every case: seconds, how far the logits are apart, and the products that ours need."""
    model, square = scene.model, (scene.model.image_size, scene.model.image_size)
    embedding = Embedding(scene.embedding.features, (), None, square, square, "")
    flat = Scene(scene.image, model, lambda _: embedding, Defaults())
    ways: dict[str, Decode] = {_report.OURS: ours(flat), **decoders(model, embedding.features)}
    rows = []
    for case, (prompts, three) in prompt_sets(model, count).items():
        answers = {way: decode(prompts, three)[1] for way, decode in ways.items()}
        calls = {way: bound(decode, prompts, three) for way, decode in ways.items()}
        seconds = _report.take_turns(calls, repeats, warm_up=False)
        apart = {way: difference(logits, answers[_report.OURS]) for way, logits in answers.items()}
        further: dict[str, dict[str, Any]] = {way: {"difference": apart[way]} for way in ways}
        further[_report.OURS] = _models.products(name, model, calls[_report.OURS], len(prompts))
        rows += _report.rows_of(f"{_models.MODELS[name]}, {case}", seconds, further)
    return rows


def bound(decode: Decode, prompts: Prompts, three: bool) -> Callable[[], Any]:
    """The call without arguments."""
    return lambda: decode(prompts, three)


def ours(scene: Scene) -> Decode:
    """As adapters decode: so many prompts at a time as the caches hold."""

    def decode(prompts: Prompts, multimask: bool) -> tuple[Tensor, Tensor]:
        at_once = prompts_at_once(scene, len(prompts))
        iou, logits = [], []
        for start in range(0, len(prompts), at_once):
            candidates = scene.decode(prompts[start : start + at_once], multimask=multimask)
            iou.append(candidates.iou_predictions)
            logits.append(candidates.low_res_logits().unflatten(0, (len(candidates), -1)))
        return torch.cat(iou), torch.cat(logits)

    return decode


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference of logits over the largest of them."""
    return float(f"{float((found - expected).abs().max() / expected.abs().max()):.1e}")


def click_rows(name: str, scene: Scene, repeats: int) -> list[dict[str, Any]]:
    """A click after encoding, to three masks of the photo's size."""
    x, y = CLICK
    request, adapter = Points([[x, y]], masks="all"), PointsAdapter()
    found = predictors(scene.model, scene.embedding, scene.image)
    ways: dict[str, Callable[[], Any]] = {
        _report.OURS: lambda: adapter(scene, request),
        "sam-composer, masks as arrays": lambda: adapter(scene, request).masks,
        **{way: clicked(predictor) for way, predictor in found.items()},
    }
    expected = adapter(scene, request).masks
    # All three, in the order of the tokens, as the peers give them.
    further = {way: {"least_iou": round(float(mask_iou(ways[way](), expected).min()), 4)} for way in found}
    seconds = _report.take_turns(ways, 2 * repeats)
    height, width = scene.size
    return _report.rows_of(
        f"{_models.MODELS[name]}, a click to masks of {width} x {height}", seconds, further
    )


def clicked(predictor: Any) -> Callable[[], Any]:
    """The call without arguments."""
    return lambda: predictor.click(*CLICK)


if __name__ == "__main__":
    main()
