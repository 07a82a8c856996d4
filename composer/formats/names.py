"""Names for the outputs of many images: one each, whatever the images are called."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

MAX_STEM_BYTES = 200
"""Leaves room for ``.overlay.png`` and the like within the 255 bytes that file systems allow a name."""


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """One output name for each image, without suffix.

    It is the image's own stem. Images that share one get their suffix too (``a.jpg``, ``a.png`` -> ``a_jpg``,
    ``a_png``), then their folders, from the nearest up (``day1-a_jpg``, ``day2-a_jpg``), and last, if even
    that does not tell them apart, a number. Names that differ only in case or in how an accent is composed
    count as the same, since on some file systems they are.

    Args:
        paths: different files; their order matters only for the numbers.

    Returns:
        As many different names, in the order of ``paths``.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    names = [_shorten(path.stem) for path in absolute]
    levels = [0] * len(names)
    while growing := [i for i in _shared(names) if levels[i] < len(absolute[i].parts)]:
        for i in growing:
            names[i] = _longer_name(absolute[i], levels[i])
            levels[i] += 1
    return _numbered(names)


def _longer_name(path: Path, folders: int) -> str:
    """Stem and suffix, with so many of the folders above."""
    above = path.parent.parts[1:]  # without the root
    nearest = above[len(above) - min(folders, len(above)) :]
    suffix = f"_{path.suffix[1:]}" if path.suffix else ""
    return _shorten("-".join([*nearest, path.stem + suffix]))


def _shared(names: list[str]) -> list[int]:
    counts = Counter(map(_folded, names))
    return [i for i, name in enumerate(names) if counts[_folded(name)] > 1]


def _numbered(names: list[str]) -> list[str]:
    taken = {_folded(name) for name in names}
    seen: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 1
        while _folded(candidate) in seen or (number > 1 and _folded(candidate) in taken):
            number += 1
            candidate = f"{name}-{number}"
        seen.add(_folded(candidate))
        result.append(candidate)
    return result


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _shorten(name: str) -> str:
    """A name that fits; what is cut off is stood for by a digest, so that different names stay different."""
    data = os.fsencode(name)
    if len(data) <= MAX_STEM_BYTES:
        return name
    digest = hashlib.sha256(data).hexdigest()[:12]
    return data[: MAX_STEM_BYTES - 13].decode("utf-8", "ignore") + "-" + digest
