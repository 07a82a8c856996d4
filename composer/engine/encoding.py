"""Embeddings of several images from one pass of the encoder, each image with an error of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from composer.composer import Composer
from composer.engine.memory import exhausted, free_memory, is_out_of_memory
from composer.images import Image
from sam.embedding import Embedding

Encoded = Embedding | Exception
EncodeMany = Callable[[Composer, Sequence[Image]], list[Embedding]]
"""Encodes all images or raises; :func:`encode_batch` unless an engine is told otherwise."""


def encode_batch(composer: Composer, images: Sequence[Image]) -> list[Embedding]:
    """The embeddings of images: from the cache, and the others from one pass, the same image once."""
    return composer.encode_many([image.pixels for image in images], [image.sha256 for image in images])


def encode_apart(
    composer: Composer, images: Sequence[Image], encode: EncodeMany = encode_batch
) -> tuple[list[Encoded], int]:
    """Encode together; where that fails, one by one, so that an image fails on its own.

    Memory that runs out gets that second attempt too, after what can be freed has been.

    Returns:
        For each image its embedding or what went wrong; and how often memory had run out.
    """
    shortages = 0
    try:
        return [*encode(composer, images)], shortages
    except Exception as error:
        if is_out_of_memory(error):
            shortages += 1
        elif len(images) == 1:
            return [error], shortages
    if shortages:
        free_memory(composer)
    found: list[Encoded] = []
    for image in images:
        try:
            found.append(encode(composer, [image])[0])
        except Exception as error:
            shortages += is_out_of_memory(error)
            found.append(exhausted() if is_out_of_memory(error) else error)
    return found, shortages
