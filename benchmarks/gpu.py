"""The whole on a GPU: encoders, decoder with and without CUDA graphs, automatic masks, a batch job.

    python benchmarks/gpu.py [--models vit_b vit_l vit_h] [--device cuda] [--repeats N] [--compile]
                             [--json FILE]

Random weights, wired so that a click is answered by blobs (benchmarks/_models.py). Rows: encoding 1 and 8
photos, with MFU, the share of the rate that was measured for square products of the same number format in
the same run; 64 and 1,024 clicks to low-resolution logits; automatic masks of a 32 x 32 grid from pixels to
masks; photos a second where 8 are encoded at a time and 8 x 8 clicks answered for each. segment-anything
runs beside ours under autocast to the same format with the same weights, where it is installed.

Without a GPU it says so and exits with 6. ``--device cpu --models small`` is a dry run of every step on a
model of a few thousand weights: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _flops
import _models
import _peers
import _report
import numpy as np
import torch
from torch import Tensor

from adapters.base import Defaults, Scene
from adapters.everything import Everything, EverythingAdapter
from sam.cuda_graphs import CapturedCalls, all_masks
from sam.errors import EnvironmentProblem
from sam.image_encoder.vit import ImageEncoderViT, ViTConfig
from sam.model import SegmentAnything
from sam.precision import choose_device, choose_precision
from sam.prompts import Prompts
from sam.variants import DecoderConfig, ModelConfig, build_model

MODELS = ("vit_b", "vit_l", "vit_h", "small")
SMALL = ModelConfig(
    "small",
    ViTConfig(32, 2, 2, (1,), image_size=128, window_size=3, out_chans=32),
    DecoderConfig(embed_dim=32, num_heads=4, mlp_dim=64, iou_head_hidden_dim=32, mask_in_chans=8),
)
BATCHES = (1, 8)
CLICKS = (64, 1024)
GRAPH, COMPILED = f"{_report.OURS}, CUDA graph", f"{_report.OURS}, compiled"
PEER = "segment_anything"
Rows = list[dict[str, Any]]


class Bench:
    """One model on one device, and what every row needs.

    Args:
        name: of the model.
        device: where it runs.
        peak: FLOP/s of square products there.
        repeats: rounds.
        per_side: of the grid of automatic masks.
    """

    def __init__(self, name: str, device: torch.device, peak: float, repeats: int, per_side: int) -> None:
        self.model = small_or_named(name).to(device)
        self.name, self.device, self.peak, self.repeats = name, device, peak, repeats
        self.per_side = per_side
        self.model.compute_in(choose_precision(device).dtype)
        self.model.prepare()
        side = self.model.image_size
        self.photos = [_models.photo(side * 2 // 3, side)] * max(BATCHES)

    def rows(self, case: str, ways: dict[str, Callable[[], Any]], further: Any = None) -> Rows:
        """Rows of one case; each run is waited for before its time is taken."""

        def waited(way: Callable[[], Any]) -> Callable[[], Any]:
            def run() -> Any:
                answer = way()
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                return answer

            return run

        seconds = _report.take_turns({name: waited(way) for name, way in ways.items()}, self.repeats)
        made = _report.rows_of(f"{self.name}, {case}", seconds, further)
        print(*(f"{row['case']}: {row['way']} {row['seconds']['median']:g} s" for row in made), sep="\n")
        return made

    def autocast(self) -> Any:
        """The number format of ours, for a peer."""
        reduced = self.model.compute_dtype is not torch.float32
        return torch.autocast(self.device.type, self.model.compute_dtype if reduced else None, reduced)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS[:3]))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--compile", action="store_true", help="our encoder through torch.compile, too")
    parser.add_argument("--json", type=Path, default=_report.RESULTS / "gpu.json")
    options = parser.parse_args()
    try:
        device = choose_device(options.device)
    except EnvironmentProblem as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    about = machine(device)
    rows: Rows = []
    for name in options.models:
        bench = Bench(name, device, about["peak_gflops"] * 1e9, options.repeats, options.points_per_side)
        rows += encoder_rows(bench, compiled=options.compile)
        rows += decoder_rows(bench)
        rows += automatic_rows(bench)
        rows += batch_rows(bench)
    settings = {"repeats": options.repeats, "points_per_side": options.points_per_side}
    _report.write("gpu", settings, rows, about, options.json)


def machine(device: torch.device) -> dict[str, Any]:
    """What :func:`_report.machine` says, the GPU, its number format and its rate of square products."""
    precision = choose_precision(device)
    about = _report.machine(rates=False) | {"precision": precision.name}
    if device.type == "cuda":
        about |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    about["peak_gflops"] = round(peak(device, precision.dtype) / 1e9, 1)
    return about


@torch.inference_mode()
def peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of square products, the best of ten runs of ten."""
    side, inside = (8192, 10) if device.type == "cuda" else (256, 1)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        for _ in range(inside):
            a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    best = min(_report.take_turns({"": multiply}, 10)[""])
    return 2 * inside * side**3 / best


def small_or_named(name: str) -> SegmentAnything:
    """The model of the dry run, or one of ``configs/models`` that answers with blobs."""
    if name != "small":
        return _models.blobs(name)
    torch.manual_seed(0)
    return build_model(SMALL)


