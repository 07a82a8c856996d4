"""A tiny model with random weights, and scenes made with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from adapters.base import Defaults, Scene
from adapters.results import Instances
from adapters.rle import bounding_boxes, encode_mask
from sam.errors import UsageError
from sam.image_encoder.vit import ViTConfig
from sam.model import SegmentAnything
from sam.variants import DecoderConfig, ModelConfig, build_model

MakeScene = Callable[..., Scene]


@pytest.fixture(scope="session")
def tiny_model() -> SegmentAnything:
    torch.manual_seed(0)
    encoder = ViTConfig(
        embed_dim=16,
        depth=1,
        num_heads=2,
        global_attn_indexes=(0,),
        image_size=64,
        patch_size=8,
        out_chans=32,
    )
    decoder = DecoderConfig(embed_dim=32, num_heads=2, mlp_dim=32)
    model = build_model(ModelConfig("tiny-random", encoder, decoder))
    # Around one half, so that a threshold above 0 takes some masks and leaves some.
    torch.nn.init.constant_(model.mask_decoder.iou_prediction_head.layers[-1].bias, 0.5)
    return model


@pytest.fixture
def make_scene(tiny_model: SegmentAnything) -> MakeScene:
    """``make_scene(height, width)``: a photo of noise, with thresholds that keep every mask."""

    def make(height: int = 40, width: int = 60, defaults: Defaults | None = None) -> Scene:
        photo = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        keep_all = Defaults(pred_iou_thresh=0.0, stability_score_thresh=0.0)
        return Scene(photo, tiny_model, lambda pixels: tiny_model.encode([pixels])[0], defaults or keep_all)

    return make


@pytest.fixture
def blobs() -> Callable[[int, tuple[int, int], int], npt.NDArray[np.bool_]]:
    """``blobs(count, (height, width), seed)``: smooth random masks, with holes and islands."""

    def make(count: int, size: tuple[int, int], seed: int = 0) -> npt.NDArray[np.bool_]:
        noise = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
        smooth = torch.nn.functional.interpolate(noise, size, mode="bicubic")[:, 0]
        return np.asarray((smooth > 0.3).numpy())

    return make


class ColourModel:
    """A text-image model that knows colours: a picture's vector is the colour at its middle.

    ``red``, ``green`` and ``blue`` are what they say, any other word is grey.
    """

    KNOWN = MappingProxyType(
        {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (0.7, 0.7, 0)}
    )

    def __init__(self, bias: float | None = None) -> None:
        self.name, self.scale, self.bias, self.width, self.size = "colours", 50.0, bias, 3, (32, 32)
        self.pictures = 0

    def encode_phrases(self, phrases: Sequence[str]) -> Tensor:
        colours = [self.KNOWN.get(phrase.split()[-1], (1, 1, 1)) for phrase in phrases]
        return torch.nn.functional.normalize(torch.tensor(colours, dtype=torch.float32), dim=1)

    def encode_pictures(self, shown: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        self.pictures += len(shown)
        middle = [one[12:20, 12:20].reshape(-1, 3).mean(0) for one in shown]
        return torch.nn.functional.normalize(torch.tensor(np.array(middle), dtype=torch.float32), dim=1)

    def encode_dense(self, image: npt.NDArray[np.uint8]) -> Tensor:
        places = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        grid = torch.nn.functional.adaptive_avg_pool2d(places, (9, 14))[0].permute(1, 2, 0)
        return torch.nn.functional.normalize(grid, dim=-1)

    def text_image_model(self, name: str | None, pretrained: str | None) -> ColourModel:
        """As the companions of a scene."""
        return self

    def detector(self, name: str | None, *, trust: bool, annotations: str | None) -> Any:
        raise UsageError("no detector", code="detector_missing")


DISC, BAR, WALL = range(3)


@dataclass(frozen=True)
class Coloured:
    """A red disc and a green bar on grey, and their masks with the wall's: see DISC, BAR, WALL."""

    scene: Scene
    model: ColourModel
    candidates: Instances


def as_instances(masks: Sequence[npt.NDArray[np.bool_]]) -> Instances:
    rles = tuple(encode_mask(mask) for mask in masks)
    scores = np.linspace(0.9, 0.5, len(masks), dtype=np.float32)
    return Instances(masks[0].shape, rles, bounding_boxes(rles), scores, predicted_iou=scores)


@pytest.fixture
def make_coloured(tiny_model: SegmentAnything, photo: npt.NDArray[np.uint8]) -> Callable[..., Coloured]:
    """``make_coloured(bias, defaults)``."""

    def make(bias: float | None = None, defaults: Defaults | None = None) -> Coloured:
        model = ColourModel(bias)
        thresholds = defaults or Defaults()
        scene = Scene(photo, tiny_model, lambda p: tiny_model.encode([p])[0], thresholds, model)
        y, x = np.mgrid[:90, :140]
        wall = np.zeros((90, 140), bool)
        wall[70:, 60:] = True
        bar = np.zeros((90, 140), bool)
        bar[20:70, 95:115] = True
        masks = [np.hypot(x - 40, y - 45) < 25, bar, wall]
        return Coloured(scene, model, as_instances(masks))

    return make
