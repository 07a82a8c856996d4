"""What is done with ONNX files once they are written: run them, compare them with torch, make them 8-bit."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam.errors import EnvironmentProblem
from sam.export import (
    ANSWERS,
    EDGES,
    EMBEDDINGS,
    METADATA,
    PIXELS,
    SKIPS,
    DecoderGraph,
    EncoderGraph,
    encoder_outputs,
    example_pixels,
    example_prompts,
    require_onnx,
)
from sam.image_encoder import EncoderOutput
from sam.model import SegmentAnything

TOLERANCE = 1e-4
"""How far an exported graph may be from torch: of the largest value of an output, or of 1 if that is more."""
QUANTIZED = ("MatMul", "Gemm")
"""Operators that get 8-bit weights. Convolutions keep theirs: their 8-bit form is slower on CPUs."""
SEVERE = 3
"""onnxruntime's level of messages: errors. It warns of weights that it could not fold, for one."""


class OnnxSession:
    """An ONNX file, loaded into onnxruntime to run on the CPU. Safe to share between threads.

    Args:
        path: of the file.
        threads: to compute with; None: as many as torch uses.

    Attributes:
        metadata: what :func:`sam.export.describe` and the exporter put into the file; empty
            in a file of others.

    Raises:
        EnvironmentProblem: onnxruntime is not installed, or cannot load the file.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        require_onnx("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        # Threads that wait by spinning take the time of those that work, torch's among them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = SEVERE
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors share no base but this
            raise EnvironmentProblem(
                f"{path}: onnxruntime {onnxruntime.__version__} cannot load it: {error}", code="onnx_unusable"
            ) from error
        found: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.metadata: dict[str, Any] = json.loads(found.get(METADATA, "{}"))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(value.name for value in self._session.get_inputs())

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by name in, tensors by name out; on the CPU."""
        names = [value.name for value in self._session.get_outputs()]
        arrays = self._session.run(None, {name: value.contiguous().numpy() for name, value in inputs.items()})
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}


class OnnxEncoder(nn.Module):
    """An exported encoder in the place of a model's own; it computes in float32 on the CPU.

    Args:
        session: of a file by :func:`sam.export.export_encoder`.
    """

    def __init__(self, session: OnnxSession) -> None:
        super().__init__()
        self.session = session

    def forward(self, pixels: Tensor) -> EncoderOutput:
        """Encode (B, 3, S, S) float32 normalised, padded pixels."""
        found = self.session.run({PIXELS: pixels})
        skips = tuple(found[name] for name in SKIPS if name in found)
        return EncoderOutput(found[EMBEDDINGS], skips, found.get(EDGES))


def compare_encoder(model: SegmentAnything, path: Path, *, images: int = 1) -> float:
    """Largest difference of an exported encoder from ``model`` in torch, relative as :data:`TOLERANCE` is."""
    with _seeded():
        inputs = example_pixels(model, images)
    return _compare(EncoderGraph(model), encoder_outputs(model), path, inputs)


def compare_decoder(model: SegmentAnything, path: Path, *, objects: int = 2, points: int = 3) -> float:
    """Largest difference of an exported decoder from ``model`` in torch, relative as :data:`TOLERANCE` is."""
    with _seeded():
        inputs = example_prompts(model, objects, points)
    return _compare(DecoderGraph(model), ANSWERS, path, inputs)


def quantize(source: Path, target: Path) -> None:
    """Write ``source`` with 8-bit weights in its matrix products; activations are rounded as they come.

    Weights are rounded for each output channel on its own. What else is in the file is kept, and so is its
    metadata.

    Raises:
        EnvironmentProblem: the packages of the extra ``onnx`` are not installed.
        OSError: ``target`` cannot be written.
    """
    require_onnx("onnx", "onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=_in_heads(source),
            weight_type=QuantType.QInt8,
            per_channel=True,
            use_external_data_format=source.with_name(source.name + ".data").exists(),
        )


def _in_heads(path: Path) -> list[str]:
    """Names of products with a stack of matrices, one a head, which cannot have scales by channel.

    They concern the few tokens, never the image.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    stacks = {weight.name for weight in graph.initializer if len(weight.dims) > 2}
    return [node.name for node in graph.node if node.op_type == "MatMul" and stacks & set(node.input)]


@torch.inference_mode()
def _compare(graph: nn.Module, outputs: tuple[str, ...], path: Path, inputs: Mapping[str, Tensor]) -> float:
    answers = OnnxSession(path).run(inputs)
    wanted = dict(zip(outputs, graph.eval()(*inputs.values()), strict=True))
    return max(
        float((answers[name] - value).abs().max() / value.abs().max().clamp(min=1.0))
        for name, value in wanted.items()
    )


@contextmanager
def _seeded() -> Iterator[None]:
    """Random numbers of the block are the same every time, and those after it as if it had not been."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice, which it gives to the root logger, to optimise the graph before."""
    root = logging.getLogger()
    root.addFilter(_no_advice)
    try:
        yield
    finally:
        root.removeFilter(_no_advice)


def _no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()
