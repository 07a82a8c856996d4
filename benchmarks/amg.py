"""Automatic masks of a photo from pixels to masks, beside three peers with the same weights, taking turns.

    python benchmarks/amg.py [--model tiny|vit_b] [--points-per-side N] [--repeats N] [--peers NAME...]
                             [--height H --width W] [--json FILE]

Encoding, decoding and selection all count. Thresholds are off on all sides (predicted IoU 0, stability 0), so
that no one wins by throwing away more; what is left is what box suppression at 0.7 leaves, and is stated. How
the answers agree: the share of a peer's masks that have one of ours with IoU of at least 0.99, the share
of ours that have one of the peer's, the median of the peer's best IoU, and the numbers of both.

Models: `tiny`, with its own weights and encoder behind every decoder, without skips; or ViT-B's shape, with
random weights wired so that a click is answered by blobs (benchmarks/_models.py says how and why). Every run
is kept as it is done: started again with the same options, a stopped benchmark goes on where it was. The full
one, ViT-B and 32 x 32 clicks, takes 10 to 20 minutes a round with all peers on two cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _models
import _peers
import _report
import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import nn

from adapters.base import Defaults, Scene
from adapters.everything import Everything, EverythingAdapter
from adapters.rle import RLE, encode_mask
from sam.model import SegmentAnything

NMS = 0.7
PER_BATCH = 64
SAME = 0.99
WARM_UP_SIDE = 2
"""Clicks a side of the call before each that is timed: all start with libraries loaded and memory fetched."""
Way = Callable[[], Any]
ToRles = Callable[[Any], list[RLE]]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(_models.MODELS), default="vit_b")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--peers", nargs="*", choices=list(_peers.PEERS), default=list(_peers.PEERS))
    parser.add_argument("--height", type=int, default=_models.PHOTO_SIZE[0])
    parser.add_argument("--width", type=int, default=_models.PHOTO_SIZE[1])
    parser.add_argument(
        "--json", type=Path, help="default: benchmarks/results/amg.json, amg-tiny.json for tiny"
    )
    options = parser.parse_args()
    name = "amg" if options.model == "vit_b" else f"amg-{options.model}"
    settings = {
        "model": _models.MODELS[options.model],
        "points_per_side": options.points_per_side,
        "warm_up_points_per_side": WARM_UP_SIDE,
        "repeats": options.repeats,
        "photo": [options.height, options.width],
    }
    about = _report.machine()
    model, photo = _models.named(options.model), _models.photo(options.height, options.width)
    ways = {_report.OURS: ours(model, photo, options.points_per_side)}
    warm_ups = {_report.OURS: ours(model, photo, WARM_UP_SIDE)[1]}
    for peer in options.peers:
        if peer in _peers.installed():
            ways[peer] = PEER_WAYS[peer](model, photo, options.points_per_side)
            warm_ups[peer] = PEER_WAYS[peer](model, photo, WARM_UP_SIDE)[1]
        else:
            print(f"{peer}: not installed, left out (pip install -e '.[bench]')")
    progress = _report.Progress(name, settings)
    case = (
        f"{_models.MODELS[options.model]}, {options.points_per_side} x {options.points_per_side} clicks, "
        f"{options.width} x {options.height} pixels"
    )
    rows = measured(case, ways, warm_ups, options.repeats, progress)
    clicks, run = options.points_per_side**2, ways[_report.OURS][1]
    rows[0] |= progress.once(
        "products", lambda: _models.products(options.model, model, run, clicks, encodes=True)
    )
    _report.write(name, settings, rows, about, options.json or _report.RESULTS / f"{name}.json")
    progress.finish()


def measured(
    case: str,
    ways: dict[str, tuple[nn.Module, Way, ToRles]],
    warm_ups: dict[str, Way],
    repeats: int,
    progress: _report.Progress,
) -> list[dict[str, Any]]:
    """A row for each way. Ours runs anew after a stop if a peer's masks are still to be compared with it."""
    kept: list[list[RLE]] = []

    def our_masks() -> list[RLE]:
        if not kept:
            _, way, to_rles = ways[_report.OURS]
            kept.append(to_rles(way()))
        return kept[0]

    seconds: dict[str, list[float]] = {name: [] for name in ways}
    further: dict[str, dict[str, Any]] = {}
    encoding: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name, way in ways.items():

            def run(name: str = name, way: tuple[nn.Module, Way, ToRles] = way) -> dict[str, Any]:
                _report.allocate_for(name)
                warm_ups[name]()
                took, encoded, rles = one_run(*way)
                if name == _report.OURS:
                    kept[:] = [rles]
                    return {"seconds": took, "encode_seconds": encoded, "masks": len(rles)}
                return {"seconds": took, "encode_seconds": encoded, **agreement(rles, our_masks())}

            record = progress.once(f"{name}, round {turn + 1}", run)
            seconds[name].append(record["seconds"])
            encoding[name].append(record["encode_seconds"])
            further[name] = {k: v for k, v in record.items() if not k.endswith("seconds")}
    for name, times in encoding.items():
        further[name]["encode_seconds"] = _report.summary(times)["median"]
    return _report.rows_of(case, seconds, further)


