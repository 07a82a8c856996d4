"""Images that clients come back to, with their embeddings: bounded in bytes, and forgotten after a while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from composer.images import Image
from sam.embedding import Embedding
from sam.errors import Unavailable


@dataclass
class HeldImage:
    """An image and its embedding.

    Attributes:
        image: the picture; its ``sha256`` is what it is held under.
        embedding: of it.
        owners: clients that asked for it; others do not see it.
        expires: when it is forgotten unless it is used before, on the clock of :func:`time.time`.
    """

    image: Image
    embedding: Embedding
    owners: set[str] = field(default_factory=set)
    expires: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.image.pixels.nbytes + self.embedding.nbytes


class HeldImages:
    """Held images by digest, the least recently used going first. Safe to share between threads.

    Args:
        max_bytes: of pixels and embeddings together.
        seconds: for which an image is held after its last use.
        clock: seconds; for tests.
    """

    def __init__(self, max_bytes: int, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self.max_bytes = max_bytes
        self.seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[str, HeldImage] = OrderedDict()

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        with self._lock:
            return self._bytes()

    def put(self, image: Image, embedding: Embedding, owner: str) -> HeldImage:
        """Hold ``image`` for ``owner``; one that is held already is held for both.

        Raises:
            Unavailable: it alone exceeds what may be held.
        """
        with self._lock:
            self._forget_expired()
            held = self._held.setdefault(image.sha256, HeldImage(image, embedding))
            if held.nbytes > self.max_bytes:
                del self._held[image.sha256]
                raise Unavailable(
                    f"the image takes {held.nbytes >> 20} MiB and this server holds at most "
                    f"{self.max_bytes >> 20}; send it with each request, or make it smaller",
                    code="image_not_held",
                    retry_after=60,
                )
            held.owners.add(owner)
            self._touch(held)
            while self._bytes() > self.max_bytes:
                self._held.popitem(last=False)
            return held

    def get(self, digest: str, owner: str) -> HeldImage | None:
        """The image of that digest, held for as long again; None where ``owner`` has none."""
        with self._lock:
            self._forget_expired()
            held = self._held.get(digest)
            if held is None or owner not in held.owners:
                return None
            self._touch(held)
            return held

    def drop(self, digest: str, owner: str) -> bool:
        """Forget it for ``owner``, altogether where nobody else asked for it; False where there is none."""
        with self._lock:
            self._forget_expired()
            held = self._held.get(digest)
            if held is None or owner not in held.owners:
                return False
            held.owners.discard(owner)
            if not held.owners:
                del self._held[digest]
            return True

    def forget_expired(self) -> None:
        """Free what has expired; everything else here does so in passing."""
        with self._lock:
            self._forget_expired()

    def _bytes(self) -> int:
        return sum(held.nbytes for held in self._held.values())

    def _touch(self, held: HeldImage) -> None:
        held.expires = self._clock() + self.seconds
        self._held.move_to_end(held.image.sha256)

    def _forget_expired(self) -> None:
        now = self._clock()
        for digest in [digest for digest, held in self._held.items() if held.expires <= now]:
            del self._held[digest]
