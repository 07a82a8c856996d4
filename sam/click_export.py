"""The graphs of :mod:`sam.click_graphs` as ONNX files, for onnxruntime in a browser."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from sam.click_graphs import (
    IMAGE_NAMES,
    MASK_INPUT,
    OUTPUTS,
    POINT_NAMES,
    SKIP_NAMES,
    ClickGraph,
    MaskGraph,
    image_side,
)
from sam.export import require_onnx
from sam.model import Embedding, SegmentAnything

MOST_POINTS = 64
"""Most points of one object, a box's corners and the padding point included."""
OPSET = 20
"""The first with GELU as one operator."""
WITH_MASK = "_with_mask"
"""What the names of the mask graph's outputs add to those of its inputs."""


@torch.no_grad()
def export_click_graphs(model: SegmentAnything, embedding: Embedding) -> dict[str, bytes]:
    """Both graphs as ONNX files.

    Args:
        model: on the CPU.
        embedding: any of its embeddings; of another image all shapes are the same.

    Returns:
        The files' bytes under ``click`` and ``mask``.

    Raises:
        EnvironmentProblem: the packages that export ONNX are missing.
    """
    require_onnx("onnx", "onnxscript")
    side = image_side(model, embedding)
    image = [side[name] for name in IMAGE_NAMES]
    skip_names = [name for name in SKIP_NAMES if name in side]
    height, width = embedding.features.shape[-2:]
    points = torch.zeros(3, 2), torch.tensor([1.0, 0.0, -1.0])
    count = torch.export.Dim("points", min=1, max=MOST_POINTS)
    click = _exported(
        ClickGraph(model, (height, width)).eval(),
        (*image, *points, *(side[name] for name in skip_names)),
        ({}, {}, {}, {}, {0: count}, {0: count}, *({} for _ in skip_names)),
        [*IMAGE_NAMES, *POINT_NAMES, *skip_names],
        list(OUTPUTS),
    )
    logits = torch.zeros(4 * height, 4 * width)
    names = [*IMAGE_NAMES, MASK_INPUT]
    changed = [f"{name}{WITH_MASK}" for name in IMAGE_NAMES]
    mask = _exported(MaskGraph(model).eval(), (*image, logits), ({},) * len(names), names, changed)
    return {"click": click, "mask": mask}


def _exported(
    graph: nn.Module, arguments: tuple[Tensor, ...], shapes: Any, inputs: list[str], outputs: list[str]
) -> bytes:
    graph = copy.deepcopy(graph)  # while it traces, the exporter puts stand-ins where the weights are
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about itself
        program = torch.onnx.export(
            graph,
            arguments,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data
