"""Exported graphs in onnxruntime against the model in torch, through what callers of either would do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import Tensor

from composer import Composer
from sam import export
from sam.embedding import Embedding
from sam.errors import EnvironmentProblem, UsageError
from sam.model import SegmentAnything
from sam.onnx_files import OnnxEncoder, OnnxSession, compare_decoder, compare_encoder, quantize
from sam.prompts import Prompts
from sam.variants import ModelConfig, build_model

Pixels = npt.NDArray[np.uint8]
DECODER = {"embed_dim": 32, "num_heads": 2, "mlp_dim": 64}
VIT = {
    "family": "vit", "embed_dim": 32, "depth": 2, "num_heads": 2, "global_attn_indexes": [1],
    "image_size": 160, "window_size": 7, "out_chans": 32,
}  # fmt: skip
TINY_VIT = {
    "family": "tiny_vit", "embed_dims": [16, 32, 32, 48], "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 3],
    "image_size": 160, "out_chans": 32, "num_classes": 10,
}  # fmt: skip
FULL = {
    "encoder": VIT | {"image_size": 1024, "out_chans": 256, "depth": 1, "global_attn_indexes": []},
    "decoder": {"embed_dim": 256, "num_heads": 8, "mlp_dim": 2048},
}
"""The decoder of ViT-B, L and H, 64 x 64 x 256, behind next to no encoder."""


def build(encoder: dict[str, Any], decoder: dict[str, Any] = DECODER) -> SegmentAnything:
    """Random weights, those that are zero at birth included: else a test would not see them."""
    torch.manual_seed(0)
    model = build_model(ModelConfig.from_mapping("small", {"encoder": encoder, "decoder": decoder}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def tiny(onnx_of_tiny: Path) -> SegmentAnything:
    return Composer.load("tiny", device="cpu", precision="fp32").model


@pytest.fixture(scope="module")
def decoder_file(onnx_of_tiny: Path) -> Path:
    return onnx_of_tiny / "tiny.decoder.onnx"


def as_inputs(
    embedding: Embedding, points: Tensor, labels: Tensor, masks: Tensor | None
) -> dict[str, Tensor]:
    """Prompts in pixels of the padded square to the decoder's inputs."""
    count, (rows, columns) = len(points), embedding.features.shape[-2:]
    inputs = {
        "image_embeddings": embedding.features,
        "point_coords": points,
        "point_labels": labels.float(),
        "mask_input": torch.zeros(count, 1, 4 * rows, 4 * columns) if masks is None else masks[:, None],
        "has_mask_input": torch.full((count,), float(masks is not None)),
    }
    return inputs | dict(zip(export.SKIPS, embedding.high_res_features, strict=False))


def agree(model: SegmentAnything, file: Path, embedding: Embedding, prompts: Prompts) -> None:
    """What ``model.decode`` answers is what the file answers: single mask, three masks, predicted IoU."""
    points, labels = torch.zeros(len(prompts), 0, 2), torch.zeros(len(prompts), 0)
    if prompts.points is not None and prompts.labels is not None:
        points, labels = prompts.points, prompts.labels.float()
    if prompts.boxes is not None:
        points = torch.cat([points, prompts.boxes.view(-1, 2, 2)], 1)
        labels = torch.cat([labels, torch.tensor([[2.0, 3.0]]).expand(len(prompts), 2)], 1)
    elif points.shape[1]:
        points = torch.cat([points, torch.zeros(len(prompts), 1, 2)], 1)
        labels = torch.cat([labels, -torch.ones(len(prompts), 1)], 1)
    found = OnnxSession(file).run(as_inputs(embedding, points, labels, prompts.mask_logits))
    for multimask, columns in ((False, slice(0, 1)), (True, slice(1, 4))):
        wanted = model.decode(embedding, prompts, multimask=multimask)
        close(found["iou_predictions"][:, columns], wanted.iou_predictions)
        close(found["low_res_masks"][:, columns].flatten(0, 1), wanted.low_res_logits())


