"""Images over HTTP: what is none, what is too much, and the odd ones that are fine."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from starlette.testclient import TestClient

from composer.limits import PILLOW_CEILING
from tests.apps.api.kit import form, image_file
from tests.malformed.test_http_bodies import problem

CORPUS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "malformed-images.tar"
TEXTS = {
    "empty": (b"", 422, "image_empty"),
    "text as png": (b"this is no picture, whatever its name says", 415, "image_format"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "image_format"),
    "pdf": (b"%PDF-1.7\n", 415, "image_format"),
    "psd": (b"8BPS\0\1" + b"\0" * 30, 415, "image_format"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "image_format"),
    "gif": (b"GIF89a" + b"\0" * 20, 415, "image_format"),
    "url": (b"http://127.0.0.1/x.png", 415, "image_format"),
}


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header may say anything."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def answer_to(client: TestClient, data: bytes) -> Any:
    return client.post("/v1/segment", **form(data, [{"kind": "points", "points": [[0, 0]]}]))


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_image(client: TestClient, name: str) -> None:
    data, status, code = TEXTS[name]
    assert problem(answer_to(client, data), status, code)["field"] == "image"
    problem(client.post("/v1/images", files={"image": data}), status, code)


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_formats_of_the_command_line_only(client: TestClient, kind: str) -> None:
    data = saved(Image.new("RGB", (9, 9)), kind)
    assert problem(answer_to(client, data), 415, "image_format")["allowed"] == ["JPEG", "PNG", "WEBP"]


def test_damaged(client: TestClient) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = image_file(0, kind=kind)
        problem(answer_to(client, whole[: len(whole) // 2]), 422, "image_corrupt")
    broken = bytearray(image_file())
    broken[len(broken) // 2] ^= 0xFF  # the checksum of its chunk is wrong now
    problem(answer_to(client, bytes(broken)), 422, "image_corrupt")


@pytest.mark.parametrize(
    "size", [(40_000, 40_000), (5001, 5000), (2**31 - 1, 2**31 - 1), (1, 30_000), (200_000, 1)],
    ids=["bomb", "just over", "largest", "thin", "long"],
)  # fmt: skip
def test_too_large_is_told_from_the_header(client: TestClient, size: tuple[int, int]) -> None:
    body = problem(answer_to(client, png_of(*size)), 422, "image_too_large")
    if size[0] * size[1] < PILLOW_CEILING:  # beyond, Pillow itself refuses
        assert body["allowed"]["max_pixels"] == 25_000_000


def test_no_pixels(client: TestClient) -> None:
    problem(answer_to(client, png_of(0, 5)), 422, "image_corrupt")


def test_animations(client: TestClient) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    problem(answer_to(client, data), 422, "image_animated")
    apng = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    problem(answer_to(client, apng), 422, "image_animated")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_pixel_layouts_that_are_fine(client: TestClient, mode: str) -> None:
    picture = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)) if mode == "I;16" else (
        Image.new("RGB", (30, 20), "red").convert(mode)
    )  # fmt: skip
    assert answer_to(client, saved(picture, "JPEG" if mode == "CMYK" else "PNG")).status_code == 200


def test_one_pixel(client: TestClient) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        answer = answer_to(client, saved(Image.new("RGB", (1, 1)), kind))
        assert answer.status_code == 200 and answer.json()["image"]["width"] == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_in_the_displayed_frame(client: TestClient, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    answer = answer_to(client, saved(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif)).json()
    shown = (40, 20) if orientation < 5 else (20, 40)
    assert (answer["image"]["width"], answer["image"]["height"]) == shown
    (record,) = answer["results"][0]["annotations"]
    assert coco_mask.decode(record["segmentation"]).shape == shown[::-1]


def test_broken_metadata_is_ignored(client: TestClient) -> None:
    for extra in ({"exif": b"Exif\0\0" + b"\xff" * 40}, {"icc_profile": b"\xff" * 100}):
        assert answer_to(client, saved(Image.new("RGB", (30, 20)), "JPEG", **extra)).status_code == 200


def test_every_file_of_the_corpus_is_answered(client: TestClient) -> None:
    if not CORPUS.is_file():
        pytest.skip(f"{CORPUS} is not on this machine")
    outcomes: Counter[str] = Counter()
    with tarfile.open(CORPUS) as archive:
        members = [member for member in archive if member.isfile() and member.size < 500_000][::6]
        for member in members:
            file = archive.extractfile(member)
            assert file is not None
            answer = client.post("/v1/images", files={"image": file.read()})
            assert answer.status_code in (201, 415, 422), (member.name, answer.text)
            outcomes[answer.json().get("code", "held")] += 1
    assert outcomes["held"] > 5 and outcomes["image_corrupt"] > 5, outcomes
