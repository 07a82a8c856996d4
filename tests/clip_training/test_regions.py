"""Named pictures are packed once, and cut as inference shows regions."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from adapters.rle import encode_mask
from adapters.visual_prompts import Look, show_region
from composer.clip_training.config import read_clip_run
from composer.clip_training.pack import pack_all
from composer.clip_training.regions import drawn, pack_panoptic, shown
from composer.training_data import write_panoptic
from sam.training.data import LabelledPhoto
from sam.training.shapes import made_photos


def test_folders_and_photos_are_packed_once(data: Path) -> None:
    run = read_clip_run(data / "clip.yaml")
    told: list[tuple[str, int]] = []
    sets, held = pack_all(run, data, data / "packed", lambda name, count: told.append((name, count)))
    assert told[0] == ("pictures", 30) and told[1][0] == "shapes" and told[1][1] > 4
    assert len(sets["pictures"]) == 30 and int(sets["pictures"].held_out.sum()) == 3
    assert len(held) > 2 and set(held.names) == {"segment"}
    before = (data / "packed/pictures/windows.npy").stat().st_mtime_ns
    pack_all(run, data, data / "packed")
    assert (data / "packed/pictures/windows.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize("style", ["plain", "grey", "blur", "circle", "circle+blur"])
@pytest.mark.parametrize("context", [1.15, 1.75])
def test_packed_regions_look_as_at_inference(tmp_path: Path, style: str, context: float) -> None:
    (photo,) = made_photos(1, seed=3)
    ids = np.zeros_like(photo.layers[0], np.uint8)
    rows, columns = np.mgrid[: ids.shape[0], : ids.shape[1]]
    ids[(rows - 60) ** 2 / 2 + (columns - 70) ** 2 < 900] = 1
    write_panoptic([LabelledPhoto(photo.pixels, (ids,), "a")], tmp_path / "set")
    (packed,) = [pack_panoptic(tmp_path / "set", tmp_path / "packed")]
    mask = ids == 1
    y, x = np.nonzero(mask)
    box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
    wanted = show_region(photo.pixels, encode_mask(mask), box, 64, Look(context, style))  # type: ignore[arg-type]
    found = shown(packed[0], 64, context, style)  # type: ignore[arg-type]
    # Resized twice, so alike and not the same.
    assert np.abs(found.astype(int) - wanted.astype(int)).mean() < 9


def test_the_same_chance_draws_the_same_picture(data: Path) -> None:
    sets, _ = pack_all(read_clip_run(data / "clip.yaml"), data, data / "packed")
    for packed in sets.values():
        first, second, other = (drawn(packed[0], 48, random.Random(seed)) for seed in (1, 1, 2))
        assert first.shape == (48, 48, 3) and first.dtype == np.uint8
        assert (first == second).all() and (first != other).any()
