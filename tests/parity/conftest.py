"""Parity with the public implementations: the same seeded weights, photo and prompts, answers compared.

A fresh network is nearly degenerate (relative positions are zero, the scores are flat), so every parameter is
drawn at random at a scale that makes each of them matter.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from sam.model import SegmentAnything
from sam.prompts import Prompts
from sam.variants import ModelConfig

MODELS = Path(__file__).parents[2] / "configs" / "models"


def randomise_weights(module: nn.Module, seed: int) -> nn.Module:
    """Draw every parameter and buffer anew, activations staying of order one; returns the module, in eval."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, value in module.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        kind = type(module.get_submodule(owner)).__name__
        noise = torch.randn(value.shape, generator=generator)
        if not value.is_floating_point():  # batch norm's count of batches
            values[name] = value
        elif leaf == "running_var":
            values[name] = 0.5 + torch.rand(value.shape, generator=generator)
        elif leaf in ("rel_pos_h", "rel_pos_w", "attention_biases"):
            values[name] = 0.2 * noise
        elif kind == "Embedding" or leaf in ("pos_embed", "positional_encoding_gaussian_matrix"):
            values[name] = noise
        elif value.ndim > 1:
            values[name] = noise / value[0].numel() ** 0.5
        else:
            values[name] = 0.1 * noise + float("Norm" in kind and leaf == "weight")
    module.load_state_dict(values)
    return module.eval()


def largest_relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest magnitude expected."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def prompts_of(name: str, size: tuple[int, int]) -> Prompts:
    """The prompts that parity is claimed for, in pixels of an image of ``size`` (height, width)."""
    height, width = size
    scale = torch.tensor([width, height], dtype=torch.float32)
    corners = torch.tensor([[[0.1, 0.2], [0.55, 0.8]], [[0.4, 0.05], [0.95, 0.5]], [[0.0, 0.0], [1.0, 1.0]]])
    boxes = (corners * scale).flatten(1)
    spots = torch.tensor([[0.3, 0.6], [0.72, 0.31], [0.5, 0.93]]) * scale
    coarse = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(5)) * 6
    masks = nn.functional.interpolate(coarse, (256, 256), mode="bicubic")[:, 0]
    one = torch.ones(1, 1, dtype=torch.int64)
    cases = {
        "one point": Prompts(points=spots[:1, None], labels=one),
        "points with labels": Prompts(points=spots[None], labels=torch.tensor([[1, 0, 1]])),
        "a box": Prompts(boxes=boxes[:1]),
        "box and point": Prompts(points=spots[:1, None], labels=one * 0, boxes=boxes[:1]),
        "a mask": Prompts(mask_logits=masks[:1]),
        "mask, box and points": Prompts(
            points=spots[None], labels=torch.tensor([[0, 1, 1]]), boxes=boxes[:1], mask_logits=masks[:1]
        ),
        "batch of points": Prompts(points=spots[:, None], labels=torch.tensor([[1], [0], [1]])),
        "batch of boxes": Prompts(boxes=boxes),
        "batch of masks and boxes": Prompts(boxes=boxes, mask_logits=masks),
    }
    return cases[name]


PROMPT_CASES = (
    "one point",
    "points with labels",
    "a box",
    "box and point",
    "a mask",
    "mask, box and points",
    "batch of points",
    "batch of boxes",
    "batch of masks and boxes",
)


