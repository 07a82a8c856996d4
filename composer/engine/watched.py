"""A scene that stops in the middle of its work once nobody waits for the answer."""

from __future__ import annotations

from collections.abc import Callable

from adapters.base import Encode, Pixels
from adapters.base import Scene as AdapterScene
from composer.composer import Composer, Scene
from composer.images import Image
from sam.model import Candidates, Embedding
from sam.prompts import Prompts

Check = Callable[[], None]


class WatchedScene(Scene):
    """A scene whose every encode and decode is preceded by a look at the clock.

    Automatic masks of a large image are minutes of work in steps of a second: those are where it can stop.

    Args:
        composer: answers its requests.
        source: the image.
        check: raises where the work is no longer wanted.
    """

    def __init__(self, composer: Composer, source: Image, check: Check) -> None:
        super().__init__(composer, source)
        self._check = check
        self._encode = _watched(self._encode, check)

    def decode(self, prompts: Prompts, *, multimask: bool = True) -> Candidates:
        """See :meth:`adapters.base.Scene.decode`."""
        self._check()
        return super().decode(prompts, multimask=multimask)

    def crop(self, box: tuple[int, int, int, int]) -> AdapterScene:
        """See :meth:`adapters.base.Scene.crop`; the window is watched too."""
        window = super().crop(box)
        return _WatchedWindow(window, self._encode, self._check)

    def hold(self, embedding: Embedding) -> None:
        """Take ``embedding``, which is of this image, as the scene's own."""
        with self._lock:
            self._embedding = embedding


class _WatchedWindow(AdapterScene):
    def __init__(self, window: AdapterScene, encode: Encode, check: Check) -> None:
        super().__init__(window.image, window.model, encode, window.defaults, window.companions)
        self._check = check

    def decode(self, prompts: Prompts, *, multimask: bool = True) -> Candidates:
        self._check()
        return super().decode(prompts, multimask=multimask)


def _watched(encode: Encode, check: Check) -> Encode:
    def encode_if_wanted(pixels: Pixels) -> Embedding:
        check()
        return encode(pixels)

    return encode_if_wanted
