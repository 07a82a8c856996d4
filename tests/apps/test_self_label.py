"""`self-label` with the embedded weights, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from composer.training_data import DataSet
from composer.training_photos import labelled_photos


def test_the_model_itself(cli, tmp_path: Path) -> None:
    """A dark disc and a bright square on grey: of one the embedded weights are sure in both directions."""
    y, x = np.mgrid[:192, :256]
    pixels = np.full((192, 256, 3), 128, np.uint8)
    pixels[(x - 70) ** 2 + (y - 96) ** 2 < 40**2] = 10
    pixels[60:130, 160:230] = (250, 60, 60)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos/one.png")
    ended = cli(
        "self-label", tmp_path / "photos", "--out", tmp_path / "own", "--device", "cpu",
        "--precision", "fp32", "--points-per-side", 8, "--min-masks", 1, "--agreement", 0.7,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"1 photos labelled in {tmp_path / 'own'}")
    truth = DataSet("own", "sa1b", "own", 1.0).open_truth(tmp_path / "own")
    (photo,) = labelled_photos(truth, 0, 512)
    things = (x - 70) ** 2 + (y - 96) ** 2 < 40**2, (pixels == (250, 60, 60)).all(2)
    shares = [
        ((layer == i) & thing).sum() / ((layer == i) | thing).sum()
        for layer in photo.layers
        for i in range(1, int(layer.max()) + 1)
        for thing in things
    ]
    assert max(shares) > 0.9


def test_wrong_options(cli, tmp_path: Path) -> None:
    ended = cli("self-label", tmp_path / "none", "--out", tmp_path / "own")
    assert ended.code == 2 and "none: no such file or folder" in ended.error
    ended = cli("self-label", tmp_path, "--out", tmp_path / "own")
    assert ended.code == 3 and "no images found" in ended.error
    assert not (tmp_path / "own").exists()


def test_the_set_is_no_photo_of_the_next_run(cli, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a.jpg").write_bytes(b"an earlier run's")
    ended = cli("self-label", tmp_path, "--out", tmp_path / "own")
    assert ended.code == 3 and "no images found besides" in ended.error
    ended = cli("self-label", tmp_path / "own", "--out", tmp_path / "own")
    assert ended.code == 2 and "is the folder of the photos" in ended.error
