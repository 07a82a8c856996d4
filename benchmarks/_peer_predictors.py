"""Every peer from prompts in pixels of a photo to masks of its size, as its users call it, after encoding.

The encoder is not run: each is handed our embedding, which is theirs too (tests/benchmarks/test_peers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _peers
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam.embedding import Embedding
from sam.model import SegmentAnything

Pixels = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Boxes = npt.NDArray[np.float32]


class OfSegmentAnything:
    """segment-anything's ``SamPredictor``, its image set."""

    def __init__(self, model: SegmentAnything, embedding: Embedding) -> None:
        from segment_anything import SamPredictor

        self.predictor = SamPredictor(_peers.segment_anything_of(model))
        self.predictor.features = embedding.features
        self.predictor.original_size = embedding.original_size
        self.predictor.input_size = embedding.input_size
        self.predictor.is_image_set = True

    @torch.inference_mode()
    def click(self, x: float, y: float) -> Masks:
        """The three masks of a click: (3, H, W)."""
        masks: Masks
        masks, _, _ = self.predictor.predict(np.array([[x, y]]), np.array([1]), multimask_output=True)
        return masks

    @torch.inference_mode()
    def one_by_one(self, boxes: Boxes) -> Masks:
        """(N, H, W) masks of (N, 4) boxes, a call for each."""
        return np.concatenate([self.predictor.predict(box=box, multimask_output=False)[0] for box in boxes])

    @torch.inference_mode()
    def at_once(self, boxes: Boxes) -> Masks:
        """The same in one batch."""
        size = self.predictor.original_size
        moved = self.predictor.transform.apply_boxes_torch(torch.from_numpy(boxes), size)
        masks, _, _ = self.predictor.predict_torch(None, None, moved, multimask_output=False)
        found: Masks = masks[:, 0].cpu().numpy()
        return found


class OfTransformers:
    """transformers' ``SamModel`` and its processor's postprocessing."""

    def __init__(self, model: SegmentAnything, embedding: Embedding) -> None:
        self.model = _peers.transformers_of(model)
        self.processor = _peers.transformers_processor(model)
        self.embedding = embedding
        height, width = embedding.original_size
        self.scale = np.array([embedding.input_size[1] / width, embedding.input_size[0] / height])

    def click(self, x: float, y: float) -> Masks:
        """The three masks of a click: (3, H, W)."""
        point = torch.from_numpy(np.array([x, y]) * self.scale).float().view(1, 1, 1, 2)
        return self._masks(multimask_output=True, input_points=point)[0]

    def at_once(self, boxes: Boxes) -> Masks:
        """(N, H, W) masks of (N, 4) boxes, in one batch."""
        moved = torch.from_numpy(boxes * np.tile(self.scale, 2)).float()[None]
        return self._masks(multimask_output=False, input_boxes=moved)[:, 0]

    @torch.inference_mode()
    def _masks(self, **prompts: Any) -> Masks:
        found = self.model(image_embeddings=self.embedding.features, **prompts)
        masks = self.processor.post_process_masks(
            found.pred_masks, [self.embedding.original_size], [self.embedding.input_size]
        )
        whole: Masks = masks[0].numpy()
        return whole


class OfUltralytics:
    """ultralytics' SAM predictor, its image set; it takes pictures as OpenCV has them, blue first."""

    def __init__(self, model: SegmentAnything, embedding: Embedding, pixels: Pixels) -> None:
        self.predictor = _peers.ultralytics_predictor(model)
        self.predictor.setup_source(np.ascontiguousarray(pixels[..., ::-1]))
        self.predictor.features = embedding.features

    def click(self, x: float, y: float) -> Masks:
        """The three masks of a click: (3, H, W)."""
        return self._masks(points=[[x, y]], labels=[1], multimask_output=True)

    def at_once(self, boxes: Boxes) -> Masks:
        """(N, H, W) masks of (N, 4) boxes, in one batch."""
        return self._masks(bboxes=boxes)

    def _masks(self, **prompts: Any) -> Masks:
        found = self.predictor(**prompts)[0].masks.data
        masks: Masks = found.cpu().numpy().astype(bool)
        return masks


def predictors(model: SegmentAnything, embedding: Embedding, pixels: Pixels) -> dict[str, Any]:
    """A predictor of every peer that is installed."""
    build: dict[str, Callable[[], Any]] = {
        "segment_anything": lambda: OfSegmentAnything(model, embedding),
        "transformers": lambda: OfTransformers(model, embedding),
        "ultralytics": lambda: OfUltralytics(model, embedding, pixels),
    }
    return {name: build[name]() for name in _peers.installed()}


def mask_iou(found: Masks, expected: Masks) -> Tensor:
    """(n,) IoU of masks of two stacks (n, H, W), one by one; 1 of two empty ones."""
    union = (found | expected).sum((1, 2))
    return torch.from_numpy(np.where(union > 0, (found & expected).sum((1, 2)) / np.maximum(union, 1), 1.0))
