"""What a page needs to know of a photo in order to decode clicks, as bytes that it can use as they are.

The layout is that of safetensors: eight bytes that tell how long the header is (little-endian), the header in
JSON, then the tensors. Names are the inputs of the graph ``click`` of :mod:`sam.click_graphs`.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from sam.click_graphs import image_side
from sam.model import Embedding, SegmentAnything

MEDIA_TYPE = "application/vnd.safetensors"


def embedding_file(model: SegmentAnything, embedding: Embedding) -> bytes:
    """The image side of ``embedding``, float32.

    The header's ``__metadata__`` has ``input_size`` and ``original_size``, each "height width" in pixels.
    """
    tensors = image_side(model, embedding)
    arrays = {name: tensor.float().cpu().numpy() for name, tensor in tensors.items()}
    sizes = {"input_size": embedding.input_size, "original_size": embedding.original_size}
    return _packed(arrays, {key: " ".join(map(str, size)) for key, size in sizes.items()})


def _packed(arrays: dict[str, npt.NDArray[np.float32]], metadata: dict[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name, array in arrays.items():
        end = offset + array.nbytes
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight
    body = (array.astype("<f4", copy=False).tobytes() for array in arrays.values())
    return struct.pack("<Q", len(text)) + text + b"".join(body)
