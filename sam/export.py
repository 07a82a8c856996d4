"""The model as two ONNX graphs, traced from the modules that run in torch: an image encoder, a mask decoder.

Both take float32 tensors and give float32 tensors; they need no image library and no other file.

Encoder: ``pixels`` (B, 3, S, S), the images as :meth:`SegmentAnything.preprocess` makes them: RGB 0 to 255
resized so that the longest side is S, less ``pixel_mean``, over ``pixel_std``, then padded right and bottom
with zeros. It gives ``image_embeddings`` (B, C, h, w) with h = w = S / 16 and, of encoders that have them,
``high_res_2`` (B, C/4, 2h, 2w), ``high_res_4`` (B, C/8, 4h, 4w) and ``edge_logits`` (B, 1, 4h, 4w).

Decoder: inputs and outputs are named as in segment-anything's own export, with one more axis: N objects are
decoded at once. B, N and K are free; N = 1 is the interactive case.

=================== ===================================================================================
``image_embeddings`` (1, C, h, w), one image's row of the encoder's output
``point_coords``     (N, K, 2) ``x, y`` in pixels of the padded square: those of the image times S over its
                     longest side (more exactly, each axis times resized over original length)
``point_labels``     (N, K): 1 object, 0 background, 2 and 3 a box's upper left and lower right corner, -1
                     padding. An object without a box must end with one padding point (its place does not
                     matter), as in training; one with a box has none. K = 0: the mask input alone.
``mask_input``       (N, 1, 4h, 4w) low-resolution logits of an earlier answer, or zeros
``has_mask_input``   (N,): 1 where ``mask_input`` counts, else 0
``high_res_2``       one image's row of the encoder's outputs of the same names; only where the encoder has
``high_res_4``       them
``low_res_masks``    (N, 4, 4h, 4w) logits over the padded square, a pixel is in the mask where they exceed 0
``iou_predictions``  (N, 4) predicted IoU of each. Mask 0 is for prompts that leave no doubt (a box, several
                     points); masks 1 to 3 are the three meanings of a single click, not in order
=================== ===================================================================================

The graphs are exported with 32-bit weights; :func:`sam.onnx_files.quantize` makes 8-bit ones of them.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam.errors import EnvironmentProblem, UsageError
from sam.image_encoder.compact import CompactEncoder
from sam.model import MASK_THRESHOLD, PIXEL_MEAN, PIXEL_STD, SegmentAnything

OPSET = 18
"""The oldest that torch's exporter writes: what reads newer ones reads it too."""
NEWEST_OPSET = 24
"""The newest that the graphs were written in and compared with torch."""
MOST_IN_ONE_FILE = 1 << 30
"""Bytes of weights in the ``.onnx`` file itself, whose format ends at 2 GiB; more go into ``.onnx.data``."""
STRIDE = 16
"""Pixels of the padded square on a side of a cell of the embedding, of every encoder."""
METADATA = "sam_composer"
"""Key of the file's metadata that is ours."""
PIXELS = "pixels"
EMBEDDINGS = "image_embeddings"
SKIPS = ("high_res_2", "high_res_4")
EDGES = "edge_logits"
PROMPTS = ("point_coords", "point_labels", "mask_input", "has_mask_input")
ANSWERS = ("low_res_masks", "iou_predictions")


class EncoderGraph(nn.Module):
    """(B, 3, S, S) float32 normalised, padded pixels -> the embedding, and finer maps and edges if any."""

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__()
        self.image_encoder = model.image_encoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """All outputs that there are, in the order of :func:`encoder_outputs`."""
        out = self.image_encoder(pixels)
        edges = () if out.edge_logits is None else (out.edge_logits,)
        return (out.image_embedding, *out.high_res_features, *edges)