def encoder_rows(bench: Bench, *, compiled: bool) -> Rows:
    """Photos of the model's size to embeddings, 1 and 8 at a time."""
    model = bench.model
    assert isinstance(model.image_encoder, ImageEncoderViT)
    flop = 2 * _flops.vit_macs(model.image_encoder.config, pad_windows=False)
    peer = _peers.segment_anything_of(model).to(bench.device) if PEER in _peers.installed() else None
    made: Rows = []
    for batch in BATCHES:
        photos = bench.photos[:batch]
        ways: dict[str, Callable[[], Any]] = {_report.OURS: lambda photos=photos: model.encode(photos)}
        if compiled:
            twin = SegmentAnything(model.image_encoder, model.prompt_encoder, model.mask_decoder)
            twin = twin.eval().to(bench.device)
            twin.compute_dtype = model.compute_dtype
            twin.prepare(compile=True)
            ways[COMPILED] = lambda photos=photos, twin=twin: twin.encode(photos)
        if peer is not None:
            pixels = model.preprocess(photos).contiguous()
            ways[PEER] = lambda pixels=pixels: encoded_by(bench, peer, pixels)
        rows = bench.rows(f"encode {batch}", ways, {_report.OURS: {"gflop": round(batch * flop / 1e9, 1)}})
        for row in rows:
            seconds = row["seconds"]["median"]
            row["mfu"] = round(batch * flop / seconds / bench.peak, 4)
            row["images_per_second"] = round(batch / seconds, 2)
        made += rows
    if peer is not None:
        ours = torch.cat([e.features for e in model.encode(bench.photos[:1])]).flatten().double()
        theirs = encoded_by(bench, peer, model.preprocess(bench.photos[:1])).flatten().double()
        made[0]["cosine"] = round(float(torch.cosine_similarity(ours, theirs, 0)), 6)
    return made


@torch.inference_mode()
def encoded_by(bench: Bench, peer: Any, pixels: Tensor) -> Tensor:
    """segment-anything's embedding, in the number format of ours."""
    with bench.autocast():
        found: Tensor = peer.image_encoder(pixels)
    return found.float()


def decoder_rows(bench: Bench) -> Rows:
    """Clicks to the low-resolution logits of all their masks."""
    model, device = bench.model, bench.device
    (embedding,) = model.encode(bench.photos[:1])
    generator = torch.Generator().manual_seed(0)
    made: Rows = []
    # Without a GPU the same function runs as it is: nothing is captured.
    captured = CapturedCalls(all_masks(model)) if device.type == "cuda" else all_masks(model)
    for count in CLICKS:
        points = torch.rand(count, 1, 2, generator=generator) * min(embedding.original_size)
        prompts = Prompts(points=points, labels=torch.ones(count, 1, dtype=torch.int64)).to(device)

        def decoded(prompts: Prompts = prompts) -> Tensor:
            return model.decode(embedding, prompts, multimask=True).low_res_logits()

        def drawn(prompts: Prompts = prompts) -> Tensor:
            with torch.inference_mode(), model.decoding():
                sparse = model.prompt_encoder.sparse(prompts.points, prompts.labels, None, None)
                assert sparse is not None
                return captured(sparse.float(), embedding.features)[1][:, 1:].flatten(0, 1)

        plain, graph = decoded(), drawn()
        apart = float((plain - graph).abs().max() / plain.abs().max())
        made += bench.rows(
            f"{count} clicks",
            {_report.OURS: decoded, GRAPH: drawn},
            {GRAPH: {"largest_difference": float(f"{apart:.2g}")}},
        )
    return made


def request(per_side: int) -> Everything:
    """Thresholds off, so that nothing is skipped."""
    return Everything(
        points_per_side=per_side, points_per_batch=1024, pred_iou_thresh=0, stability_score_thresh=0
    )


def automatic_rows(bench: Bench) -> Rows:
    """From pixels to suppressed masks of one photo."""
    model, photo = bench.model, _models.photo()

    def ours() -> Any:
        scene = Scene(photo, model, lambda pixels: model.encode([pixels])[0], Defaults())
        return EverythingAdapter()(scene, request(bench.per_side))

    ways: dict[str, Callable[[], Any]] = {_report.OURS: ours}
    further: dict[str, Any] = {_report.OURS: {"masks": len(ours())}}
    if PEER in _peers.installed():
        from segment_anything import SamAutomaticMaskGenerator

        peer = _peers.segment_anything_of(model).to(bench.device)
        # It hands masks to numpy, which has no bf16.
        peer.mask_decoder.register_forward_hook(lambda _, __, out: tuple(part.float() for part in out))
        generator = SamAutomaticMaskGenerator(
            peer,
            points_per_side=bench.per_side,
            pred_iou_thresh=0,
            stability_score_thresh=0,
            output_mode="coco_rle",
        )

        def theirs() -> Any:
            with bench.autocast():
                return generator.generate(photo)

        ways[PEER] = theirs
        further[PEER] = {"masks": len(theirs())}
    return bench.rows(f"automatic masks, {bench.per_side} x {bench.per_side}", ways, further)


def batch_rows(bench: Bench) -> Rows:
    """A batch job: photos encoded 8 at a time, a small grid of clicks answered for each."""
    model, count = bench.model, 2 * max(BATCHES)
    photos: list[np.ndarray[Any, Any]] = [_models.photo()] * count

    def job() -> None:
        for start in range(0, count, max(BATCHES)):
            chunk = photos[start : start + max(BATCHES)]
            for photo, embedding in zip(chunk, model.encode(chunk), strict=True):
                scene = Scene(photo, model, lambda _, embedding=embedding: embedding, Defaults())
                EverythingAdapter()(scene, request(min(8, bench.per_side)))

    (row,) = bench.rows(f"batch job of {count} photos", {_report.OURS: job})
    row["images_per_second"] = round(count / row["seconds"]["median"], 2)
    return [row]


if __name__ == "__main__":
    main()
