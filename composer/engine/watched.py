"""A scene that stops in the middle of its work once nobody waits for the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from adapters.base import Pixels
from adapters.base import Scene as AdapterScene
from composer.composer import Composer, Scene
from composer.images import Image
from sam.embedding import Embedding
from sam.model import Candidates
from sam.prompts import Prompts

Check = Callable[[], None]


class WatchedScene(Scene):
    """A scene whose every encode and decode is preceded by a look at the clock.

    Automatic masks of a large image are minutes of work in steps of a second: those are where it can stop.

    Args:
        composer: answers its requests.
        source: the image.
        embedding: of it.
        check: raises where the work is no longer wanted.
    """

    def __init__(self, composer: Composer, source: Image, embedding: Embedding, check: Check) -> None:
        super().__init__(composer, source, embedding)
        encode, encode_many, edges_at = self._encode, self._encode_many, self._edges_at

        def encode_if_wanted(pixels: Pixels) -> Embedding:
            check()
            return encode(pixels)

        def encode_many_if_wanted(images: Sequence[Pixels]) -> Sequence[Embedding]:
            check()
            return encode_many(images)

        def edges_if_wanted(pixels: Pixels, side: int) -> tuple[Tensor, int, tuple[int, int]]:
            check()
            return edges_at(pixels, side)

        self._check = check
        self._encode, self._encode_many = encode_if_wanted, encode_many_if_wanted
        self._edges_at = edges_if_wanted

    def decode(self, prompts: Prompts, *, multimask: bool = True) -> Candidates:
        """See :meth:`adapters.base.Scene.decode`."""
        self._check()
        return super().decode(prompts, multimask=multimask)

    def _window(self, image: Pixels, embedding: Embedding | None = None) -> AdapterScene:
        return _WatchedWindow(super()._window(image, embedding), self._check)


class _WatchedWindow(AdapterScene):
    """A window of a watched scene; its encodes are watched by the functions that it got from it."""

    def __init__(self, window: AdapterScene, check: Check) -> None:
        super().__init__(
            window.image,
            window.model,
            window._encode,
            window.defaults,
            window.companions,
            encode_many=window._encode_many,
            edges_at=window._edges_at,
            embedding=window._embedding,
        )
        self._check = check

    def decode(self, prompts: Prompts, *, multimask: bool = True) -> Candidates:
        self._check()
        return super().decode(prompts, multimask=multimask)
