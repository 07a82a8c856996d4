"""Boundary maps in files: PNG of 8 or 16 bits, NumPy arrays, ultrametric contour maps from MATLAB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from scipy.io import loadmat

from composer.evaluation.boundaries.counts import Map
from composer.evaluation.missing import first_few
from sam.errors import BadAnnotation
from sam.pillow import open_picture

SUFFIXES = (".png", ".npy", ".mat")
_FULL = {"L": 255, "1": 1, "I;16": 65535, "I;16B": 65535, "I": 65535}
"""The value that stands for 1, for each of Pillow's modes of a grey PNG."""


def find_maps(folder: Path, stems: Iterable[str], suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """The files of ``folder`` with the maps of these photos, by the photos' names without suffix.

    Raises:
        BadAnnotation: several for one photo, or none: the first few such photos, and how many there are.
    """
    found: dict[str, Path] = {}
    missing = []
    for stem in stems:
        files = [path for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()]
        if len(files) > 1:
            names = " and ".join(path.name for path in files)
            raise BadAnnotation(f"{folder}: {names} are both maps of {stem}; keep one of them")
        if files:
            found[stem] = files[0]
        else:
            missing.append(stem)
    if missing:
        names = " or ".join(f"NAME{suffix}" for suffix in suffixes)
        photos = "one photo" if len(missing) == 1 else f"{len(missing)} photos"
        raise BadAnnotation(f"{folder}: no map ({names}) of {photos}: {first_few(missing)}")
    return found


def read_map(path: Path, size: tuple[int, int]) -> Map:
    """Read one map.

    Args:
        path: a grey PNG of 8 or 16 bits, a .npy file with numbers in [0, 1], or a .mat file with ``ucm2`` (an
            ultrametric contour map of double size, values in [0, 1]).
        size: (H, W) of its photo.

    Returns:
        (H, W) float64 in [0, 1]: thresholds are compared in double precision, as in MATLAB.

    Raises:
        BadAnnotation: a file that cannot be read, a map of another size, or values that are not in [0, 1].
    """
    try:
        values = {".png": _png, ".npy": _npy, ".mat": _ucm2}[path.suffix.lower()](path)
    except BadAnnotation:
        raise
    except PILImage.DecompressionBombError as error:
        raise BadAnnotation(f"{path}: {error}") from error
    except Exception as error:  # three parsers, each with errors of its own
        detail = f"{type(error).__name__}: {error}"
        raise BadAnnotation(f"{path}: cannot be read as a boundary map ({detail})") from error
    if values.ndim != 2:
        raise BadAnnotation(f"{path}: a boundary map is H x W numbers, this has the shape {values.shape}")
    if values.shape != size:
        raise BadAnnotation(
            f"{path}: {values.shape[1]} x {values.shape[0]} pixels, but its photo has {size[1]} x {size[0]}"
        )
    check_range(path, values)
    return values


def check_range(path: Path, values: npt.NDArray[np.float64]) -> None:
    """Raises BadAnnotation, which names the file, unless all values are numbers in [0, 1]."""
    if not np.isfinite(values).all():
        raise BadAnnotation(f"{path}: holds NaN or infinite values; expected numbers from 0 to 1")
    if values.min() < 0 or values.max() > 1:
        low, high = float(values.min()), float(values.max())
        raise BadAnnotation(f"{path}: values from {low:g} to {high:g}; expected numbers from 0 to 1")


def _png(path: Path) -> npt.NDArray[np.float64]:
    with open_picture(path, ["PNG"]) as picture:
        full = _FULL.get(picture.mode)
        if full is None:
            raise BadAnnotation(f"{path}: a PNG of mode {picture.mode}; expected grey values of 8 or 16 bits")
        return np.asarray(picture, np.float64) / full


def _npy(path: Path) -> npt.NDArray[np.float64]:
    values = np.load(path, allow_pickle=False)
    if values.dtype.kind not in "fiub":
        raise BadAnnotation(f"{path}: an array of {values.dtype}; expected numbers from 0 to 1")
    return np.asarray(values, np.float64)


def _ucm2(path: Path) -> npt.NDArray[np.float64]:
    return read_ucm2(path)[2::2, 2::2]


def read_ucm2(path: Path) -> npt.NDArray[np.float64]:
    """The (2 H + 1, 2 W + 1) contour map of a .mat file; odd rows and columns are pixels, the others borders.

    Raises:
        BadAnnotation: no ``ucm2`` in it. KeyError and SciPy's own errors: not a .mat file.
    """
    content = loadmat(path)
    if "ucm2" not in content:
        names = ", ".join(sorted(name for name in content if not name.startswith("__"))) or "nothing"
        raise BadAnnotation(f"{path}: expected a variable 'ucm2' in it, found {names}")
    return np.asarray(content["ucm2"], np.float64)
