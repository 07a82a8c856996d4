"""Image encoders beside segment-anything's, transformers' and ultralytics', same weights, taking turns.

    python benchmarks/encode.py [--models NAME...] [--repeats N] [--compile] [--json FILE]

What is timed is a photo, already of the model's size, to its embedding: ours from 8-bit pixels, the peers
from pixels that are normalised and padded. Three models: ViT-B's shape with random weights; TinyViT's
(MobileSAM) with random weights, which only ultralytics has beside us; `tiny` with its own weights, which no
one else has. Beside ours there is the encoder as it is trained, before batch normalisations are folded and
weights converted (sam/inference.py). Each row has the cosine and the largest difference to our embedding,
the latter as a part of the largest value. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _flops
import _models
import _peers
import _report
import torch
from torch import Tensor

from composer.presets import load_model_config
from sam.embedding import resize_longest_side
from sam.image_encoder.vit import ImageEncoderViT
from sam.model import SegmentAnything

MODELS = {"vit_b": "ViT-B shape", "mobile": "TinyViT shape", "tiny": "tiny"}
AS_TRAINED, COMPILED = f"{_report.OURS}, as trained", f"{_report.OURS}, compiled"
Encode = Callable[[], Tensor]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="ours through torch.compile, too")
    parser.add_argument("--json", type=Path, default=_report.RESULTS / "encode.json")
    options = parser.parse_args()
    about = _report.machine()
    rows: list[dict[str, Any]] = []
    for name in options.models:
        rows += compared(MODELS[name], model_of(name), options.repeats, compiled=options.compile)
        print(f"{MODELS[name]}: done", flush=True)
    settings = {"repeats": options.repeats, "photo": list(_models.PHOTO_SIZE)}
    _report.write("encode", settings, rows, about, options.json)


def model_of(name: str) -> SegmentAnything:
    """`tiny` whole, with its own weights; others at random."""
    if name != "tiny":
        model = _models.random_weights(name)
        model.prepare()
        return model
    from composer import Composer

    return Composer.load("tiny", device="cpu").model


def compared(case: str, model: SegmentAnything, repeats: int, *, compiled: bool) -> list[dict[str, Any]]:
    """Rows of one model: seconds, products, and how far the embeddings are apart."""
    photo = resize_longest_side(_models.photo(), model.image_size)
    ways: dict[str, Encode] = {
        _report.OURS: lambda: model.encode([photo])[0].features,
        AS_TRAINED: as_trained(model, photo),
    }
    if compiled:
        ways[COMPILED] = through_compiler(model, photo)
    ways |= peers_of(model, model.preprocess([photo]))
    answers = {name: way() for name, way in ways.items()}
    seconds = _report.take_turns(ways, repeats, warm_up=False)
    further = {name: distance(answer, answers[_report.OURS]) for name, answer in answers.items()}
    further[_report.OURS] = products(model)
    return _report.rows_of(case, seconds, further)


def as_trained(model: SegmentAnything, photo: _models.Pixels) -> Encode:
    """Our encoder without its form for inference."""

    @torch.inference_mode()
    def encode() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=model.compute_dtype is torch.bfloat16):
            found: Tensor = model.image_encoder(model.preprocess([photo])).image_embedding
        return found.float()

    return encode


def through_compiler(model: SegmentAnything, photo: _models.Pixels) -> Encode:
    """Our encoder compiled."""
    twin = SegmentAnything(model.image_encoder, model.prompt_encoder, model.mask_decoder).eval()
    twin.compute_dtype = model.compute_dtype
    twin.prepare(compile=True)
    return lambda: twin.encode([photo])[0].features


def peers_of(model: SegmentAnything, pixels: Tensor) -> dict[str, Encode]:
    """Encoders of those that are installed and have this one, by their names in results."""
    if isinstance(model.image_encoder, ImageEncoderViT):
        made: dict[str, Callable[[SegmentAnything], Any]] = {
            "segment_anything": _peers.segment_anything_of,
            "transformers": _peers.transformers_of,
            "ultralytics": _peers.ultralytics_of,
        }
    elif model.image_encoder.config == load_model_config("mobile").encoder:
        made = {"ultralytics": _peers.ultralytics_mobile_of}
    else:
        made = {}
    found: dict[str, Encode] = {}
    for name in made.keys() & _peers.installed().keys():
        peer = made[name](model)
        found[name] = lambda name=name, peer=peer: _peers.embedding_of(name, peer, pixels)  # type: ignore[misc]
    return {name: found[name] for name in _peers.PEERS if name in found}


def distance(found: Tensor, ours: Tensor) -> dict[str, float]:
    """How far two embeddings are apart."""
    a, b = found.flatten().double(), ours.flatten().double()
    largest = (a - b).abs().max() / b.abs().max()
    return {
        "cosine": round(float(torch.cosine_similarity(a, b, 0)), 7),
        "largest_difference": float(f"{float(largest):.2g}"),
    }


def products(model: SegmentAnything) -> dict[str, float]:
    """GFLOP of what ours cannot do without, and of a ViT what the published code makes for the same."""
    if isinstance(model.image_encoder, ImageEncoderViT):
        shape = model.image_encoder.config
        found = {
            "gflop": 2 * _flops.vit_macs(shape, pad_windows=False),
            "gflop_published": 2 * _flops.vit_macs(shape),
        }
    else:
        pixels = torch.zeros(1, 3, model.image_size, model.image_size)
        found = {"gflop": _flops.counted(lambda: model.image_encoder(pixels))}
    return {key: float(f"{value / 1e9:.4g}") for key, value in found.items()}


if __name__ == "__main__":
    main()
