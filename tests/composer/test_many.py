"""Many images: the answers of each alone, fewer encoder passes, errors of one image kept to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from composer import Composer, Limits, Pipeline, Points, Step
from composer.composer import Scene
from sam.errors import BadImage, BadPrompt, UsageError

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def composer(small_preset: Path) -> Composer:
    return Composer.load(small_preset, device="cpu", precision="fp32")


@pytest.fixture
def passes(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each pass of the encoder had."""
    counts: list[int] = []
    encode = composer.model.encode
    monkeypatch.setattr(composer.model, "encode", lambda images: counts.append(len(images)) or encode(images))
    return counts


@pytest.fixture
def photos(photo: Pixels) -> list[Pixels]:
    return [np.ascontiguousarray(photo[: 90 - 5 * i, : 140 - 9 * i]) for i in range(6)]


def opened(found: list[object]) -> list[Scene]:
    assert all(isinstance(scene, Scene) for scene in found)
    return found  # type: ignore[return-value]


def test_answers_of_each_alone(
    composer: Composer, small_preset: Path, photos: list[Pixels], passes: list[int]
) -> None:
    request = Points([[40, 45]], masks="all")
    found = list(composer.run_many(photos, [request], at_once=4))
    assert passes == [4, 2]
    alone = Composer.load(small_preset, device="cpu", precision="fp32")
    for photo, answer in zip(photos, found, strict=True):
        (one,), (other,) = alone.run(photo, [request]), answer  # type: ignore[misc]
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-4)
        assert (one.masks == other.masks).mean() > 0.999


def test_what_is_cached_is_not_encoded_again(
    composer: Composer, photos: list[Pixels], passes: list[int]
) -> None:
    composer.open(photos[1])
    scenes = opened(list(composer.open_many([*photos[:3], photos[0]], at_once=4)))
    assert passes == [1, 2]
    assert scenes[3].embedding is scenes[0].embedding
    list(composer.open_many(photos[:3]))
    assert passes == [1, 2]


def test_without_a_cache_nothing_is_encoded_twice(
    small_preset: Path, photos: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    composer = Composer.load(small_preset, device="cpu", limits=Limits(embedding_cache_bytes=0))
    found = [scene.run(Points([[1, 1]])) for scene in opened(list(composer.open_many(photos[:3])))]
    assert len(found) == 3 and composer.cache.stats.encodes == 3


def test_an_image_that_fails_spoils_no_other(
    composer: Composer, photos: list[Pixels], passes: list[int]
) -> None:
    sources = [photos[0], b"no image", photos[1], "missing.jpg"]
    first, second, third, fourth = composer.open_many(sources, at_once=4)
    assert passes == [2]
    opened([first, third])
    assert isinstance(second, BadImage) and isinstance(fourth, UsageError)
    small = np.zeros((20, 20, 3), np.uint8)
    inside, outside = composer.run_many([photos[0], small], [Points([[60, 60]])])
    assert isinstance(inside, list) and isinstance(outside, BadPrompt)


def test_only_so_many_images_are_read_ahead(composer: Composer, photos: list[Pixels]) -> None:
    taken: list[int] = []

    def sources() -> Iterator[Pixels]:
        for number, photo in enumerate(photos):
            taken.append(number)
            yield photo

    scenes = composer.open_many(sources(), at_once=2)
    assert taken == []
    next(scenes), next(scenes)
    assert taken == [0, 1]
    next(scenes)
    assert taken == [0, 1, 2, 3]


def test_too_many_together_are_encoded_one_by_one(
    composer: Composer, photos: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = composer.model.encode

    def scarce(images: list[Pixels]) -> object:
        if len(images) > 1:
            raise RuntimeError("out of memory")
        return encode(images)

    monkeypatch.setattr(composer.model, "encode", scarce)
    assert len(opened(list(composer.open_many(photos[:3])))) == 3


def test_a_pipeline(composer: Composer, photos: list[Pixels]) -> None:
    pipeline = Pipeline([Step("clicked", Points([[5, 5]]))])
    found = list(composer.run_many(photos[:2], pipeline))
    assert [list(result) for result in found] == [["clicked"], ["clicked"]]  # type: ignore[call-overload]


def test_what_cannot_be_asked_is_refused_at_once(composer: Composer, photos: list[Pixels]) -> None:
    with pytest.raises(UsageError, match="give 1 to"):
        composer.run_many(photos, [])
    with pytest.raises(UsageError, match="at_once must be at least 1"):
        composer.open_many(photos, at_once=0)
    assert list(composer.open_many([])) == []
