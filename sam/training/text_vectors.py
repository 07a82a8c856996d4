"""Vectors of the pictures of segments, computed once by a text-image model and packed beside the photos.

Such a vector stands in for a phrase in training (App. D.5): the text tower's vectors lie in the same space.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

VECTORS, KEYS = "vectors.npy", "keys.npy"


@dataclass(frozen=True)
class TextVectors:
    """Packed vectors of a set.

    Attributes:
        vectors: (n, V, d) float16, V crops of each segment; a memory map.
        rows: number in ``vectors`` by photo, layer and segment id.
    """

    vectors: npt.NDArray[np.float16]
    rows: dict[tuple[int, int, int], int]

    @property
    def width(self) -> int:
        """d."""
        return int(self.vectors.shape[2])

    def of(self, photo: int, layer: int, segment: int) -> npt.NDArray[np.float16] | None:
        """(V, d) vectors of a segment; None where it was too small to have any."""
        row = self.rows.get((photo, layer, segment))
        return None if row is None else self.vectors[row]

    @classmethod
    def open(cls, folder: Path) -> TextVectors:
        """Map what :func:`save_vectors` wrote."""
        keys = np.load(folder / KEYS)
        rows = {(int(p), int(layer), int(s)): row for row, (p, layer, s) in enumerate(keys)}
        return cls(np.load(folder / VECTORS, mmap_mode="r"), rows)


def save_vectors(folder: Path, vectors: npt.NDArray[np.float16], keys: npt.NDArray[np.int64]) -> TextVectors:
    """Write (n, V, d) vectors and their (n, 3) keys: photo, layer, segment id."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / VECTORS, vectors)
    np.save(folder / KEYS, keys.reshape(-1, 3))
    return TextVectors.open(folder)
