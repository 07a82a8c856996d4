"""What the server knows of an image as bytes that a page can read: a safetensors file of float32 tensors.

Both decoders that run in a page start from it, the general one (:mod:`sam.export`) and the annotator's
(:mod:`sam.click_graphs`).

The layout: eight bytes with the length n of a header (little-endian); n bytes of JSON, ``{"name": {"dtype":
"F32", "shape": [...], "data_offsets": [begin, end]}, "__metadata__": {...}}``; then the tensors' values,
float32, little-endian, rows last. Any safetensors library reads it, and so do ten lines of JavaScript.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from sam.embedding import Embedding

MEDIA_TYPE = "application/vnd.safetensors"
ALIGNMENT = 8


def embedding_bytes(embedding: Embedding) -> bytes:
    """``image_embeddings`` (1, C, h, w), and the encoder's skips and edge map where it has them.

    The names are those of the exported decoder's inputs: ``high_res_2`` and ``high_res_4`` are the skips, for
    how much finer they are, and ``edge_logits`` the edge map. The metadata are those of :func:`metadata`.
    """
    tensors = {"image_embeddings": embedding.features}
    side = embedding.features.shape[-1]
    for skip in embedding.high_res_features:
        tensors[f"high_res_{skip.shape[-1] // side}"] = skip
    if embedding.edge_logits is not None:
        tensors["edge_logits"] = embedding.edge_logits
    return _packed(tensors, metadata(embedding))


def _packed(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """Tensors of any device and format as such a file, the same bytes each time.

    The library's own writer will not do: it puts the metadata into any order.
    """
    header: dict[str, object] = {"__metadata__": dict(about)}
    parts: list[bytes] = []
    offset = 0
    for name, tensor in tensors.items():
        data = np.ascontiguousarray(tensor.float().cpu().numpy(), "<f4").tobytes()
        place = [offset, offset + len(data)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": place}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)  # the tensors then start where a Float32Array may
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def metadata(embedding: Embedding) -> dict[str, str]:
    """``original_size`` and ``input_size``, each ``height,width`` in pixels, and the ``model_digest``."""
    return {
        "original_size": ",".join(map(str, embedding.original_size)),
        "input_size": ",".join(map(str, embedding.input_size)),
        "model_digest": embedding.model_digest,
    }
