"""The decoder for the browser answers as the decoder does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from sam.click_export import WITH_MASK, export_click_graphs
from sam.click_graphs import IMAGE_NAMES, MASK_INPUT, SKIP_NAMES, ClickGraph, MaskGraph, image_side
from sam.model import Embedding, SegmentAnything
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
def by_graph(model, side, coords, labels):
    graph = ClickGraph(model, (4, 4)).eval()
    skips = [side[name] for name in SKIP_NAMES if name in side]
    return graph(*(side[name] for name in IMAGE_NAMES), coords, labels, *skips)


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
    side = image_side(model, embedding)
    changed = MaskGraph(model)(*(side[name] for name in IMAGE_NAMES), logits)
    side |= dict(zip(IMAGE_NAMES, changed, strict=True))
    with_mask = Prompts(points=prompts.points, labels=prompts.labels, mask_logits=logits[None])
    found, expected = by_graph(model, side, coords, labels), by_model(model, embedding, with_mask)
    assert_same(found, expected)
    without = by_model(model, embedding, prompts)
    assert float((without[0] - expected[0]).abs().max()) > 0.1 * float(expected[0].std())


def test_as_onnx(tmp_path) -> None:
    """One export for any number of points, run by onnxruntime."""
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    model = segmenter(SKIPPING)
    pixels = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    embedding = model.encode([pixels])[0]
    files = export_click_graphs(model, embedding)
    click, mask = (runtime.InferenceSession(files[name]) for name in ("click", "mask"))
    side = {name: tensor.numpy() for name, tensor in image_side(model, embedding).items()}
    for count, boxed in ((1, False), (3, False), (2, True)):
        prompts, coords, labels = prompt(count, boxed)
        feeds = side | {"point_coords": coords.numpy(), "point_labels": labels.numpy()}
        found = [torch.from_numpy(value) for value in click.run(None, feeds)]
        assert_same(found, by_model(model, embedding, prompts))
    image = {name: side[name] for name in IMAGE_NAMES}
    changed = mask.run(None, image | {MASK_INPUT: np.full((16, 16), 3, np.float32)})
    assert [output.name for output in mask.get_outputs()] == [name + WITH_MASK for name in IMAGE_NAMES]
    assert all(
        before.shape == after.shape and not np.allclose(before, after)
        for before, after in zip(image.values(), changed, strict=True)
    )
    sizes = [len(files["mask"]), len(files["click"])]
    assert all(a < b for a, b in pairwise(sizes))