def close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * max(1.0, float(wanted.abs().max())))


def random_embedding(model: SegmentAnything) -> Embedding:
    """Of a square image as large as the model's input: its pixels are those of the padded square."""
    inputs = export.example_prompts(model, 1, 1)
    skips = tuple(inputs[name] for name in export.SKIPS if name in inputs)
    size = (model.image_size, model.image_size)
    return Embedding(inputs["image_embeddings"], skips, None, size, size, "")


def prompts_of(model: SegmentAnything, count: int, points: int, boxes: bool, masks: bool) -> Prompts:
    side, cells = model.image_size, model.image_size // 4
    corner = side * torch.rand(count, 2) / 2
    return Prompts(
        points=side * torch.rand(count, points, 2) if points else None,
        labels=torch.randint(0, 2, (count, points)) if points else None,
        boxes=torch.cat([corner, corner + side / 3], 1) if boxes else None,
        mask_logits=4 * torch.randn(count, cells, cells) if masks else None,
    )


@pytest.mark.parametrize("masks", [False, True], ids=["", "mask"])
@pytest.mark.parametrize(
    ("count", "points", "boxes"), [(1, 1, False), (1, 0, True), (3, 2, True), (5, 9, False), (2, 40, False)]
)
def test_decoder(
    tiny: SegmentAnything, decoder_file: Path, count: int, points: int, boxes: bool, masks: bool
) -> None:
    torch.manual_seed(1)
    prompts = prompts_of(tiny, count, points, boxes, masks)
    agree(tiny, decoder_file, random_embedding(tiny), prompts)


def test_decoder_of_a_mask_alone(tiny: SegmentAnything, decoder_file: Path) -> None:
    torch.manual_seed(1)
    agree(tiny, decoder_file, random_embedding(tiny), prompts_of(tiny, 2, 0, False, True))


def test_a_mask_counts_only_where_it_is_said_to(tiny: SegmentAnything, decoder_file: Path) -> None:
    torch.manual_seed(1)
    inputs = export.example_prompts(tiny, 2, 2)
    session = OnnxSession(decoder_file)

    def masks(given: list[float], logits: Tensor) -> Tensor:
        return session.run(inputs | {"has_mask_input": torch.tensor(given), "mask_input": logits})[
            "low_res_masks"
        ]

    logits, nothing = inputs["mask_input"], torch.zeros_like(inputs["mask_input"])
    close(masks([0.0, 1.0], logits)[0], masks([0.0, 0.0], nothing)[0])
    assert (masks([0.0, 1.0], logits)[1] - masks([0.0, 0.0], logits)[1]).abs().max() > 1e-3


def test_decoder_of_full_size(tmp_path: Path) -> None:
    model = build(FULL["encoder"], FULL["decoder"])
    export.export_decoder(model, tmp_path / "decoder.onnx")
    embedding = random_embedding(model)
    assert embedding.features.shape == (1, 256, 64, 64)
    for count, points, boxes, masks in ((1, 1, False, False), (2, 3, True, True)):
        agree(model, tmp_path / "decoder.onnx", embedding, prompts_of(model, count, points, boxes, masks))


