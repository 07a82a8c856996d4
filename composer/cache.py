"""Image embeddings kept for the next request, and one encoder pass however many ask at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar, cast


class Sized(Protocol):
    """A value that knows how many bytes it holds."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        ...


V = TypeVar("V", bound=Sized)


class CacheKey(NamedTuple):
    """Everything that decides an embedding, and nothing that a client sends.

    Attributes:
        image: :attr:`composer.images.Image.sha256`, which covers mode, size, dtype and pixels.
        weights: digest of the model's weights.
        preprocessing: version of the resizing and normalising before the encoder.
        precision: dtype that the encoder computes in, e.g. ``fp32``.
    """

    image: str
    weights: str
    preprocessing: str
    precision: str


@dataclass(frozen=True)
class CacheStats:
    """Counters since the cache was made; ``bytes`` and ``entries`` are of now.

    ``hits`` were answered without an encode of their own, from memory or by waiting for another thread's;
    ``misses`` had to encode; ``encodes`` are those that succeeded; ``evictions`` made room.
    """

    hits: int
    misses: int
    encodes: int
    evictions: int
    entries: int
    bytes: int


class EmbeddingCache(Generic[V]):
    """Least recently used values go first once ``max_bytes`` are exceeded. Safe to share between threads.

    Args:
        max_bytes: of values kept; 0 keeps none, though simultaneous requests for one key still share one
            encode. A value larger than all of it is handed out and not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[CacheKey, tuple[V, int]] = OrderedDict()
        self._under_way: dict[CacheKey, Future[V]] = {}
        self._bytes = self._hits = self._misses = self._encodes = self._evictions = 0

    def get_or_encode(self, key: CacheKey, encode: Callable[[], V]) -> V:
        """The value of ``key``, made by ``encode`` if no other call has made it or is making it.

        Callers that arrive while one encodes wait for it. If it fails, they get its exception, nothing is
        kept, and the next call tries again. ``encode`` must not ask this cache for the same key.
        """
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                self._hits += 1
                return kept[0]
            future = self._under_way.get(key)
            mine = future is None
            if future is None:
                future = self._under_way[key] = Future()
                self._misses += 1
        if mine:
            self._encode(key, encode, future)
            return future.result()
        value = future.result()
        with self._lock:
            self._hits += 1
        return value

    def peek(self, key: CacheKey) -> V | None:
        """The value of ``key`` if it is kept, without counting a hit or making it the latest used."""
        with self._lock:
            kept = self._kept.get(key)
            return None if kept is None else kept[0]

    def get_or_encode_many(
        self, keys: Sequence[CacheKey], encode: Callable[[list[int]], Sequence[V]]
    ) -> list[V]:
        """The values of several keys, those that are missing made by one call.

        Args:
            keys: may hold a key more than once.
            encode: given the places in ``keys`` of what is missing, makes their values in that order. If it
                fails, nothing is kept.
        """
        found: list[V | Future[V]] = []
        mine: dict[CacheKey, tuple[int, Future[V]]] = {}
        with self._lock:
            for place, key in enumerate(keys):
                kept, under_way = self._kept.get(key), self._under_way.get(key)
                if kept is not None:
                    self._kept.move_to_end(key)
                    self._hits += 1
                elif under_way is None:
                    under_way = self._under_way[key] = Future()
                    mine[key] = place, under_way
                    self._misses += 1
                else:
                    self._hits += 1
                found.append(kept[0] if kept is not None else cast("Future[V]", under_way))
        if mine:
            self._encode_many(mine, encode)
        # A call waits only for those that came before it, so none of them can be waiting for it.
        return [one.result() if isinstance(one, Future) else one for one in found]

    def clear(self) -> None:
        """Forget every kept value; encodes under way go on."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    @property
    def stats(self) -> CacheStats:
        """The counters, all of one moment."""
        with self._lock:
            return CacheStats(
                self._hits, self._misses, self._encodes, self._evictions, len(self._kept), self._bytes
            )

    def _encode(self, key: CacheKey, encode: Callable[[], V], future: Future[V]) -> None:
        try:
            value = encode()
            size = value.nbytes
        except BaseException as error:  # KeyboardInterrupt too: the waiting threads must not wait for ever
            with self._lock:
                del self._under_way[key]
            future.set_exception(error)
            return
        with self._lock:  # one step: whoever comes next finds it kept or under way, never neither
            del self._under_way[key]
            self._encodes += 1
            self._keep(key, value, size)
        future.set_result(value)

    def _encode_many(
        self, mine: dict[CacheKey, tuple[int, Future[V]]], encode: Callable[[list[int]], Sequence[V]]
    ) -> None:
        try:
            values = encode([place for place, _ in mine.values()])
            made = [(value, value.nbytes) for value in values]
            if len(made) != len(mine):
                raise ValueError(f"{len(made)} values for {len(mine)} keys")
        except BaseException as error:
            with self._lock:
                for key in mine:
                    del self._under_way[key]
            for _, future in mine.values():
                future.set_exception(error)
            return
        with self._lock:
            for key, (value, size) in zip(mine, made, strict=True):
                del self._under_way[key]
                self._encodes += 1
                self._keep(key, value, size)
        for (_, future), (value, _) in zip(mine.values(), made, strict=True):
            future.set_result(value)

    def _keep(self, key: CacheKey, value: V, size: int) -> None:
        if size > self.max_bytes:
            return
        self._kept[key] = (value, size)
        self._bytes += size
        while self._bytes > self.max_bytes:
            _, (_, freed) = self._kept.popitem(last=False)
            self._bytes -= freed
            self._evictions += 1
