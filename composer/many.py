"""Many images: several through the encoder in one pass, and an image that fails spoils no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from adapters.base import Request
from adapters.results import Result
from composer.images import Image, Source, open_image
from composer.pipeline import Pipeline, PipelineResult
from sam.embedding import Embedding
from sam.errors import SamComposerError, UsageError

if TYPE_CHECKING:
    from composer.composer import Composer, Scene

IMAGES_AT_ONCE = 4
"""Images encoded in one pass unless the caller says."""


def open_many(
    composer: Composer, sources: Iterable[Source], at_once: int
) -> Iterator[Scene | SamComposerError]:
    """See :meth:`composer.composer.Composer.open_many`."""
    if at_once < 1:
        raise UsageError(f"at_once must be at least 1, not {at_once}", field="at_once")
    return _opened(composer, iter(sources), at_once)


def run_many(
    scenes: Iterable[Scene | SamComposerError], requests: Sequence[Request] | Pipeline
) -> Iterator[list[Result] | PipelineResult | SamComposerError]:
    """See :meth:`composer.composer.Composer.run_many`."""
    for scene in scenes:
        if isinstance(scene, SamComposerError):
            yield scene
            continue
        try:
            found = answer(scene, requests)
        except SamComposerError as error:
            yield error
        else:
            yield found


def answer(scene: Scene, requests: Sequence[Request] | Pipeline) -> list[Result] | PipelineResult:
    """What was asked about one scene, in the order of the requests."""
    if isinstance(requests, Pipeline):
        return scene.run(requests)
    return [scene.run(request) for request in requests]


def _opened(
    composer: Composer, sources: Iterator[Source], at_once: int
) -> Iterator[Scene | SamComposerError]:
    from composer.composer import Scene

    while some := list(islice(sources, at_once)):
        read = [_read(composer, source) for source in some]
        images = [one for one in read if isinstance(one, Image)]
        embeddings = iter(_encoded(composer, images))
        scenes = [Scene(composer, one, next(embeddings)) if isinstance(one, Image) else one for one in read]
        # Handed out one by one: whoever asks for the next is done with this one's image.
        while scenes:
            yield scenes.pop(0)


def _read(composer: Composer, source: Source) -> Image | SamComposerError:
    try:
        return open_image(source, limits=composer.limits)
    except SamComposerError as error:
        return error


def _encoded(composer: Composer, images: Sequence[Image]) -> list[Embedding]:
    try:
        return composer.encode_many([image.pixels for image in images], [image.sha256 for image in images])
    except (MemoryError, RuntimeError):  # too many together, as torch says it: what remains is one by one
        return [composer.encode(image.pixels, image.sha256) for image in images]