def test_encoder_of_vit(photo: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the newest opset, and with weights in a file of their own, as ViT-H's have to be."""
    monkeypatch.setattr(export, "MOST_IN_ONE_FILE", 0)
    model, path = build(VIT), tmp_path / "encoder.onnx"
    export.export_encoder(model, path, opset=export.NEWEST_OPSET)
    assert path.stat().st_size < (tmp_path / "encoder.onnx.data").stat().st_size
    assert onnx.load(path).opset_import[0].version == export.NEWEST_OPSET
    encoders_agree(model, path, photo)
    quantize(path, tmp_path / "int8.onnx")
    assert 1e-4 < compare_encoder(model, tmp_path / "int8.onnx") < 0.1


def test_encoder_of_tiny_vit(photo: Pixels, tmp_path: Path) -> None:
    model = build(TINY_VIT)
    export.export_encoder(model, tmp_path / "encoder.onnx")
    encoders_agree(model, tmp_path / "encoder.onnx", photo)


def test_compact_encoder(onnx_of_tiny: Path, photo: Pixels) -> None:
    model = Composer.load("tiny", device="cpu", precision="fp32").model
    encoders_agree(model, onnx_of_tiny / "tiny.encoder.onnx", photo)


def encoders_agree(model: SegmentAnything, file: Path, photo: Pixels) -> None:
    """On three images of other shapes, and on one."""
    images = [photo, np.ascontiguousarray(photo.transpose(1, 0, 2)), photo[:60, :60]]
    wanted = model.encode(images)
    assert compare_encoder(model, file) < 1e-4
    torch_encoder, model.image_encoder = model.image_encoder, OnnxEncoder(OnnxSession(file))
    for found, expected in zip(
        [*model.encode(images), *model.encode([photo])], [*wanted, wanted[0]], strict=True
    ):
        close(found.features, expected.features)
        assert len(found.high_res_features) == len(expected.high_res_features)
        for skip, expected_skip in zip(found.high_res_features, expected.high_res_features, strict=True):
            close(skip, expected_skip)
        assert (found.edge_logits is None) == (expected.edge_logits is None)
        if found.edge_logits is not None and expected.edge_logits is not None:
            close(found.edge_logits, expected.edge_logits)
    model.image_encoder = torch_encoder


def test_the_comparison_sees_other_weights(tiny: SegmentAnything, decoder_file: Path) -> None:
    assert compare_decoder(tiny, decoder_file) < 1e-4
    other = Composer.load("tiny", device="cpu", precision="fp32").model
    with torch.no_grad():
        other.mask_decoder.iou_token.weight.add_(0.1)
    assert compare_decoder(other, decoder_file) > 1e-4


def test_what_the_file_says_of_itself(tiny: SegmentAnything, decoder_file: Path) -> None:
    graph = onnx.load(decoder_file).graph
    assert tuple(value.name for value in graph.input) == export.decoder_inputs(tiny)
    assert tuple(value.name for value in graph.output) == export.ANSWERS
    session = OnnxSession(decoder_file)
    assert json.loads(json.dumps(export.describe(tiny))).items() <= session.metadata.items()
    assert (session.metadata["image_size"], session.metadata["preset"]) == (384, "tiny")
    assert session.metadata["weights_sha256"] == tiny.digest


def test_eight_bits(tiny: SegmentAnything, decoder_file: Path, tmp_path: Path) -> None:
    small = tmp_path / "int8.onnx"
    quantize(decoder_file, small)
    assert small.stat().st_size < decoder_file.stat().st_size / 2
    assert "MatMulInteger" in {node.op_type for node in onnx.load(small).graph.node}
    assert OnnxSession(small).metadata == OnnxSession(decoder_file).metadata
    torch.manual_seed(1)
    inputs = export.example_prompts(tiny, 4, 2)
    exact, rounded = (OnnxSession(file).run(inputs)["low_res_masks"] for file in (decoder_file, small))
    assert not torch.equal(exact, rounded)
    both, either = ((exact > 0) & (rounded > 0)).sum(), ((exact > 0) | (rounded > 0)).sum()
    assert both / either > 0.8


def test_errors(tiny: SegmentAnything, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="opset 17: expected 18 to "):
        export.export_decoder(tiny, tmp_path / "decoder.onnx", opset=17)
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(EnvironmentProblem, match=r"no\.onnx: onnxruntime .* cannot load it"):
        OnnxSession(tmp_path / "no.onnx")
    found: Callable[[str], object] = export.importlib.util.find_spec
    monkeypatch.setattr(
        export.importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else found(name)
    )
    with pytest.raises(EnvironmentProblem, match=r"package onnx: pip install 'sam-composer\[onnx\]'"):
        export.export_encoder(tiny, tmp_path / "encoder.onnx")
    assert not (tmp_path / "encoder.onnx").exists()
