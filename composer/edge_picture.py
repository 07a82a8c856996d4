"""An edge map as a picture: bright lines on the photo, which is dimmed and grey."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from adapters.results import EdgeMap

DIM = 0.35
"""Share of the photo's brightness that is left beneath the edges."""


def draw_edges(pixels: npt.NDArray[np.uint8], edges: EdgeMap) -> PILImage.Image:
    """Draw edges over (H, W, 3) uint8 RGB pixels: the likelier, the brighter, from violet to yellow.

    Raises:
        ValueError: the map is of an image of another size.
    """
    if pixels.shape[:2] != edges.image_size:
        raise ValueError(f"edges of a {edges.image_size} image on one of {pixels.shape[:2]}")
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) * DIM
    # The square root lifts weak edges: most of a map's values are small.
    strength = np.sqrt(edges.values)
    colour = cv2.applyColorMap(np.rint(strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    mixed = grey[..., None] * (1 - strength[..., None]) + colour * strength[..., None]
    return PILImage.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