def one_run(encoder: nn.Module, way: Way, to_rles: ToRles) -> tuple[float, float, list[RLE]]:
    """Seconds in all, seconds in the encoder, masks; RLE that is made for the comparison is not timed."""
    with timed(encoder) as spent:
        started = time.perf_counter()
        answer = way()
        took = time.perf_counter() - started
    return took, sum(spent), to_rles(answer)


@contextmanager
def timed(module: nn.Module) -> Iterator[list[float]]:
    """Seconds of each call of ``module``, while it lasts."""
    started: list[float] = []
    spent: list[float] = []
    before = module.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))
    after = module.register_forward_hook(lambda *_: spent.append(time.perf_counter() - started.pop()))
    try:
        yield spent
    finally:
        before.remove()
        after.remove()


def agreement(theirs: Sequence[RLE], ours: Sequence[RLE]) -> dict[str, Any]:
    """How many masks there are on each side, and the share of each that has a counterpart on the other."""
    if not theirs or not ours:
        return {"masks": len(theirs), "matched": 0.0, "matched_of_ours": 0.0, "median_iou": 0.0}
    iou = np.asarray(coco_mask.iou(list(theirs), list(ours), [0] * len(ours)))
    return {
        "masks": len(theirs),
        "matched": round(float((iou.max(1) >= SAME).mean()), 4),
        "matched_of_ours": round(float((iou.max(0) >= SAME).mean()), 4),
        "median_iou": round(float(np.median(iou.max(1))), 4),
    }


def ours(model: SegmentAnything, photo: _models.Pixels, per_side: int) -> tuple[nn.Module, Way, ToRles]:
    """Our adapter on a scene that is not encoded yet."""
    request = Everything(
        points_per_side=per_side,
        pred_iou_thresh=0,
        stability_score_thresh=0,
        box_nms_thresh=NMS,
        max_mask_area_fraction=None,
    )

    def run() -> Any:
        scene = Scene(photo, model, lambda pixels: model.encode([pixels])[0], Defaults())
        return EverythingAdapter()(scene, request)

    return model.running_encoder, run, lambda found: list(found.rles)


def of_segment_anything(
    model: SegmentAnything, photo: _models.Pixels, per_side: int
) -> tuple[nn.Module, Way, ToRles]:
    """segment-anything's ``SamAutomaticMaskGenerator``, masks as COCO RLE."""
    from segment_anything import SamAutomaticMaskGenerator

    peer = _peers.segment_anything_of(model)
    generator = SamAutomaticMaskGenerator(
        peer,
        points_per_side=per_side,
        points_per_batch=PER_BATCH,
        pred_iou_thresh=0,
        stability_score_thresh=0,
        box_nms_thresh=NMS,
        output_mode="coco_rle",
    )
    return peer.image_encoder, lambda: generator.generate(photo), _rles_of_records


def _rles_of_records(records: list[dict[str, Any]]) -> list[RLE]:
    return [record["segmentation"] for record in records if record["area"] > 0]


def of_transformers(
    model: SegmentAnything, photo: _models.Pixels, per_side: int
) -> tuple[nn.Module, Way, ToRles]:
    """transformers' mask-generation pipeline, masks as arrays, which is all that it gives."""
    pipeline = _peers.transformers_pipeline(model)
    picture = Image.fromarray(photo)

    def run() -> Any:
        return pipeline(
            picture,
            points_per_batch=PER_BATCH,
            points_per_crop=per_side,
            pred_iou_thresh=0,
            stability_score_thresh=0,
            crops_nms_thresh=NMS,
        )["masks"]

    return pipeline.model.vision_encoder, run, _rles_of_arrays


def of_ultralytics(
    model: SegmentAnything, photo: _models.Pixels, per_side: int
) -> tuple[nn.Module, Way, ToRles]:
    """ultralytics' predictor without prompts.

    It pads with grey where the others pad with black, and selects masks at the size of the model's input, so
    that its answers differ somewhat from everyone else's.
    """
    predictor = _peers.ultralytics_predictor(model)
    predictor.args.iou = NMS
    picture = np.ascontiguousarray(photo[..., ::-1])

    def run() -> Any:
        found = predictor(
            picture,
            points_stride=per_side,
            points_batch_size=PER_BATCH,
            conf_thres=-1e9,
            stability_score_thresh=-1,
            stability_score_offset=1.0,
        )[0]
        return [] if found.masks is None else found.masks.data

    return predictor.model.image_encoder, run, _rles_of_arrays


def _rles_of_arrays(masks: Any) -> list[RLE]:
    found = [encode_mask(np.asarray(mask).astype(bool)) for mask in masks]
    return [rle for rle in found if coco_mask.area(rle) > 0]


PEER_WAYS = {
    "segment_anything": of_segment_anything,
    "transformers": of_transformers,
    "ultralytics": of_ultralytics,
}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
