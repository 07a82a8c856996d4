"""From anything that holds a picture to upright 8-bit RGB pixels and their digest.

The kind of file is read from its first bytes, never from its name. Size limits are checked on the header,
before any pixel is decoded. What a decoder makes of damaged bytes is not our concern: every error it raises
means "bad image". Colour profiles are not applied (neither do SAM's own tools), and see
:mod:`composer.pixels` for how each pixel layout becomes RGB.
"""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from composer.image_files import local_path, read_image_file
from composer.limits import DEFAULT_LIMITS, PILLOW_CEILING, Limits
from composer.pixels import to_rgb
from sam.errors import BadImage, UsageError
from sam.pillow import open_picture, turn_of

HTTP_FORMATS = ("JPEG", "PNG", "WEBP")
"""Accepted from the network."""
FILE_FORMATS = (*HTTP_FORMATS, "BMP", "TIFF")
"""Accepted from disk, and from Python."""

Source = str | Path | bytes | bytearray | memoryview | PILImage.Image | npt.NDArray[np.uint8]

_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WEBP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"GIF8", "GIF"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "PSD"),
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
)
_MAX_THUMBNAIL_PAGES = 16
_quiet = threading.Lock()


@dataclass(frozen=True, eq=False)
class Image:
    """An upright RGB picture.

    Attributes:
        pixels: (H, W, 3) uint8, read-only.
        sha256: hex digest of mode, width, height, dtype and pixels: the same picture has the same one,
            whatever file it came from.
        file_name: name without folders, for reports; None where there is none.
        path: the file it was read from, or None. Only for links between local files; it never goes into
            reports.
    """

    pixels: npt.NDArray[np.uint8]
    sha256: str
    file_name: str | None = None
    path: Path | None = field(default=None, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.pixels.shape[0], self.pixels.shape[1])


def open_image(
    source: Source,
    *,
    limits: Limits = DEFAULT_LIMITS,
    formats: Collection[str] = FILE_FORMATS,
    file_name: str | None = None,
) -> Image:
    """Read one picture.

    Args:
        source: a path, the bytes of an image file, a PIL image (its current frame) or an (H, W, 3) uint8 RGB
            array.
        limits: sizes to accept.
        formats: file formats to accept, out of :data:`FILE_FORMATS`; arrays and PIL images have none.
        file_name: name for reports; by default that of the path.

    Raises:
        UsageError: no such file, or a folder, a URL or another type was given.
        BadImage: ``image_unreadable`` (no regular readable file), ``image_empty``, ``image_format`` (not one
            of ``formats``), ``image_too_large``, ``image_animated`` (more than one frame) or
            ``image_corrupt``.
    """
    path: Path | None = None
    if isinstance(source, np.ndarray):
        pixels = _from_array(source, limits)
    elif isinstance(source, PILImage.Image):
        name = file_name or "the PIL image"
        check_size(source.width, source.height, limits, name)
        pixels = _decode(source, name)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        pixels = _from_bytes(bytes(source), file_name or "the image", limits, formats)
    elif isinstance(source, (str, Path)):
        path = local_path(source)
        pixels = _from_bytes(read_image_file(path, limits.max_file_bytes), str(path), limits, formats)
        file_name = file_name or path.name
    else:
        raise UsageError(
            f"cannot open a {type(source).__name__} as an image: "
            "give a path, bytes, a PIL image or an RGB uint8 array",
            field="image",
        )
    pixels.setflags(write=False)
    return Image(pixels, digest(pixels), file_name, path)


def digest(pixels: npt.NDArray[np.uint8]) -> str:
    """SHA-256 over mode, width, height, dtype and the bytes of (H, W, 3) RGB pixels, in hex."""
    height, width = pixels.shape[:2]
    sha = hashlib.sha256(f"RGB {width} {height} {pixels.dtype.name}\n".encode())
    sha.update(np.ascontiguousarray(pixels).data)
    return sha.hexdigest()


def check_size(width: int, height: int, limits: Limits, name: str) -> None:
    """Refuse a picture of no pixels, of too many, too long or too thin.

    Raises:
        BadImage: ``image_corrupt`` for no pixels, else ``image_too_large``.
    """
    if width < 1 or height < 1:
        raise BadImage(f"{name}: {width}x{height} has no pixels", field="image")
    problem = None
    if width * height > limits.max_pixels:
        problem = f"{width * height / 1e6:.1f} megapixels, at most {limits.max_pixels / 1e6:g} are accepted"
    elif max(width, height) > limits.max_side:
        problem = f"the longer side may have at most {limits.max_side:,} pixels"
    elif max(width, height) > limits.max_aspect_ratio * min(width, height):
        problem = f"the longer side may be at most {limits.max_aspect_ratio:g} times the shorter one"
    if problem:
        message = f"{name}: {width}x{height} is too large: {problem}; make it smaller or raise the limit"
        allowed = {
            "max_pixels": limits.max_pixels,
            "max_side": limits.max_side,
            "max_aspect_ratio": limits.max_aspect_ratio,
        }
        raise BadImage(message, code="image_too_large", field="image", allowed=allowed)


