from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from adapters.base import CROPS_AT_ONCE, Adapter, Defaults, Scene
from adapters.boxes import BoxesAdapter
from adapters.everything import Everything, EverythingAdapter
from adapters.points import PointsAdapter
from sam.embedding import Embedding
from sam.errors import BadPrompt
from sam.model import SegmentAnything


def test_a_scene_is_encoded_once_and_only_when_needed(tiny_model: SegmentAnything) -> None:
    calls = []

    def slow_encode(pixels: np.ndarray) -> Embedding:
        calls.append(pixels.shape)
        time.sleep(0.05)
        return tiny_model.encode([pixels])[0]

    scene = Scene(np.zeros((20, 30, 3), np.uint8), tiny_model, slow_encode, Defaults())
    assert not calls
    with ThreadPoolExecutor(8) as threads:
        embeddings = list(threads.map(lambda _: scene.embedding, range(8)))
    assert calls == [(20, 30, 3)]
    assert all(embedding is embeddings[0] for embedding in embeddings)


def test_a_crop_is_a_scene_of_its_own(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(40, 60)
    crop = scene.crop((10, 5, 30, 25))
    np.testing.assert_array_equal(crop.image, scene.image[5:25, 10:30])
    assert crop.size == (20, 20) and crop.defaults == scene.defaults
    assert crop.embedding.original_size == (20, 20)
    assert crop.upsample(torch.zeros(2, 32, 32)).shape == (2, 20, 20)


@pytest.mark.parametrize("box", [(10, 10, 10, 20), (-1, 0, 5, 5), (0, 0, 61, 40), (0, 30, 5, 41)])
def test_a_crop_outside_the_image_is_refused(
    make_scene: Callable[..., Scene], box: tuple[int, int, int, int]
) -> None:
    with pytest.raises(BadPrompt, match="60 x 40 px"):
        make_scene(40, 60).crop(box)


def test_crops_are_encoded_several_at_a_time(
    make_scene: Callable[..., Scene], tiny_model: SegmentAnything
) -> None:
    passes = []

    def encode_many(images: Sequence[np.ndarray]) -> list[Embedding]:
        passes.append([image.shape[:2] for image in images])
        return tiny_model.encode(images)

    alone = make_scene(40, 60)
    scene = Scene(
        alone.image, tiny_model, lambda p: pytest.fail("alone"), alone.defaults, encode_many=encode_many
    )
    boxes = [(x, 2, x + 20 + x, 30) for x in range(0, 18, 3)]
    found = list(scene.crops(boxes))
    assert [len(sizes) for sizes in passes] == [CROPS_AT_ONCE, 2]
    for box, crop in zip(boxes, found, strict=True):
        one = alone.crop(box)
        np.testing.assert_array_equal(crop.image, one.image)
        torch.testing.assert_close(crop.embedding.features, one.embedding.features, rtol=1e-5, atol=1e-5)
        assert crop.embedding.input_size == one.embedding.input_size
    assert [len(sizes) for sizes in passes] == [CROPS_AT_ONCE, 2]
    with pytest.raises(BadPrompt, match="60 x 40 px"):
        list(scene.crops([(0, 0, 61, 40)]))


def test_masks_of_crops_are_the_same_however_they_are_encoded(
    make_scene: Callable[..., Scene], tiny_model: SegmentAnything
) -> None:
    alone = make_scene(80, 100)
    together = Scene(
        alone.image,
        tiny_model,
        lambda p: tiny_model.encode([p])[0],
        alone.defaults,
        encode_many=tiny_model.encode,
    )
    request = Everything(
        points_per_side=4,
        crop_n_layers=2,
        box_nms_thresh=1.0,
        crop_nms_thresh=1.0,
        max_mask_area_fraction=None,
    )
    one, other = (EverythingAdapter()(scene, request) for scene in (alone, together))
    assert len(one) == len(other) > 20
    np.testing.assert_array_equal(one.crop_boxes, other.crop_boxes)
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5, atol=1e-5)
    assert (one.masks == other.masks).mean() > 0.9999


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_a_scene_needs_rgb_bytes(tiny_model: SegmentAnything, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        Scene(image, tiny_model, lambda pixels: tiny_model.encode([pixels])[0], Defaults())


def test_adapters_keep_the_protocol() -> None:
    adapters: list[Adapter] = [PointsAdapter(), BoxesAdapter(), EverythingAdapter()]
    assert [adapter.request.kind for adapter in adapters] == ["points", "boxes", "everything"]
