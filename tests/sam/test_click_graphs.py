"""The decoder for the browser answers as the decoder does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam.click_export import GRAPHS, export_click_graphs
from sam.click_graphs import EMBEDDING_NAMES, GIVEN, MASK_INPUT, ClickGraph, MaskGraph, image_side
from sam.embedding import Embedding
from sam.model import SegmentAnything
from sam.prompts import Prompts
from sam.variants import ModelConfig, build_model

DECODER = {
    "embed_dim": 32, "num_heads": 2, "mlp_dim": 64, "iou_head_hidden_dim": 32, "mask_in_chans": 8,
}  # fmt: skip
SKIPPING = {
    "family": "compact", "backbone": "regnetx_002", "image_size": 64, "out_chans": 32, "neck_chans": 8,
    "attention_layers": 1, "attention_heads": 2,
}  # fmt: skip
PLAIN = {
    "family": "vit", "image_size": 64, "patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2,
    "out_chans": 32, "window_size": 2, "global_attn_indexes": [0],
}  # fmt: skip
POINTS = torch.tensor([[10.0, 20.0], [40.0, 5.0], [50.0, 30.0]])
LABELS = torch.tensor([1, 0, 1])
BOX = torch.tensor([4.0, 6.0, 52.0, 33.0])


def segmenter(encoder: dict) -> SegmentAnything:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(ModelConfig.from_mapping("small", {"encoder": encoder, "decoder": DECODER}))


@pytest.fixture(scope="module", params=[SKIPPING, PLAIN], ids=["skips", "plain"])
def model(request: pytest.FixtureRequest) -> SegmentAnything:
    return segmenter(request.param)


@pytest.fixture(scope="module")
def embedding(model: SegmentAnything) -> Embedding:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return model.encode([pixels])[0]


def prompt(count: int, boxed: bool) -> tuple[Prompts, torch.Tensor, torch.Tensor]:
    """The same prompt for the model, in pixels of the image, and for the graph, in those of the square."""
    points, labels = POINTS[:count], LABELS[:count]
    prompts = Prompts(
        points=points[None] if count else None,
        labels=labels[None] if count else None,
        boxes=BOX[None] if boxed else None,
    )
    ends = BOX.view(2, 2) if boxed else torch.zeros(1, 2)
    kinds = torch.tensor([2, 3]) if boxed else torch.tensor([-1])
    scale = torch.tensor([64 / 60, 43 / 40])
    return prompts, torch.cat([points, ends]) * scale, torch.cat([labels, kinds]).float()


@torch.inference_mode()
def by_graph(model, side, coords, labels, given=None):
    graph = ClickGraph(model, (4, 4)).eval()
    return graph(side, torch.zeros(1, 16) if given is None else given, coords, labels)


def by_model(model: SegmentAnything, embedding: Embedding, prompts: Prompts):
    parts = [model.decode(embedding, prompts, multimask=many) for many in (False, True)]
    logits = torch.cat([part.low_res_logits() for part in parts])
    return logits, torch.cat([part.iou_predictions[0] for part in parts])


def assert_same(found, expected) -> None:
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=1e-5)
    # The graph's GELU is the one with tanh.
    spread = float(expected[0].std())
    assert spread > 0.01
    assert float((found[0] - expected[0]).abs().max()) < 0.02 * spread + 1e-4


@pytest.mark.parametrize(("count", "boxed"), [(1, False), (3, False), (0, True), (2, True)])
def test_prompts(model: SegmentAnything, embedding: Embedding, count: int, boxed: bool) -> None:
    prompts, coords, labels = prompt(count, boxed)
    assert_same(
        by_graph(model, image_side(model, embedding), coords, labels), by_model(model, embedding, prompts)
    )


def test_the_part_of_the_square_that_the_photo_fills(model: SegmentAnything, embedding: Embedding) -> None:
    prompts, coords, labels = prompt(2, False)
    side = image_side(model, embedding)
    side["upscaled"] = side["upscaled"][:, :3, :2]
    logits, iou = by_model(model, embedding, prompts)
    assert_same(by_graph(model, side, coords, labels), (logits[:, :12, :8], iou))


def test_another_prompt_has_another_answer(model: SegmentAnything, embedding: Embedding) -> None:
    """What `test_prompts` compares does depend on the prompt."""
    _, coords, labels = prompt(1, False)
    with pytest.raises(AssertionError):
        assert_same(
            by_graph(model, image_side(model, embedding), coords, labels),
            by_model(model, embedding, prompt(2, False)[0]),
        )


@torch.inference_mode()
def test_an_earlier_answer_goes_in(model: SegmentAnything, embedding: Embedding) -> None:
    prompts, coords, labels = prompt(2, False)
    logits = 6 * torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    given = MaskGraph(model)(logits)
    with_mask = Prompts(points=prompts.points, labels=prompts.labels, mask_logits=logits[None])
    found = by_graph(model, image_side(model, embedding), coords, labels, given)
    expected = by_model(model, embedding, with_mask)
    assert_same(found, expected)
    without = by_model(model, embedding, prompts)
    assert float((without[0] - expected[0]).abs().max()) > 0.1 * float(expected[0].std())


def test_as_onnx(model: SegmentAnything, embedding: Embedding) -> None:
    """One export for any number of points, with and without an earlier answer, run by onnxruntime."""
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    files = export_click_graphs(model, embedding)
    assert tuple(files) == GRAPHS
    image, click, mask = (runtime.InferenceSession(file) for file in files.values())
    embedded = zip(EMBEDDING_NAMES, (embedding.features, *embedding.high_res_features), strict=False)
    parts = image.run(None, {name: tensor.numpy() for name, tensor in embedded})
    names = [output.name for output in image.get_outputs()]
    assert names == list(image_side(model, embedding))
    side = dict(zip(names, parts, strict=True))
    logits = 6 * torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    (earlier,) = mask.run(None, {MASK_INPUT: logits.numpy()})
    for count, boxed, given in (
        (1, False, None), (3, False, None), (2, True, None), (2, False, logits), (1, True, logits),
    ):  # fmt: skip
        prompts, coords, labels = prompt(count, boxed)
        feeds = side | {"point_coords": coords.numpy(), "point_labels": labels.numpy()}
        feeds[GIVEN] = np.zeros((1, 16), np.float32) if given is None else earlier
        if given is not None:
            prompts = replace(prompts, mask_logits=given[None])
        found = [torch.from_numpy(value) for value in click.run(None, feeds)]
        logits, iou = by_model(model, embedding, prompts)
        assert_same(found, (logits, iou))
        feeds["upscaled"] = side["upscaled"][:, :3]
        found = [torch.from_numpy(value) for value in click.run(None, feeds)]
        assert_same(found, (logits[:, :12], iou))
