"""A fuzzer's PNG and JPEG files: each opens or is a bad image, and nothing else comes out."""

from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from composer.images import FILE_FORMATS, HTTP_FORMATS, open_image
from sam.errors import BadImage

CORPUS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "malformed-images.tar"
CODES = {"image_corrupt", "image_empty", "image_format", "image_too_large", "image_animated"}


@pytest.fixture(scope="module")
def corpus() -> dict[str, bytes]:
    if not CORPUS.is_file():
        pytest.skip(f"{CORPUS} is not on this machine")
    with tarfile.open(CORPUS) as archive:
        opened = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in opened.items() if file is not None}


@pytest.mark.parametrize("formats", [HTTP_FORMATS, FILE_FORMATS], ids=["http", "files"])
def test_every_file_opens_or_is_a_bad_image(
    corpus: dict[str, bytes], formats: tuple[str, ...], recwarn: pytest.WarningsRecorder
) -> None:
    outcomes: Counter[str] = Counter()
    for name, data in corpus.items():
        try:
            image = open_image(data, formats=formats)
        except BadImage as error:
            assert error.code in CODES, name
            assert "\n" not in str(error), name
            outcomes[error.code] += 1
        else:
            assert image.pixels.dtype == np.uint8 and image.pixels.shape == (*image.size, 3), name
            outcomes["opened"] += 1
    assert sum(outcomes.values()) == len(corpus) > 500
    assert outcomes["opened"] > 50 and outcomes["image_corrupt"] > 50, outcomes
    assert not recwarn.list