def sniff(data: bytes) -> str | None:
    """The file format that the first bytes announce, in Pillow's spelling; None if we know none."""
    for offset, signature, name in _SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return name
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "SVG" if head.startswith(b"<svg") or (head.startswith(b"<?xml") and b"<svg" in head) else None


def _from_array(array: npt.NDArray[np.uint8], limits: Limits) -> npt.NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise BadImage(
            f"the array is {array.dtype} of shape {array.shape}: "
            "expected uint8 RGB of shape (height, width, 3)",
            code="image_format",
            field="image",
        )
    check_size(array.shape[1], array.shape[0], limits, "the array")
    return np.array(array, order="C", copy=True)  # the caller may go on drawing on theirs


def _from_bytes(data: bytes, name: str, limits: Limits, formats: Collection[str]) -> npt.NDArray[np.uint8]:
    if not data:
        raise BadImage(f"{name}: the file is empty (0 bytes)", code="image_empty", field="image")
    kind = sniff(data)
    if kind is None or kind not in formats:
        found = f"this is {kind}" if kind else "no image format that we know"
        accepted = ", ".join("WebP" if f == "WEBP" else f for f in formats)
        raise BadImage(
            f"{name}: {found}; accepted: {accepted}", code="image_format", field="image", allowed=[*formats]
        )
    with _decoding(name), _quiet_pillow():
        picture = open_picture(io.BytesIO(data), [kind])
    with picture:
        check_size(picture.width, picture.height, limits, name)
        with _decoding(name), _quiet_pillow():
            several = _has_more_frames(picture)
        if several:
            message = f"{name}: more than one frame or page; save the one you mean as an image of its own"
            raise BadImage(message, code="image_animated", field="image")
        return _decode(picture, name)


def _has_more_frames(picture: PILImage.Image) -> bool:
    """Whether the file shows more than one picture; previews that travel along do not count."""
    if picture.format == "MPO":  # a camera's JPEG with a preview or a second view behind the photo itself
        return False
    if picture.format != "TIFF":
        return bool(getattr(picture, "is_animated", False))
    try:
        for page in range(1, _MAX_THUMBNAIL_PAGES):
            picture.seek(page)
            if not picture.tag_v2.get(254, 0) & 1:  # type: ignore[attr-defined]  # NewSubfileType: reduced copy
                return True
    except EOFError:
        picture.seek(0)
        return False
    return True


def _decode(picture: PILImage.Image, name: str) -> npt.NDArray[np.uint8]:
    with _decoding(name):
        # TIFF reads its metadata again while it decodes; the other formats do not warn there.
        with _quiet_pillow() if picture.format == "TIFF" else nullcontext():
            picture.load()
        with _quiet_pillow():
            method = turn_of(picture)  # of a loaded picture: PNG may store its EXIF last
        # Copies: the picture may be the caller's, and np.asarray of one is a read-only view.
        pixels = to_rgb(picture)
        if method is None:
            return np.array(pixels)
        return np.array(PILImage.fromarray(pixels).transpose(method))


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever Pillow's decoders raise about foreign bytes means that the image is bad.

    They are known to raise OSError, ValueError, SyntaxError, NotImplementedError, struct.error, zlib.error,
    EOFError, KeyError, IndexError, TypeError, MemoryError and DecompressionBombError, and a list of names
    would age with every release, so all but the process's own signals are caught. Only decoding and
    converting go in here.
    """
    try:
        yield
    except (PILImage.DecompressionBombError, PILImage.DecompressionBombWarning) as error:
        ceiling = f"more than {PILLOW_CEILING:,} pixels, a decompression bomb?"
        message = f"{name}: is too large ({ceiling}); make it smaller"
        raise BadImage(message, code="image_too_large", field="image") from error
    except Exception as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "the header is damaged"
        raise BadImage(
            f"{name}: damaged or cut off: {reason}", code="image_corrupt", field="image"
        ) from error


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Drop Pillow's warnings about odd metadata: we raise one clear error, or the picture is fine.

    ``catch_warnings`` swaps a list of the whole process, hence the lock; it is held for headers, not for
    decoding.
    """
    with _quiet, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
