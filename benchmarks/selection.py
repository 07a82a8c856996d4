"""From the low-resolution logits of 3,072 masks to those that stay, at 1200 x 1800 pixels, thresholds off.

    python benchmarks/selection.py [--masks N] [--peer-masks N] [--repeats N] [--json FILE]

The logits are made up: blobs of all sizes on 256 x 256 cells, as ViT-B, L and H give them for a grid of
32 x 32 clicks, so that no decoder is part of it. Each step's work is a row of its own, and the last row is
segment-anything's: its own functions, in its order, on the first of its batches of 192 masks, scaled up to
all (suppression of duplicates, which alone grows faster, is left out of it). Seconds are of the processor,
all threads added up, and by the clock. What stays is compared by matched masks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _shared import ROOT
from foundation import machine
from pycocotools import mask as coco_mask
from torch import Tensor

from adapters.contest import Contest
from adapters.drawing import DrawnMask, MaskDrawer
from adapters.regions import clean_masks
from adapters.rle import RLE
from adapters.selection import box_nms
from sam.allocation import keep_freed_memory
from sam.embedding import upsample_logits

IMAGE, SQUARE, CELLS = (1200, 1800), 1024, 256
INSIDE = (683, 1024)
NMS, BATCH, PEER_BATCH = 0.7, 12, 192


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--masks", type=int, default=3072)
    parser.add_argument("--peer-masks", type=int, default=PEER_BATCH)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/selection.json")
    options = parser.parse_args()
    keep_freed_memory()
    logits, scores = blobs(options.masks)
    kept = [mask.rle for mask in ours(logits, scores) if mask.rle is not None]
    few = logits[: options.peer_masks], scores[: options.peer_masks]
    work: dict[str, tuple[float, Callable[[], Any]]] = {
        "boxes first, then what stays": (1, lambda: ours(logits, scores)),
        "the same, stability at least 0.9": (1, lambda: ours(logits, scores, 0.9)),
        "every mask drawn, then boxes": (1, lambda: drawn_first(logits, scores)),
        "boxes of all, alone": (1, lambda: drawer().boxes(logits)),
        "clean-up of what stays, 100 pixels": (1, lambda: clean_masks(kept, 100)),
        "segment-anything": (options.masks / options.peer_masks, lambda: list(segment_anything(*few))),
    }
    rows = {}
    for name, (factor, call) in work.items():
        rows[name] = clock(call, options.repeats if factor == 1 else 1, factor)
        print(f"{name:<40}", rows[name], flush=True)
    report = {
        "benchmark": "selection",
        "machine": machine(),
        "masks": options.masks,
        "kept": len(kept),
        "matched_with_segment_anything": matched(*few),
        "rows": rows,
    }
    print({key: report[key] for key in ("kept", "matched_with_segment_anything")})
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {options.json}")


def blobs(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(n, rows, CELLS) logits of soft star-shaped blobs, without the padding; and (n,) predicted IoU."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: -(-INSIDE[0] * CELLS // SQUARE) + 1, :CELLS] + 0.5
    logits = np.empty((count, *y.shape), np.float32)
    for one in logits:
        radius, turn = CELLS * (0.02 + 0.45 * rng.random() ** 2), rng.random() * 2 * np.pi
        dx, dy = x - rng.random() * CELLS, y - rng.random() * CELLS * INSIDE[0] / SQUARE
        lobes = 1 + 0.3 * rng.random() * np.cos(rng.integers(2, 7) * np.arctan2(dy, dx) + turn)
        steep = 0.5 + 3.5 * rng.random()
        one[:] = np.clip(steep * (radius * lobes - np.hypot(dx, dy)), -20, 20)
        one += 0.3 * rng.standard_normal(y.shape, np.float32)
    return torch.from_numpy(logits), torch.from_numpy(rng.random(count, np.float32))


def drawer() -> MaskDrawer:
    """Of the image."""
    return MaskDrawer((CELLS, CELLS), SQUARE, INSIDE, IMAGE)


def ours(logits: Tensor, scores: Tensor, min_stability: float = 0.0) -> list[DrawnMask]:
    """As `everything` does it; logits that were dropped are at hand here, and decoded again there."""

    def again(rows: Any) -> Iterator[tuple[Any, Tensor]]:
        yield rows, logits[torch.from_numpy(rows[:, 0] * 3 + rows[:, 1])]

    contest = Contest(
        drawer(), again, lambda boxes: np.ones(len(boxes), bool), nms_thresh=NMS, min_stability=min_stability
    )
    numbers = torch.arange(len(logits))
    for some in numbers.split(BATCH):
        contest.add(torch.stack([some // 3, some % 3], 1), scores[some], logits[some])
    return contest.winners().drawn


def drawn_first(logits: Tensor, scores: Tensor) -> list[DrawnMask]:
    """The paper's order with our drawing: every mask, then suppression."""
    draws = drawer()
    drawn = [mask for some in logits.split(BATCH) for mask in draws.draw(some)]
    some = [i for i, mask in enumerate(drawn) if mask.area]
    boxes = np.array([drawn[i].box for i in some], np.float32)
    return [drawn[some[i]] for i in box_nms(boxes, scores.numpy()[some], NMS)]


def segment_anything(logits: Tensor, scores: Tensor) -> Iterator[tuple[RLE, Any, float]]:
    """Its way with one batch of masks: all of them at full size, then stability, boxes and runs."""
    from segment_anything.utils import amg

    for some, iou in zip(logits.split(PEER_BATCH), scores.split(PEER_BATCH), strict=True):
        padded = torch.nn.functional.pad(some, (0, 0, 0, CELLS - some.shape[1]))
        masks = upsample_logits(padded, SQUARE, INSIDE, IMAGE)
        stability = amg.calculate_stability_score(masks, 0.0, 1.0)
        masks = masks > 0
        boxes = amg.batched_mask_to_box(masks)
        runs = amg.mask_to_rle_pytorch(masks)
        for one, box, score, stable in zip(runs, boxes, iou.tolist(), stability.tolist(), strict=True):
            if stable >= 0:
                yield amg.coco_encode_rle(one), box, score


def matched(logits: Tensor, scores: Tensor) -> float:
    """Share of masks of either side whose best partner on the other has IoU of 0.99 or more."""
    theirs = [one for one in segment_anything(logits, scores) if coco_mask.area(one[0])]
    boxes = np.array([box.tolist() for _, box, _ in theirs], np.float32) + np.array([0, 0, 1, 1], np.float32)
    kept = box_nms(boxes, np.array([score for *_, score in theirs]), NMS)
    mine = [mask.rle for mask in ours(logits, scores)]
    iou = np.asarray(coco_mask.iou([theirs[i][0] for i in kept], mine, [0] * len(mine)))
    return float(min((iou.max(0) >= 0.99).mean(), (iou.max(1) >= 0.99).mean()))


def clock(call: Callable[[], Any], repeats: int, factor: float) -> dict[str, float]:
    """Median seconds, times ``factor``; the first of several calls does not count."""
    spent = []
    for turn in range(repeats + (repeats > 1)):
        before = time.process_time(), time.perf_counter()
        call()
        if turn or repeats == 1:
            spent.append((time.process_time() - before[0], time.perf_counter() - before[1]))
    processor, seconds = (factor * statistics.median(pair[i] for pair in spent) for i in (0, 1))
    return {"processor_seconds": round(processor, 3), "seconds": round(seconds, 3)}


if __name__ == "__main__":
    main()
