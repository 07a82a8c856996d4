"""A real server and many clients: crowds, slow ones, and those that go away."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from fastapi import Request

from apps.api.app import create_app
from apps.api.settings import ServiceSettings, read_tokens
from composer.engine.encoding import encode_batch
from tests.apps.api.kit import CLICK, WAIT, MakeService, form, image_file, living, until


class HeldUp:
    """An encoder that waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.seen: list[str] = []

    def __call__(self, composer: Any, images: Sequence[Any]) -> Any:
        self.seen += [image.sha256 for image in images]
        assert self.go.wait(WAIT)
        return encode_batch(composer, images)


def crowd(url: str, count: int, *, headers: Any = lambda i: {}) -> list[httpx.Response]:
    """So many clients at once, each with a connection of its own."""

    async def one(client: httpx.AsyncClient, i: int) -> httpx.Response:
        return await client.post(f"{url}/v1/segment", **form(image_file(i % 10)), headers=headers(i))

    async def every() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=WAIT, limits=limits, trust_env=False) as client:
            return await asyncio.gather(*(one(client, i) for i in range(count)))

    return asyncio.run(every())


def test_two_hundred_clients_get_200_or_503(make_service: MakeService) -> None:
    service = make_service()
    with living(create_app(service)) as server:
        answers = crowd(server.url, 200)
        codes = Counter(answer.status_code for answer in answers)
        assert set(codes) == {200, 503}, codes
        for answer in answers:
            if answer.status_code == 503:
                assert answer.json()["code"] == "queue_full" and int(answer.headers["retry-after"]) >= 1
            else:
                assert len(answer.json()["results"][0]["annotations"]) == 1
        assert httpx.post(f"{server.url}/v1/segment", **form(image_file())).status_code == 200
    stats = service.engine.stats
    assert stats.waiting == stats.running == 0
    assert stats.images_encoded <= 10, "ten different images were sent"


def test_one_client_does_not_keep_out_the_others(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"client{i}" for i in range(5)]
    monkeypatch.setenv("SAM_COMPOSER_TOKENS", ",".join(f"{name}:{name * 4}" for name in names))
    encode = HeldUp()
    service = make_service(ServiceSettings(read_tokens(None)), encode, queue_size=8)
    with living(create_app(service)) as server:
        greedy: list[httpx.Response] = []

        def hammer() -> None:
            token = {"authorization": f"Bearer {'client0' * 4}"}
            greedy.extend(crowd(server.url, 40, headers=lambda i: token))

        hammering = threading.Thread(target=hammer)
        hammering.start()
        until(lambda: service.engine.stats.refused >= 31)
        polite: list[httpx.Response] = []

        def ask(name: str) -> None:
            token = {"authorization": f"Bearer {name * 4}"}
            polite.append(
                httpx.post(f"{server.url}/v1/segment", **form(image_file()), headers=token, timeout=WAIT)
            )

        asking = [threading.Thread(target=ask, args=(name,)) for name in names[1:]]
        for thread in asking:
            thread.start()
        until(lambda: service.engine.stats.admitted >= 9 + 4)
        encode.go.set()
        for thread in (hammering, *asking):
            thread.join(WAIT)
    assert [answer.status_code for answer in polite] == [200] * 4
    assert Counter(answer.status_code for answer in greedy) == {200: 5, 503: 35}


def test_a_client_that_goes_away_while_it_waits_is_not_encoded(make_service: MakeService) -> None:
    encode = HeldUp()
    service = make_service(encode=encode)
    with living(create_app(service)) as server:
        first = threading.Thread(target=lambda: httpx.post(
            f"{server.url}/v1/segment", **form(image_file(1)), timeout=WAIT
        ))  # fmt: skip
        first.start()
        until(lambda: encode.seen)
        with server.connect() as gone:
            gone.sendall(raw_call(image_file(2)))
            until(lambda: service.engine.stats.admitted == 2)
        until(lambda: service.engine.stats.cancelled == 1)
        encode.go.set()
        first.join(WAIT)
    assert len(encode.seen) == 1
    assert service.engine.stats.answered == 1


