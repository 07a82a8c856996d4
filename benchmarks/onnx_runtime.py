"""The exported graphs in onnxruntime beside torch: the same weights and inputs, taking turns in one process.

    python benchmarks/onnx_runtime.py [--models tiny,vit_b] [--parts encode,decode] [--repeats N]

Encoding is of one image, decoding of one click and of 64. Weights of `tiny` are its own, the others' random.
Seconds are medians; ratios are torch's seconds over the other's, pair by pair, so that above 1 onnxruntime is
faster. `cpu_ratio` is the same of processor time, which does not count waiting for other programs. Needs the
extra `onnx`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from adapters.decoding import CACHE_BUDGET
from composer.presets import load_model_config, load_preset
from composer.weights import locate
from sam.allocation import keep_freed_memory
from sam.checkpoints import load_weights
from sam.embedding import Embedding
from sam.export import example_pixels, example_prompts, export_decoder, export_encoder
from sam.model import SegmentAnything
from sam.onnx_files import OnnxSession, quantize
from sam.prompts import Prompts
from sam.variants import build_model

ROOT = Path(__file__).resolve().parents[1]
CLICKS = (1, 64)
LEAST_REPEATS, LONG_SECONDS = 2, 90
"""After so many repeats, what has taken so long is measured no more."""
Work = Callable[[], object]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="tiny,vit_b")
    parser.add_argument("--parts", default="encode,decode")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/onnx.json")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    rows: dict[str, Any] = {}
    for name in options.models.split(","):
        model = segmenter(name)
        with tempfile.TemporaryDirectory() as folder:
            for part in options.parts.split(","):
                for label, ways in {"encode": encoding, "decode": decoding}[part](
                    model, Path(folder)
                ).items():
                    rows[f"{name} {label}"] = row = compare(ways, options.repeats)
                    print(f"{name:<7}{label:<17}", json.dumps(row), flush=True)
    machine = {
        "machine": f"{processor()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "load_average": round(os.getloadavg()[0], 1),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(machine | {"rows": rows}, indent=1) + "\n")
    print(f"written to {options.json}")


def segmenter(name: str) -> SegmentAnything:
    """The model of a preset; `tiny` with its weights."""
    model = build_model(load_model_config(name))
    if name == "tiny":
        preset = load_preset(name)
        load_weights(model, locate(preset), sha256=preset.weights.sha256, size=preset.weights.bytes)
    return model


def encoding(model: SegmentAnything, folder: Path) -> dict[str, dict[str, Work]]:
    """Ways to encode one image."""
    export_encoder(model, folder / "encoder.onnx")
    inputs = example_pixels(model, 1)
    (pixels,) = inputs.values()

    @torch.inference_mode()
    def in_torch() -> object:
        return model.image_encoder(pixels)

    return {"encode": {"torch": in_torch, **in_onnxruntime(folder / "encoder.onnx", [inputs])}}


def decoding(model: SegmentAnything, folder: Path) -> dict[str, dict[str, Work]]:
    """Ways to decode a few clicks and many, three masks each in torch and all four in ONNX."""
    export_decoder(model, folder / "decoder.onnx")
    rows = {}
    for clicks in CLICKS:
        inputs = example_prompts(model, clicks, 2)
        inputs["point_labels"] = torch.tensor([1.0, -1.0]).expand(clicks, -1).contiguous()
        inputs["has_mask_input"] = torch.zeros(clicks)
        skips = tuple(inputs[name] for name in ("high_res_2", "high_res_4") if name in inputs)
        size = (model.image_size, model.image_size)
        embedding = Embedding(inputs["image_embeddings"], skips, None, size, size, "")
        chunk = max(1, CACHE_BUDGET // embedding.features.nbytes)
        rows[f"decode {clicks}"] = {
            "torch": in_chunks(model, embedding, inputs["point_coords"][:, :1], chunk),
            **in_onnxruntime(folder / "decoder.onnx", split(inputs, chunk)),
        }
    return rows


def in_chunks(model: SegmentAnything, embedding: Embedding, clicks: Tensor, chunk: int) -> Work:
    """As adapters decode: so many at a time as the caches hold."""

    def decode() -> object:
        labels = torch.ones(len(clicks), 1, dtype=torch.int64)
        prompts = [Prompts(points=c, labels=labels[: len(c)]) for c in torch.split(clicks, chunk)]
        return [model.decode(embedding, p, multimask=True).low_res_logits() for p in prompts]

    return decode


def split(inputs: dict[str, Tensor], chunk: int) -> list[dict[str, Tensor]]:
    """The same inputs, so many objects at a time; what belongs to the image goes with all."""
    count = len(inputs["point_coords"])
    shared = {"image_embeddings", "high_res_2", "high_res_4"}
    return [
        {name: value if name in shared else value[start : start + chunk] for name, value in inputs.items()}
        for start in range(0, count, chunk)
    ]


def in_onnxruntime(path: Path, chunks: list[dict[str, Tensor]]) -> dict[str, Work]:
    """The file as it is, and with 8-bit weights."""
    small = path.with_suffix(".int8.onnx")
    quantize(path, small)
    sessions = {"onnx": OnnxSession(path), "int8": OnnxSession(small)}
    return {
        name: lambda session=session: [session.run(inputs) for inputs in chunks]  # type: ignore[misc]
        for name, session in sessions.items()
    }


def compare(ways: dict[str, Work], repeats: int) -> dict[str, float]:
    """Medians of seconds and of paired ratios."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    started = time.perf_counter()
    for i in range(repeats + 1):
        if i > LEAST_REPEATS and time.perf_counter() - started > LONG_SECONDS:
            break
        for name, way in ways.items():
            before = time.perf_counter(), time.process_time()
            way()
            if i > 0:  # the first warms up
                wall[name].append(time.perf_counter() - before[0])
                cpu[name].append(time.process_time() - before[1])
    row: dict[str, float] = {"repeats": len(wall["torch"])}
    row |= {f"{name}_seconds": round(statistics.median(seconds), 4) for name, seconds in wall.items()}
    for name in list(ways)[1:]:
        row[f"{name}_ratio"] = paired(wall["torch"], wall[name])
        row[f"{name}_cpu_ratio"] = paired(cpu["torch"], cpu[name])
    return row


def paired(one: list[float], other: list[float]) -> float:
    """Median of the ratios of pairs."""
    return round(statistics.median(a / b for a, b in zip(one, other, strict=True)), 2)


def processor() -> str:
    """Its name where the system tells it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
