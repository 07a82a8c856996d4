from __future__ import annotations

import hashlib

import pytest

from apps.ray_serve.placing import place_of

IMAGES = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(300)]
NOBODY: tuple[str, ...] = ()


def places(*names: str) -> dict[str, str]:
    return {image: place_of(image, dict.fromkeys(names, NOBODY)) for image in IMAGES}


def test_images_spread_over_replicas() -> None:
    found = list(places("a", "b", "c").values())
    assert all(found.count(name) > 60 for name in "abc")


def test_the_order_of_replicas_does_not_matter() -> None:
    assert places("a", "b", "c") == places("c", "a", "b")


@pytest.mark.parametrize("more", ["d", "aa"])
def test_a_replica_that_joins_moves_only_what_it_wins(more: str) -> None:
    before, after = places("a", "b", "c"), places("a", "b", "c", more)
    moved = {after[image] for image in IMAGES if before[image] != after[image]}
    assert moved == {more}


def test_a_replica_that_leaves_moves_only_what_it_had() -> None:
    before, after = places("a", "b", "c"), places("a", "b")
    assert {before[image] for image in IMAGES if before[image] != after[image]} == {"c"}


def test_a_replica_that_holds_the_image_wins() -> None:
    for image in IMAGES[:20]:
        assert place_of(image, {"a": NOBODY, "b": {image}, "c": NOBODY}) == "b"
        assert place_of(image, {"a": {image}, "b": {image}, "c": NOBODY}) in ("a", "b")
