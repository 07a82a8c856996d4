"""Pictures of every layout come out as the same upright RGB pixels; anything else is one clear error."""

from __future__ import annotations

import io
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from composer.images import FILE_FORMATS, HTTP_FORMATS, Source, digest, open_image, sniff
from composer.limits import DEFAULT_LIMITS
from sam.errors import BadImage, UsageError

RNG = np.random.default_rng(7)
PHOTO = RNG.integers(0, 256, (23, 37, 3), dtype=np.uint8)


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: np.ndarray = PHOTO) -> bytes:
    return encode(Image.fromarray(pixels), "PNG")


# sources


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(png())
    sources: list[Source] = [
        path,
        str(path),
        png(),
        bytearray(png()),
        memoryview(png()),
        Image.fromarray(PHOTO),
        PHOTO,
    ]
    opened = [open_image(source) for source in sources]
    for image in opened:
        np.testing.assert_array_equal(image.pixels, PHOTO)
        assert image.sha256 == opened[0].sha256
        assert image.size == (23, 37)
    assert [image.file_name for image in opened] == ["photo.png", "photo.png", None, None, None, None, None]
    assert opened[0].path == path and opened[2].path is None


def test_name_for_reports_can_be_given() -> None:
    assert open_image(png(), file_name="upload.png").file_name == "upload.png"


def test_pixels_are_read_only_and_not_the_callers() -> None:
    mine = PHOTO.copy()
    image = open_image(mine)
    mine[:] = 0
    assert image.pixels.any()
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 0


def test_a_non_contiguous_array_is_fine() -> None:
    np.testing.assert_array_equal(open_image(PHOTO[::2, ::-1]).pixels, PHOTO[::2, ::-1])


@pytest.mark.parametrize(
    "array",
    [PHOTO[:, :, 0], PHOTO.astype(np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 5, 3), np.uint8)],
    ids=["grey", "float", "four channels", "no rows"],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(BadImage):
        open_image(array)


@pytest.mark.parametrize("source", [None, 3, object()])
def test_other_types_are_refused(source: Any) -> None:
    with pytest.raises(UsageError, match="give a path, bytes, a PIL image"):
        open_image(source)


def test_digest_tells_pictures_apart_and_shape_too() -> None:
    flat = np.zeros((2, 6, 3), np.uint8)
    assert digest(flat) != digest(flat.reshape(6, 2, 3))
    assert digest(flat) == digest(flat.copy())
    changed = flat.copy()
    changed[1, 5, 2] = 1
    assert digest(flat) != digest(changed)


# formats, by content


