"""The graphs of :mod:`sam.click_graphs` as ONNX files, for onnxruntime in a browser."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn

from sam.click_graphs import (
    EMBEDDING_NAMES,
    GIVEN,
    MASK_INPUT,
    OUTPUTS,
    POINT_NAMES,
    ClickGraph,
    ImageGraph,
    MaskGraph,
    image_side,
)
from sam.embedding import Embedding
from sam.export import require_onnx
from sam.model import SegmentAnything

GRAPHS = ("image", "click", "mask")
MOST_POINTS = 64
"""Most points of one object, a box's corners and the padding point included."""
OPSET = 20
"""The first with GELU as one operator."""


@torch.no_grad()
def export_click_graphs(model: SegmentAnything, embedding: Embedding) -> dict[str, bytes]:
    """All of :data:`GRAPHS` as ONNX files.

    Args:
        model: on the CPU.
        embedding: any of its embeddings; of another image all shapes are the same.

    Returns:
        The files' bytes by name.

    Raises:
        EnvironmentProblem: the packages that export ONNX are missing.
    """
    require_onnx("onnx", "onnxscript")
    side = image_side(model, embedding)
    embedded = (embedding.features.float(), *(skip.float() for skip in embedding.high_res_features))
    names = list(EMBEDDING_NAMES[: len(embedded)])
    image = _exported(ImageGraph(model), embedded, None, names, list(side))

    height, width = embedding.features.shape[-2:]
    logits = torch.zeros(4 * height, 4 * width)
    mask_graph = MaskGraph(model)
    mask = _exported(mask_graph, (logits,), None, [MASK_INPUT], [GIVEN])

    every = mask_graph(logits)
    given = every[: len(every) // 2]  # any number but one and all: the exporter takes those for fixed
    points = torch.zeros(3, 2), torch.tensor([1.0, 0.0, -1.0])
    count = torch.export.Dim("points", min=1, max=MOST_POINTS)
    parts = torch.export.Dim("parts", max=len(every))
    window = {1: torch.export.Dim("rows", max=height), 2: torch.export.Dim("columns", max=width)}
    side["upscaled"] = side["upscaled"][:, : height - 1, : width - 1].contiguous()
    shapes: dict[str, Any] = {name: {} for name in side} | {"upscaled": window}
    click = _exported(
        ClickGraph(model, (height, width)),
        (side, given, *points),
        (shapes, {0: parts}, {0: count}, {0: count}),
        [*side, GIVEN, *POINT_NAMES],
        list(OUTPUTS),
    )
    return {"image": image, "click": click, "mask": mask}


def _exported(
    graph: nn.Module, arguments: tuple[Any, ...], shapes: Any, inputs: list[str], outputs: list[str]
) -> bytes:
    graph = copy.deepcopy(graph).eval()  # while it traces, the exporter puts stand-ins where the weights are
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
