"""An edge head's look at another size: one at a time with all other passes, and none where nobody waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from composer import Composer, Edges
from composer.engine.watched import WatchedScene
from composer.images import open_image

Pixels = npt.NDArray[np.uint8]
Look = tuple[Tensor, int, tuple[int, int]]


class NobodyWaitsError(Exception):
    """Stands for a deadline."""


@pytest.fixture
def composer(small_preset: Path) -> Composer:
    loaded = Composer.load(small_preset, precision="fp32")
    loaded.preset = replace(loaded.preset, defaults=replace(loaded.preset.defaults, edge_sizes=(128, 96)))
    return loaded


def test_it_takes_the_encoders_turn(
    composer: Composer, photo: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, held = composer.model.edges_at, []

    def watched(image: Pixels, side: int) -> Look:
        held.append((side, composer.encoder_lock.locked()))
        return real(image, side)

    monkeypatch.setattr(composer.model, "edges_at", watched)
    composer.open(photo).run(Edges(source="head", crop_n_layers=1))
    # The photo and four windows of it; at the model's own size the embedding has the answer.
    assert held == [(96, True)] * 5 and not composer.encoder_lock.locked()


@pytest.mark.parametrize(("layers", "before"), [(0, 0), (1, 1)])
def test_it_stops_where_nobody_waits(composer: Composer, photo: Pixels, layers: int, before: int) -> None:
    source, looks = open_image(photo), []

    def check() -> None:
        if stopping:
            raise NobodyWaitsError

    stopping = False
    scene = WatchedScene(composer, source, composer.encode(source.pixels), check)
    real = scene._edges_at

    def counted(image: Pixels, side: int) -> Look:
        nonlocal stopping
        stopping = len(looks) >= before
        found = real(image, side)
        looks.append(side)
        return found

    scene._edges_at = counted
    with pytest.raises(NobodyWaitsError):
        scene.run(Edges(source="head", crop_n_layers=layers))
    assert len(looks) == before
