"""One encode for one image however many ask, least recently used out first, failures never kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.cache import CacheKey, EmbeddingCache


@dataclass(frozen=True)
class Block:
    name: str
    nbytes: int = 10


def key(name: str) -> CacheKey:
    return CacheKey(name, "weights", "1", "fp32")


def make(name: str, size: int = 10) -> Callable[[], Block]:
    return lambda: Block(name, size)


def never() -> Block:
    pytest.fail("encoded what was kept")


def test_second_time_is_from_memory() -> None:
    cache = EmbeddingCache[Block](100)
    first = cache.get_or_encode(key("a"), make("a"))
    assert cache.get_or_encode(key("a"), never) is first
    stats = cache.stats
    assert (stats.hits, stats.misses, stats.encodes, stats.entries, stats.bytes) == (1, 1, 1, 1, 10)


@pytest.mark.parametrize("part", range(4))
def test_every_part_of_the_key_counts(part: int) -> None:
    cache = EmbeddingCache[Block](100)
    one = CacheKey("i", "w", "p", "fp32")
    other = CacheKey(*("different" if i == part else value for i, value in enumerate(one)))
    cache.get_or_encode(one, make("a"))
    assert cache.get_or_encode(other, make("b")).name == "b"


def test_least_recently_used_goes_first() -> None:
    cache = EmbeddingCache[Block](30)
    for name in "abc":
        cache.get_or_encode(key(name), make(name))
    cache.get_or_encode(key("a"), never)  # now b is the oldest
    cache.get_or_encode(key("d"), make("d"))
    for name in "acd":
        cache.get_or_encode(key(name), never)
    assert cache.get_or_encode(key("b"), make("new b")).name == "new b"
    assert cache.stats.evictions == 2


def test_one_large_value_pushes_out_several() -> None:
    cache = EmbeddingCache[Block](30)
    for name in "abc":
        cache.get_or_encode(key(name), make(name))
    cache.get_or_encode(key("big"), make("big", 25))
    assert (cache.stats.entries, cache.stats.bytes, cache.stats.evictions) == (1, 25, 3)


@pytest.mark.parametrize("max_bytes", [0, 9])
def test_a_value_that_does_not_fit_is_handed_out_and_pushes_nothing_out(max_bytes: int) -> None:
    cache = EmbeddingCache[Block](max_bytes)
    cache.get_or_encode(key("small"), make("small", max_bytes))
    assert cache.get_or_encode(key("a"), make("a")).name == "a"
    assert (cache.stats.entries, cache.stats.bytes) == (1, max_bytes)


def test_clear() -> None:
    cache = EmbeddingCache[Block](100)
    cache.get_or_encode(key("a"), make("a"))
    cache.clear()
    assert (cache.stats.entries, cache.stats.bytes) == (0, 0)
    assert cache.get_or_encode(key("a"), make("again")).name == "again"


def test_fifty_threads_one_image_one_encode() -> None:
    cache = EmbeddingCache[Block](100)
    calls: list[int] = []
    everyone = threading.Barrier(50)
    release = threading.Event()

    def encode() -> Block:
        calls.append(1)
        assert release.wait(30)
        return Block("a")

    def ask() -> Block:
        everyone.wait(30)
        return cache.get_or_encode(key("a"), encode)

    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(ask) for _ in range(50)]
        release.set()
        values = [future.result(30) for future in asked]
    assert len(calls) == 1
    assert all(value is values[0] for value in values)
    stats = cache.stats
    assert (stats.encodes, stats.misses, stats.hits) == (1, 1, 49)


def test_a_failure_reaches_all_who_wait_and_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, release = threading.Semaphore(0), threading.Event()

    class Watched(Future[Block]):
        def result(self, timeout: float | None = None) -> Block:
            waiting.release()
            return super().result(timeout)

    monkeypatch.setattr("composer.cache.Future", Watched)
    cache = EmbeddingCache[Block](100)
    started = threading.Event()

    def fail() -> Block:
        started.set()
        assert release.wait(30)
        raise RuntimeError("no memory")

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(cache.get_or_encode, key("a"), fail)]
        assert started.wait(30)
        asked += [pool.submit(cache.get_or_encode, key("a"), never) for _ in range(7)]
        for _ in range(7):
            assert waiting.acquire(timeout=30)
        release.set()
        for future in asked:
            with pytest.raises(RuntimeError, match="no memory"):
                future.result(30)
    assert (cache.stats.encodes, cache.stats.entries, cache.stats.misses) == (0, 0, 1)
    assert cache.get_or_encode(key("a"), make("fine")).name == "fine"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_encode_leaves_no_one_waiting(error: type[BaseException]) -> None:
    cache = EmbeddingCache[Block](100)

    def interrupted() -> Block:
        raise error

    with pytest.raises(error):
        cache.get_or_encode(key("a"), interrupted)
    assert cache.get_or_encode(key("a"), make("fine")).name == "fine"


def test_another_image_does_not_wait() -> None:
    cache = EmbeddingCache[Block](100)
    started, release = threading.Event(), threading.Event()

    def slow() -> Block:
        started.set()
        assert release.wait(30)
        return Block("slow")

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.get_or_encode, key("slow"), slow)
        assert started.wait(30)
        assert cache.get_or_encode(key("quick"), make("quick")).name == "quick"
        assert not waiting.done()
        release.set()
        assert waiting.result(30).name == "slow"


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40)), max_size=60), st.integers(0, 100))
def test_bytes_add_up_and_stay_within_the_limit(asked: list[tuple[str, int]], max_bytes: int) -> None:
    cache = EmbeddingCache[Block](max_bytes)
    sizes: dict[str, int] = {}
    for count, (name, size) in enumerate(asked, start=1):
        value = cache.get_or_encode(key(name), make(name, size))
        assert value.name == name
        sizes[name] = value.nbytes
        stats = cache.stats
        assert stats.bytes <= max_bytes
        assert stats.hits + stats.misses == count
        assert stats.encodes == stats.misses
        assert stats.entries <= len(sizes)
    kept = cache.stats
    if kept.evictions == 0 and all(size <= max_bytes for size in sizes.values()):
        assert kept.bytes == sum(sizes.values())


def test_many_threads_many_images() -> None:
    cache = EmbeddingCache[Block](50)

    def right(i: int) -> bool:
        name = str(i * 7 % 11)
        return cache.get_or_encode(key(name), make(name)).name == name

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(right, range(2000)))
    stats = cache.stats
    assert stats.hits + stats.misses == 2000 and stats.bytes == 10 * stats.entries <= 50


def many(names: str, called: list[list[int]]) -> Callable[[list[int]], list[Block]]:
    def encode(places: list[int]) -> list[Block]:
        called.append(places)
        return [Block(names[place], 10) for place in places]

    return encode


def test_many_at_once_are_made_by_one_call() -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(100)
    b = cache.get_or_encode(key("b"), make("b"))
    called: list[list[int]] = []
    found = cache.get_or_encode_many([key(n) for n in "abcac"], many("abcac", called))
    assert [block.name for block in found] == list("abcac")
    assert found[1] is b and found[0] is found[3] and called == [[0, 2]]
    assert cache.get_or_encode(key("c"), never) is found[2]
    assert cache.get_or_encode_many([key(n) for n in "ab"], many("", called)) == [found[0], b]
    assert len(called) == 1
    stats = cache.stats
    assert (stats.hits, stats.misses, stats.encodes) == (6, 3, 3)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_many_that_fail_are_not_kept(error: type[BaseException]) -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(100)

    def fail(places: list[int]) -> list[Block]:
        raise error("broken")

    for _ in range(2):
        with pytest.raises(error, match="broken"):
            cache.get_or_encode_many([key("a"), key("b")], fail)
    with pytest.raises(ValueError, match="1 values for 2 keys"):
        cache.get_or_encode_many([key("a"), key("b")], lambda places: [Block("a", 1)])
    assert cache.stats.encodes == 0
    assert cache.get_or_encode(key("a"), make("a")).name == "a"


def test_many_wait_for_what_another_call_makes() -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(1000)
    begun, go_on = threading.Event(), threading.Event()
    called: list[list[int]] = []

    def slow(places: list[int]) -> list[Block]:
        begun.set()
        assert go_on.wait(timeout=10)
        return [Block("ab"[place]) for place in places]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_encode_many, [key("a"), key("b")], slow)
        assert begun.wait(timeout=10)
        second = pool.submit(cache.get_or_encode_many, [key("b"), key("c")], many("bc", called))
        while not called:
            threading.Event().wait(0.001)
        go_on.set()
        b, c = second.result(timeout=10)
        assert b is first.result(timeout=10)[1] and c.name == "c" and called == [[1]]
