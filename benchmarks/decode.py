"""The mask decoder beside segment-anything 1.0's, same weights, same prompts, taking turns in one run.

    python benchmarks/decode.py [--points N] [--repeats N] [--json FILE]

Both answer N clicks with three low-resolution masks each: ViT-B's decoder with random weights, and `tiny`'s
with its own (on an embedding without skips, which segment-anything has no room for). Needs segment-anything
(`pip install segment-anything`); `make setup` installs it.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters.decoding import CACHE_BUDGET
from composer.presets import load_model_config, load_preset
from composer.weights import locate
from sam.checkpoints import load_weights
from sam.mask_decoder import MLP
from sam.model import Embedding, SegmentAnything
from sam.prompts import Prompts
from sam.variants import build_model

ROOT = Path(__file__).resolve().parents[1]
Decode = Callable[[], Tensor]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/decode.json")
    options = parser.parse_args()
    rows = {}
    for name in ("vit_b", "tiny"):
        torch.manual_seed(0)
        model = build_model(load_model_config(name)).eval()
        if name == "tiny":
            preset = load_preset("tiny")
            load_weights(model, locate(preset), sha256=preset.weights.sha256, size=preset.weights.bytes)
        rows[name] = compare(model, options.points, options.repeats)
        print(f"{name:<6}", json.dumps(rows[name]), flush=True)
    machine = {
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "points": options.points,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(machine | {"rows": rows}, indent=1) + "\n")
    print(f"written to {options.json}")


def compare(model: SegmentAnything, points: int, repeats: int) -> dict[str, Any]:
    """Seconds of both, one after the other ``repeats`` times, and how far their logits are apart."""
    side, channels = model.image_size // 16, model.mask_decoder.iou_token.embedding_dim
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, channels, side, side, generator=generator)
    clicks = torch.rand(points, 1, 2, generator=generator) * model.image_size
    ways = {"ours": ours(model, features, clicks), "segment_anything": published(model, features, clicks)}
    answers = {name: way() for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["segment_anything"], strict=True)]
    return {
        **{f"{name}_seconds": round(statistics.median(times), 4) for name, times in seconds.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratio_low": round(min(ratios), 2),
        "ratio_high": round(max(ratios), 2),
        "largest_difference": float((answers["ours"] - answers["segment_anything"]).abs().max()),
        "largest_logit": float(answers["segment_anything"].abs().max()),
    }


def ours(model: SegmentAnything, features: Tensor, clicks: Tensor) -> Decode:
    """As adapters decode: in chunks that the caches hold."""
    size = (model.image_size, model.image_size)
    embedding = Embedding(features, (), None, size, size, "")
    at_once = max(1, CACHE_BUDGET // features.nbytes)

    def decode() -> Tensor:
        chunks = [
            model.decode(embedding, one_click_each(c), multimask=True) for c in torch.split(clicks, at_once)
        ]
        return torch.cat([chunk.low_res_logits() for chunk in chunks])

    return decode


def one_click_each(clicks: Tensor) -> Prompts:
    """(n, 1, 2) positions, each a click on an object of its own."""
    return Prompts(points=clicks, labels=torch.ones(len(clicks), 1, dtype=torch.int64))


def published(model: SegmentAnything, features: Tensor, clicks: Tensor) -> Decode:
    """segment-anything's prompt encoder and mask decoder with the weights of ``model``."""
    from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer

    decoder, channels, side = model.mask_decoder, features.shape[1], features.shape[-1]
    block = decoder.transformer.layers[0]
    head = decoder.iou_prediction_head
    assert isinstance(head, MLP)
    prompt_encoder = PromptEncoder(
        embed_dim=channels,
        image_embedding_size=(side, side),
        input_image_size=(model.image_size, model.image_size),
        mask_in_chans=16,
    )
    mask_decoder = MaskDecoder(
        transformer_dim=channels,
        transformer=TwoWayTransformer(
            depth=len(decoder.transformer.layers),
            embedding_dim=channels,
            num_heads=block.self_attn.num_heads,
            mlp_dim=block.mlp.lin1.out_features,
        ),
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=head.layers[0].out_features,
    )
    weights = model.state_dict()
    for module, prefix in ((prompt_encoder, "prompt_encoder."), (mask_decoder, "mask_decoder.")):
        module.load_state_dict({k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)})
        module.eval()

    @torch.inference_mode()
    def decode() -> Tensor:
        sparse, dense = prompt_encoder(points=(clicks, torch.ones(len(clicks), 1)), boxes=None, masks=None)
        logits, _ = mask_decoder(
            image_embeddings=features,
            image_pe=prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        answer: Tensor = logits.flatten(0, 1)
        return answer

    return decode


if __name__ == "__main__":
    main()