@pytest.mark.parametrize("kind", FILE_FORMATS)
def test_lossless_formats_return_the_pixels_under_any_name(kind: str, tmp_path: Path) -> None:
    special: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "WEBP": {"lossless": True},
    }
    options = special.get(kind, {})
    path = tmp_path / "photo.txt"
    path.write_bytes(encode(Image.fromarray(PHOTO), kind, **options))
    pixels = open_image(path).pixels.astype(int)
    assert abs(pixels - PHOTO).max() <= (4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_http_takes_fewer_formats(kind: str) -> None:
    with pytest.raises(BadImage, match=f"this is {kind}; accepted: JPEG, PNG, WebP") as caught:
        open_image(encode(Image.fromarray(PHOTO), kind), formats=HTTP_FORMATS)
    assert caught.value.code == "image_format"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encode(Image.fromarray(PHOTO), "GIF"), "GIF"),
        (encode(Image.fromarray(PHOTO), "PDF"), "PDF"),
        (encode(Image.fromarray(PHOTO), "EPS"), "EPS"),
        (b"8BPS\0\1" + bytes(64), "PSD"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\0\0\0\x18ftypheic" + bytes(64), "HEIC"),
        (b"hello, I am text\n", "no image format"),
        (b"\0", "no image format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_formats_are_named(data: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(BadImage, match=kind) as caught:
        open_image(path)
    assert caught.value.code == "image_format"
    assert str(path) in str(caught.value)


def test_riff_that_is_no_webp() -> None:
    assert sniff(b"RIFF\0\0\0\0WAVEfmt ") is None


# orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:, 8:] = 255  # right half white
    upright[4:, :8] = 128  # lower left grey: no symmetry left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options: dict[str, Any] = {"quality": 100} if kind in {"JPEG", "WEBP"} else {}
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    for source in (data, Image.open(io.BytesIO(data))):
        pixels = open_image(source).pixels
        assert pixels.shape == upright.shape
        assert abs(pixels.astype(int) - upright).max() <= 12


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientation_out_of_range_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    np.testing.assert_array_equal(open_image(encode(Image.fromarray(PHOTO), "PNG", exif=exif)).pixels, PHOTO)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_corrupt_exif_is_ignored_silently(exif: bytes, recwarn: pytest.WarningsRecorder) -> None:
    data = encode(Image.fromarray(PHOTO), "JPEG", exif=exif)
    assert open_image(data).size == (23, 37)
    assert not recwarn.list


def test_corrupt_colour_profile_is_ignored() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        assert open_image(encode(Image.fromarray(PHOTO), kind, icc_profile=b"\0not a profile")).size == (
            23,
            37,
        )


# layouts

RAMP = np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_and_bilevel(kind: str) -> None:
    grey = open_image(encode(Image.fromarray(RAMP), kind)).pixels
    np.testing.assert_array_equal(grey, np.repeat(RAMP[:, :, None], 3, axis=2))
    bits = open_image(encode(Image.fromarray(RAMP > 99), kind)).pixels
    np.testing.assert_array_equal(bits[:, :, 1] == 255, RAMP > 99)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_uses_its_full_range(kind: str) -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    pixels = open_image(encode(Image.fromarray(values), kind)).pixels
    np.testing.assert_array_equal(pixels[:, :, 0], RAMP)
    assert open_image(encode(Image.fromarray(np.full((2, 2), 65535, np.uint16)), kind)).pixels.min() == 255


def test_16_bit_of_the_other_byte_order() -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    picture = Image.frombytes("I;16B", (16, 16), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(open_image(picture).pixels[:, :, 0], RAMP)
    tiff = encode(picture, "TIFF")
    np.testing.assert_array_equal(open_image(tiff).pixels[:, :, 0], RAMP)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 255]], np.int32), [0, 255]),
        (np.array([[-5, 65535]], np.int32), [0, 255]),
        (np.array([[-100_000, 0, 100_000]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 128.0, 255.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, np.inf, 0.2]], np.float32), [0, 0, 51]),
        (np.array([[0.0, 0.0]], np.float32), [0, 0]),
        (np.array([[-1e30, 1e30]], np.float32), [0, 255]),
    ],
)
def test_wide_layouts(values: np.ndarray, expected: list[int]) -> None:
    assert open_image(Image.fromarray(values)).pixels[0, :, 0].tolist() == expected
    assert open_image(encode(Image.fromarray(values), "TIFF")).pixels[0, :, 2].tolist() == expected


def test_transparent_pixels_are_white_and_half_ones_are_mixed() -> None:
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], np.uint8)
    expected = [[255, 255, 255], [10, 20, 30], [127, 127, 127]]
    for kind in ("PNG", "TIFF"):
        assert open_image(encode(Image.fromarray(rgba), kind)).pixels[0].tolist() == expected
    grey = Image.fromarray(rgba).convert("LA")
    assert open_image(encode(grey, "PNG")).pixels[0, 0].tolist() == [255, 255, 255]
    for mode in ("RGBa", "La", "PA"):
        through = {"La": "LA", "PA": "P"}.get(mode)
        picture = Image.fromarray(rgba)
        picture = (picture.convert(through) if through else picture).convert(mode)
        assert open_image(picture).pixels.shape == (1, 3, 3)


def test_palette_with_and_without_transparency() -> None:
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata([0, 1, 2])
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert open_image(encode(palette, "PNG")).pixels[0].tolist() == colours
    one = encode(palette, "PNG", transparency=1)
    assert open_image(one).pixels[0].tolist() == [colours[0], [255] * 3, colours[2]]
    each = encode(palette, "PNG", transparency=bytes([255, 0, 255]))
    assert open_image(each).pixels[0].tolist() == [colours[0], [255] * 3, colours[2]]