class DecoderGraph(nn.Module):
    """Prompts of N objects -> all four masks of each and their predicted IoU (inputs: see the module)."""

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__()
        self.prompt_encoder, self.mask_decoder = model.prompt_encoder, model.mask_decoder

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        high_res_2: Tensor | None = None,
        high_res_4: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``low_res_masks`` (N, 4, 4h, 4w) and ``iou_predictions`` (N, 4)."""
        encoder = self.prompt_encoder
        sparse = encoder.embed_labelled(point_coords, point_labels.to(torch.int64))
        given = has_mask_input.view(-1, 1, 1, 1)
        dense = given * encoder.dense(mask_input[:, 0]) + (1 - given) * encoder.dense(None)
        positions = encoder.pe_layer.grid(image_embeddings.shape[-2], image_embeddings.shape[-1])
        attended = self.mask_decoder.attend(image_embeddings, positions, sparse, dense, point_coords.shape[0])
        skips = () if high_res_2 is None or high_res_4 is None else (high_res_2, high_res_4)
        return self.mask_decoder.render_all(attended, skips), attended.iou_predictions


def encoder_outputs(model: SegmentAnything) -> tuple[str, ...]:
    """Names of what the encoder of this model gives, in order."""
    compact = isinstance(model.image_encoder, CompactEncoder)
    return (EMBEDDINGS, *SKIPS, EDGES) if compact else (EMBEDDINGS,)


def decoder_inputs(model: SegmentAnything) -> tuple[str, ...]:
    """Names of what the decoder of this model takes, in order."""
    return (EMBEDDINGS, *PROMPTS, *(name for name in encoder_outputs(model) if name in SKIPS))


def example_pixels(model: SegmentAnything, images: int) -> dict[str, Tensor]:
    """Random input of the encoder, by name."""
    return {PIXELS: torch.randn(images, 3, model.image_size, model.image_size)}


def example_prompts(model: SegmentAnything, objects: int, points: int) -> dict[str, Tensor]:
    """Random inputs of the decoder, by name: every kind of point, and masks for about half of the objects."""
    side, width = model.image_size, model.prompt_encoder.embed_dim
    cells = side // STRIDE
    inputs = {
        EMBEDDINGS: torch.randn(1, width, cells, cells),
        "point_coords": side * torch.rand(objects, points, 2),
        "point_labels": torch.randint(-1, 4, (objects, points)).float(),
        "mask_input": 8 * torch.randn(objects, 1, 4 * cells, 4 * cells),
        "has_mask_input": torch.randint(0, 2, (objects,)).float(),
        "high_res_2": torch.randn(1, width // 4, 2 * cells, 2 * cells),
        "high_res_4": torch.randn(1, width // 8, 4 * cells, 4 * cells),
    }
    return {name: inputs[name] for name in decoder_inputs(model)}


def export_encoder(
    model: SegmentAnything, path: Path, *, opset: int = OPSET, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write the encoder, for any number of images, to ``path`` (and ``path``.data, if it is large).

    Args:
        model: on the CPU; what it computes in float32 is exported, whatever its ``compute_dtype``.
        path: where to; an existing file is overwritten.
        opset: version of ONNX's operators.
        metadata: what JSON can hold; it is put into the file beside what :func:`describe` says, as one JSON
            object under :data:`METADATA`.

    Raises:
        UsageError: an opset before :data:`OPSET` or after :data:`NEWEST_OPSET`.
        EnvironmentProblem: the packages of the extra ``onnx`` are not installed.
        OSError: ``path`` cannot be written.
    """
    images = torch.export.Dim("images")
    program = _trace(
        EncoderGraph(model),
        example_pixels(model, 2),
        {PIXELS: {0: images}},
        encoder_outputs(model),
        opset,
    )
    _save(program, path, {**describe(model), **(metadata or {})}, model.image_encoder)


def export_decoder(
    model: SegmentAnything, path: Path, *, opset: int = OPSET, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write the decoder, for any number of objects and points; as :func:`export_encoder` otherwise."""
    objects, points = torch.export.Dim("objects"), torch.export.Dim("points")
    free = {
        "point_coords": {0: objects, 1: points},
        "point_labels": {0: objects, 1: points},
        "mask_input": {0: objects},
        "has_mask_input": {0: objects},
    }
    # Sizes of 0 and 1 are special to the tracer, and those of an example should differ.
    program = _trace(DecoderGraph(model), example_prompts(model, 3, 2), free, ANSWERS, opset)
    _save(program, path, {**describe(model), **(metadata or {})}, model.mask_decoder)


def describe(model: SegmentAnything) -> dict[str, Any]:
    """What a user of the files must know of the model, as JSON can hold it."""
    return {
        "image_size": model.image_size,
        "pixel_mean": PIXEL_MEAN,
        "pixel_std": PIXEL_STD,
        "mask_threshold": MASK_THRESHOLD,
        "weights_sha256": model.digest,
        "encoder_inputs": (PIXELS,),
        "encoder_outputs": encoder_outputs(model),
        "decoder_inputs": decoder_inputs(model),
        "decoder_outputs": ANSWERS,
    }


def _trace(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    free: Mapping[str, dict[int, Any]],
    outputs: Sequence[str],
    opset: int,
) -> torch.onnx.ONNXProgram:
    """The graph as an ONNX program whose axes in ``free`` may have any size."""
    if not OPSET <= opset <= NEWEST_OPSET:
        raise UsageError(f"opset {opset}: expected {OPSET} to {NEWEST_OPSET}", field="opset")
    require_onnx("onnx", "onnxscript")
    with torch.no_grad(), warnings.catch_warnings():
        # That two inputs share an axis, among others: nothing that a user can act on.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes={name: free.get(name) for name in inputs},
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=opset,
            verbose=False,
        )
    assert program is not None
    return program


def _save(
    program: torch.onnx.ONNXProgram, path: Path, metadata: Mapping[str, Any], weights: nn.Module
) -> None:
    program.model.metadata_props[METADATA] = json.dumps(metadata)
    large = sum(p.nbytes for p in weights.parameters()) > MOST_IN_ONE_FILE
    program.save(path, external_data=large)


def require_onnx(*packages: str) -> None:
    """Make sure that packages of the extra ``onnx`` are installed.

    Raises:
        EnvironmentProblem: one is not.
    """
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise EnvironmentProblem(
                f"this needs the package {name}: pip install 'sam-composer[onnx]'", code="package_missing"
            )