def test_a_client_that_goes_away_in_its_body_leaves_nothing(make_service: MakeService) -> None:
    service = make_service()
    with living(create_app(service)) as server:
        with server.connect() as gone:
            gone.sendall(raw_call(image_file(2))[:-2000])
            time.sleep(0.1)
        assert httpx.post(f"{server.url}/v1/segment", **form(image_file())).status_code == 200
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'status="500"' not in metrics
    assert service.engine.stats.admitted == 1


def test_an_answer_that_is_not_ready_in_time(make_service: MakeService) -> None:
    encode = HeldUp()
    service = make_service(encode=encode, deadline_seconds=0.3)
    with living(create_app(service)) as server:
        answer = httpx.post(f"{server.url}/v1/segment", **form(image_file()), timeout=WAIT)
        assert answer.status_code == 504 and answer.json()["code"] == "deadline_exceeded"
        encode.go.set()
        until(lambda: service.engine.stats.running == 0)
        assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_a_body_that_does_not_come_in_time(make_service: MakeService) -> None:
    with living(create_app(make_service(deadline_seconds=0.3))) as server, server.connect() as slow:
        slow.sendall(raw_call(image_file(2))[:-2000])
        assert status_of(slow) == (408, "body_slow")


def test_a_body_of_a_page_that_does_not_come_in_time(make_service: MakeService) -> None:
    """Pages need no token: what they hold back would keep the API's clients out."""
    app = create_app(make_service(deadline_seconds=0.3))

    @app.put("/page")
    async def page(request: Request) -> int:
        return len(await request.body())

    with living(app) as server, server.connect() as slow:
        slow.sendall(b"PUT /page HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\nabc")
        assert status_of(slow) == (408, "body_slow")


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(make_service: MakeService) -> None:
    limit = 100_000
    with living(create_app(make_service(max_body_bytes=limit))) as server:
        for path in ("/v1/segment", "/v1/images"):
            with server.connect() as one:
                one.sendall(
                    f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n".encode()
                )
                chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
                for _ in range(4):  # and no end
                    one.sendall(chunk)
                assert status_of(one) == (413, "body_too_large")
            with server.connect() as one:
                one.sendall(
                    f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {limit + 1}\r\n\r\n".encode()
                )  # and no body
                assert status_of(one) == (413, "body_too_large")


def test_broken_http_is_answered_and_costs_nothing(make_service: MakeService) -> None:
    with living(create_app(make_service())) as server:
        for junk in (b"\x16\x03\x01\x02\0", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x"):
            with server.connect() as one:
                one.sendall(junk + b"\r\n\r\n")
                assert one.recv(1000).startswith(b"HTTP/1.1 400")
        assert httpx.get(f"{server.url}/livez").status_code == 200


def test_five_hundred_slow_clients_do_not_hold_up_livez(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    import apps.api.server

    monkeypatch.setattr(apps.api.server, "HEADER_SECONDS", 1.5)
    slow: list[socket.socket] = []
    with living(create_app(make_service())) as server:
        try:
            for i in range(500):
                slow.append(server.connect())
                slow[-1].sendall(b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nX-Slow: " if i % 2 else b"")
            assert httpx.get(f"{server.url}/livez", timeout=1.0).status_code == 200
            assert httpx.post(f"{server.url}/v1/segment", **form(image_file())).status_code == 200
            until(lambda: len(server.server.server_state.connections) < 10)
        finally:
            for one in slow:
                one.close()


def raw_call(image: bytes) -> bytes:
    """The bytes of a whole request."""
    request = httpx.Request("POST", "http://x/v1/segment", files={"image": image}, data={
        "requests": json.dumps(CLICK)
    })  # fmt: skip
    body = request.read()
    head = f"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: {request.headers['content-type']}\r\n\r\n".encode() + body


def status_of(one: socket.socket) -> tuple[int, str]:
    """Status and code of the problem that comes."""
    data = b""
    while b"}" not in data:
        more = one.recv(65536)
        assert more, data
        data += more
    return int(data.split()[1]), json.loads(data.partition(b"\r\n\r\n")[2])["code"]