def test_one_transparent_colour_in_rgb_and_grey() -> None:
    picture = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    assert open_image(encode(picture, "PNG", transparency=(1, 2, 3))).pixels[0].tolist() == [
        [255] * 3,
        [9] * 3,
    ]
    grey = Image.fromarray(np.array([[4, 9]], np.uint8))
    assert open_image(encode(grey, "PNG", transparency=4)).pixels[0].tolist() == [[255] * 3, [9] * 3]


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF")])
def test_other_colour_spaces_keep_the_colours(mode: str, kind: str) -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 40))
    if mode == "LAB":
        from PIL import ImageCms

        lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        picture = ImageCms.applyTransform(red, lab)
        assert picture is not None
    else:
        picture = red.convert(mode)
    pixels = open_image(encode(picture, kind)).pixels
    assert abs(pixels.astype(int).mean((0, 1)) - (200, 30, 40)).max() < 8


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "RGBX", "CMYK"])
def test_pil_pictures_of_other_colour_spaces(mode: str) -> None:
    pixels = open_image(Image.new("RGB", (4, 4), (200, 30, 40)).convert(mode)).pixels
    assert abs(pixels[0, 0].astype(int) - (200, 30, 40)).max() < 4


# frames


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_animations_and_pages_are_refused(kind: str) -> None:
    frames = [Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(3)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(BadImage, match="more than one frame") as caught:
        open_image(data)
    assert caught.value.code == "image_animated"


def test_a_tiff_with_a_thumbnail_page_is_one_picture() -> None:
    buffer = io.BytesIO()
    thumbnail = Image.new("RGB", (4, 3))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(PHOTO).save(buffer, "TIFF", save_all=True, append_images=[thumbnail])
    np.testing.assert_array_equal(open_image(buffer.getvalue()).pixels, PHOTO)


def test_a_cameras_multi_picture_jpeg_opens_its_first() -> None:
    second = Image.new("RGB", (37, 23))
    data = encode(Image.fromarray(PHOTO), "MPO", save_all=True, append_images=[second], quality=95)
    with Image.open(io.BytesIO(data)) as check:
        assert check.format == "MPO" and getattr(check, "n_frames", 1) == 2
    assert open_image(data).pixels.mean() > 100


# sizes


def test_one_pixel_is_fine() -> None:
    assert open_image(png(PHOTO[:1, :1])).size == (1, 1)


def bomb_png(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("width", "height", "said"),
    [
        (5001, 5000, "25.0 megapixels, at most 25"),
        (10_000, 12_000, "megapixels"),
        (20_000, 20_000, "bomb"),
        (2**31 - 1, 2**31 - 1, "bomb"),
        (40_000, 500, "longer side"),
        (101, 1, "100 times"),
        (1, 30_000, "100 times"),
    ],
)
def test_too_large_is_refused_from_the_header(
    width: int, height: int, said: str, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "composer.images._decode", lambda *_: pytest.fail("decoded before the size was checked")
    )
    with pytest.raises(BadImage, match=said) as caught:
        open_image(bomb_png(width, height))
    assert caught.value.code == "image_too_large"
    assert not recwarn.list


def test_limits_are_the_callers_and_hold_for_every_source(tmp_path: Path) -> None:
    small = replace(DEFAULT_LIMITS, max_pixels=100)
    for source in (png(), PHOTO, Image.fromarray(PHOTO)):
        with pytest.raises(BadImage, match="too large"):
            open_image(source, limits=small)
    path = tmp_path / "photo.png"
    path.write_bytes(png())
    with pytest.raises(BadImage, match="the file is over") as caught:
        open_image(path, limits=replace(DEFAULT_LIMITS, max_file_bytes=64))
    assert caught.value.code == "image_too_large"


# damage


@pytest.mark.parametrize("kind", FILE_FORMATS)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_cut_off_files(kind: str, part: float) -> None:
    data = encode(Image.fromarray(np.tile(PHOTO, (4, 4, 1))), kind)
    with pytest.raises(BadImage) as caught:
        open_image(data[: int(len(data) * part)])
    assert caught.value.code == "image_corrupt"


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(BadImage, match=r"empty\.jpg: the file is empty") as caught:
        open_image(path)
    assert caught.value.code == "image_empty"


def test_png_with_a_bad_checksum() -> None:
    data = bytearray(png())
    data[data.index(b"IDAT") + 20] ^= 0xFF
    with pytest.raises(BadImage) as caught:
        open_image(bytes(data))
    assert caught.value.code == "image_corrupt"


@pytest.mark.parametrize(
    "error",
    [OSError, ValueError, SyntaxError, NotImplementedError, MemoryError, EOFError, KeyError, AssertionError],
)
def test_whatever_a_decoder_raises_is_a_bad_image(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(BadImage) as caught:
        open_image(png())
    assert caught.value.code == "image_corrupt"
    assert "\n" not in str(caught.value)


@given(st.sampled_from(FILE_FORMATS), st.data())
def test_flipped_bytes_open_or_are_a_bad_image(kind: str, draw: st.DataObject) -> None:
    data = bytearray(encode(Image.fromarray(PHOTO), kind))
    for _ in range(draw.draw(st.integers(1, 6))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        image = open_image(bytes(data))
    except BadImage as error:
        assert "\n" not in str(error)
    else:
        assert image.pixels.dtype == np.uint8 and image.pixels.ndim == 3


STARTS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP"]


@given(st.binary(max_size=400), st.sampled_from(STARTS))
def test_any_bytes_open_or_are_a_bad_image(data: bytes, start: bytes) -> None:
    try:
        open_image(start + data)
    except BadImage as error:
        assert "\n" not in str(error)


# files that are no files


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file") as caught:
        open_image(tmp_path / "none.jpg")
    assert caught.value.exit_code == 2
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="no such file"):
        open_image(tmp_path / "file" / "none.jpg")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        open_image(tmp_path)


def test_dangling_link_and_loop(tmp_path: Path) -> None:
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for name in ("dangling.jpg", "loop.jpg"):
        with pytest.raises(BadImage) as caught:
            open_image(tmp_path / name)
        assert caught.value.code == "image_unreadable"


def test_a_link_to_a_photo_is_followed(tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(png())
    (tmp_path / "link.png").symlink_to("photo")
    assert open_image(tmp_path / "link.png").file_name == "link.png"


def test_fifo_socket_and_device_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.jpg"))
        for path in (tmp_path / "fifo.jpg", tmp_path / "s.jpg", Path("/dev/zero")):
            caught: list[BadImage] = []

            def attempt(path: Path = path, caught: list[BadImage] = caught) -> None:
                try:
                    open_image(path)
                except BadImage as error:
                    caught.append(error)

            thread = threading.Thread(target=attempt, daemon=True)
            thread.start()
            thread.join(10)
            assert not thread.is_alive(), f"{path} hangs"
            assert caught[0].code == "image_unreadable"


def test_a_file_swapped_for_a_fifo_after_the_check_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, fifo = tmp_path / "photo.jpg", tmp_path / "fifo"
    photo.write_bytes(png())
    os.mkfifo(fifo)
    real = os.open
    monkeypatch.setattr("composer.image_files.os.open", lambda _, flags: real(fifo, flags))
    with pytest.raises(BadImage):
        open_image(photo)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.png").write_bytes(png())

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("composer.image_files.os.open", denied)
    with pytest.raises(BadImage, match="Permission denied") as caught:
        open_image(tmp_path / "photo.png")
    assert caught.value.code == "image_unreadable"


@pytest.mark.parametrize("source", ["https://example.org/a.jpg", "file:///etc/hosts", "a\0b.jpg", ""])
def test_urls_and_impossible_names(source: str) -> None:
    with pytest.raises(UsageError):
        open_image(source)


def test_a_name_longer_than_the_file_system_allows() -> None:
    with pytest.raises(BadImage):
        open_image("x" * 4096 + ".jpg")


# threads


def test_many_threads_leave_the_warning_filters_alone() -> None:
    import warnings

    before = list(warnings.filters)
    data = encode(Image.fromarray(PHOTO), "JPEG", exif=b"Exif\0\0garbage")
    threads = [threading.Thread(target=lambda: [open_image(data) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