class Compared:
    """A reference and ours, with the same weights, after encoding the same photo.

    ``reference(prompts, multimask)`` gives IoU predictions (N, M), low-resolution logits (N, M, 256, 256) and
    logits at the original size (N, M, H, W).
    """

    def __init__(
        self,
        model: SegmentAnything,
        image: npt.NDArray[np.uint8],
        expected_features: Tensor,
        reference: Callable[[Prompts, bool], tuple[Tensor, Tensor, Tensor]],
    ) -> None:
        self.model, self.image, self.embedding = model, image, model.encode([image])[0]
        self.expected_features, self.reference = expected_features, reference

    def prompts(self, case: str) -> Prompts:
        return prompts_of(case, self.embedding.original_size)

    def embedding_error(self) -> float:
        error = largest_relative_error(self.embedding.features, self.expected_features)
        print(f"relative error of the embedding: {error:.1e}")  # pytest -rP shows the measured figures
        return error

    def decode_errors(self, case: str, multimask: bool) -> dict[str, float]:
        """Relative errors of IoU predictions, low-resolution and full-size logits for one prompt case."""
        prompts = self.prompts(case)
        iou, low_res, full = self.reference(prompts, multimask)
        candidates = self.model.decode(self.embedding, prompts, multimask=multimask)
        ours = candidates.low_res_logits()
        errors = {
            "iou_predictions": largest_relative_error(candidates.iou_predictions, iou),
            "low_res_logits": largest_relative_error(ours, low_res.flatten(0, 1)),
            "logits": largest_relative_error(self.model.upsample(ours, self.embedding), full.flatten(0, 1)),
        }
        print("relative errors:", ", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
        return errors


def encode_with_both(reference: Any, model: SegmentAnything, image: npt.NDArray[np.uint8]) -> Compared:
    """Encode through segment-anything's own predictor, resizing included, and through ours."""
    from segment_anything import SamPredictor

    model.load_state_dict(reference.state_dict(), strict=True)
    predictor = SamPredictor(reference)
    with torch.inference_mode():
        predictor.set_image(image)

    def answer(prompts: Prompts, multimask: bool) -> tuple[Tensor, Tensor, Tensor]:
        transform, size = predictor.transform, image.shape[:2]
        masks = prompts.mask_logits
        with torch.inference_mode():
            full, iou, low_res = predictor.predict_torch(
                None if prompts.points is None else transform.apply_coords_torch(prompts.points, size),
                prompts.labels,
                None if prompts.boxes is None else transform.apply_boxes_torch(prompts.boxes, size),
                None if masks is None else masks[:, None],
                multimask_output=multimask,
                return_logits=True,
            )
        return iou, low_res, full

    return Compared(model, image, predictor.features, answer)


@pytest.fixture(scope="session")
def portrait() -> npt.NDArray[np.uint8]:
    """Ultralytics' bundled photo of a bus, (1080, 810, 3)."""
    spec = find_spec("ultralytics")
    assert spec is not None and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], "assets", "bus.jpg")
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="session")
def landscape(portrait: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The same photo with rows and columns exchanged, (810, 1080, 3)."""
    return np.ascontiguousarray(portrait.transpose(1, 0, 2))


@pytest.fixture(params=PROMPT_CASES)
def prompt_case(request: pytest.FixtureRequest) -> str:
    """Name of each prompt case in turn."""
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["three masks", "one mask"])
def multimask(request: pytest.FixtureRequest) -> bool:
    """Whether the decoder gives the three masks of an ambiguous prompt."""
    return bool(request.param)


@pytest.fixture(scope="session")
def randomise() -> Callable[[nn.Module, int], nn.Module]:
    return randomise_weights


@pytest.fixture(scope="session")
def relative_error() -> Callable[[Tensor, Tensor], float]:
    return largest_relative_error


@pytest.fixture(scope="session")
def compare() -> Callable[[Any, SegmentAnything, npt.NDArray[np.uint8]], Compared]:
    return encode_with_both


@pytest.fixture(scope="session")
def configured() -> Callable[[str], ModelConfig]:
    """Configuration of a model by the name of its YAML file."""

    def read(name: str) -> ModelConfig:
        return ModelConfig.from_mapping(name, yaml.safe_load((MODELS / f"{name}.yaml").read_text("utf-8")))

    return read


@pytest.fixture(scope="session")
def compared_type() -> type[Compared]:
    return Compared


@pytest.fixture(scope="session")
def preset() -> Callable[[str], dict[str, Any]]:
    """The preset file of a model, by name."""

    def read(name: str) -> dict[str, Any]:
        values: dict[str, Any] = yaml.safe_load(
            (MODELS.parent / "presets" / f"{name}.yaml").read_text("utf-8")
        )
        return values

    return read
