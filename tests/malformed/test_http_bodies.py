"""Bodies that are no call: each gets its own answer, and nothing of them is kept."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.apps.api.kit import CLICK, form, image_file
from tests.malformed.conftest import BODY_LIMIT

PATH = "/v1/segment"
JSON = {"content-type": "application/json"}
FORM = "multipart/form-data; boundary=XX"
PATHS = re.compile(r"/(tmp|usr|etc|home|root|var|opt|work|site-packages)\b")
IMAGE = base64.b64encode(image_file()).decode()


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The checked content of an error."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    assert body["status"] == status and body["type"].endswith(f":{code}")
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "\n" not in body["detail"] and not PATHS.search(answer.text), answer.text
    assert "Traceback" not in answer.text
    return body


def call(requests: str = json.dumps(CLICK)) -> bytes:
    return f'{{"image": "{IMAGE}", "requests": {requests}}}'.encode()


@pytest.mark.parametrize("path", [PATH, "/v1/images"])
def test_empty(client: TestClient, path: str) -> None:
    problem(client.post(path, headers=JSON), 400, "body_empty")
    problem(client.post(path, headers=JSON, content=b""), 400, "body_empty")
    assert client.post(path, headers={"content-type": FORM}, content=b"").status_code == 400


def test_declared_too_large(client: TestClient) -> None:
    answer = client.post(PATH, headers=JSON, content=b"x" * (BODY_LIMIT + 1))
    assert problem(answer, 413, "body_too_large")["allowed"] == {"max_bytes": BODY_LIMIT}


def test_declared_too_large_is_not_read(client: TestClient) -> None:
    problem(
        client.post(PATH, headers=JSON | {"content-length": "99999999999999999999999"}), 413, "body_too_large"
    )


@pytest.mark.parametrize("kind", ["application/json", FORM])
def test_chunked_too_large(client: TestClient, kind: str) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        yield b'--XX\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        for _ in range(100):
            sent += 1
            yield b"x" * (BODY_LIMIT // 10)

    problem(client.post(PATH, headers={"content-type": kind}, content=chunks()), 413, "body_too_large")


def test_a_body_of_just_the_limit_is_read(client: TestClient) -> None:
    content = b"{" + b" " * (BODY_LIMIT - 2) + b"}"
    assert client.post(PATH, headers=JSON, content=content).status_code == 422


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("multipart/form-data", b"--XX\r\n"),
        (FORM, b"garbage"),
        (FORM, b"--YY\r\nContent-Disposition: form-data; name=requests\r\n\r\n[]\r\n--YY--\r\n"),
        (FORM, b"--XX\r\nno colon\r\n\r\nx\r\n--XX--\r\n"),
        (FORM, b"--XX\r\nContent-Type: text/plain\r\n\r\nx\r\n--XX--\r\n"),
        (FORM, b"--XX--\r\n"),
        (FORM, bytes(range(256)) * 10),
    ],
    ids=["no-boundary", "garbage", "other-boundary", "bad-header", "no-disposition", "no-fields", "bytes"],
)
def test_broken_forms(client: TestClient, kind: str, content: bytes) -> None:
    answer = client.post(PATH, headers={"content-type": kind}, content=content)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("form_invalid", "body_empty")


def test_a_form_that_breaks_off(client: TestClient) -> None:
    content = b'--XX\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + image_file()
    answer = client.post(PATH, headers={"content-type": FORM}, content=content)
    assert "breaks off" in problem(answer, 400, "form_invalid")["detail"]


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/xml", "application/x-www-form-urlencoded", "", "nonsense", "image/png"],
)
def test_other_media_types(client: TestClient, kind: str) -> None:
    answer = client.post(PATH, headers={"content-type": kind}, content=b"x")
    assert "application/json" in problem(answer, 415, "media_type")["allowed"]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[1,]",
        b"\xff\xfe{}",
        b'{"image": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"nul",
        b"{} {}",
        b"'x'",
    ],
    ids=["cut", "comma", "utf-16", "latin", "deep", "deep-objects", "deep-whole", "nul", "two", "quotes"],
)
def test_what_is_no_json(client: TestClient, content: bytes) -> None:
    problem(client.post(PATH, headers=JSON, content=content), 400, "json_invalid")
    if b'"image"' not in content and len(content) < 1000:
        answer = client.post(PATH, files={"image": image_file(), "requests": (None, content)})
        assert answer.json()["field"] == "requests" and answer.status_code == 400


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[]", "request_invalid"),
        (b"null", "request_invalid"),
        (b'"text"', "request_invalid"),
        (b"{}", "field_missing"),
        (b'{"image": 5, "requests": []}', "image_encoding"),
        (b'{"image": "no base 64!", "requests": []}', "image_encoding"),
        (b'{"image": null, "requests": []}', "image_encoding"),
        (b'{"image": "AAAA", "imgae": "AAAA", "requests": []}', "field_unknown"),
        (b'{"image": "AAAA", "requests": [], "requests": []}', "field_doubled"),
        (b'{"image": "AAAA"}', "field_missing"),
        (b'{"image": "AAAA", "requests": [{"kind": "everything"}], "pipeline": "largest"}', "field_missing"),
        (b'{"image": "AAAA", "pipeline": "../../etc/passwd"}', "pipeline_unknown"),
        (b'{"image": "AAAA", "pipeline": "mine.yaml"}', "pipeline_unknown"),
        (b'{"image": "AAAA", "pipeline": 5}', "pipeline_unknown"),
        (b'{"image": "AAAA", "requests": []}', "request_invalid"),
        (b'{"image": "AAAA", "requests": {}}', "request_invalid"),
        (b'{"image": "AAAA", "requests": [5]}', "request_invalid"),
        (b'{"image": "AAAA", "requests": [{}]}', "request_invalid"),
    ],
)
def test_json_that_is_no_call(client: TestClient, content: bytes, code: str) -> None:
    answer = client.post(PATH, headers=JSON, content=content)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == code


@pytest.mark.parametrize(
    ("requests", "code"),
    [
        ('[{"kind": "points", "points": [[NaN, 1]]}]', "number_invalid"),
        ('[{"kind": "points", "points": [[Infinity, 1]]}]', "number_invalid"),
        ('[{"kind": "points", "points": [[1e999, 1]]}]', "request_invalid"),
        ('[{"kind": "points", "points": [[%s, 1]]}]' % ("9" * 5000), "number_invalid"),
        ('[{"kind": "everything", "points_per_side": %s}]' % ("9" * 5000), "number_invalid"),
        ('[{"kind": "points", "points": [[1, 1]], "lables": [1]}]', "field_unknown"),
        ('[{"kind": "points", "kind": "boxes"}]', "field_doubled"),
    ],
    ids=["nan", "inf", "1e999", "digits", "digits-int", "unknown-key", "twice"],
)
def test_values_that_no_request_has(client: TestClient, requests: str, code: str) -> None:
    problem(client.post(PATH, headers=JSON, content=call(requests)), 422, code)
    problem(client.post(PATH, **form(image_file(), requests)), 422, code)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_wrong_methods(client: TestClient, method: str) -> None:
    answer = client.request(method, PATH)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_unknown_paths(client: TestClient) -> None:
    problem(client.get("/v1/nothing"), 404, "not_found")
    problem(client.post("/v2/segment"), 404, "not_found")


def test_fields_of_forms(client: TestClient) -> None:
    asked = {"requests": json.dumps(CLICK)}
    two = [("image", ("a", image_file())), ("image", ("b", image_file()))]
    assert problem(client.post(PATH, files=two, data=asked), 422, "field_doubled")["field"] == "image"
    as_text = client.post(PATH, files={"image": (None, "text"), **{k: (None, v) for k, v in asked.items()}})
    assert problem(as_text, 422, "field_type")["field"] == "image"
    as_file = client.post(PATH, files={"requests": ("x", "[]")})
    assert problem(as_file, 422, "field_type")["field"] == "requests"
    unknown = client.post(PATH, files={"image": image_file()}, data={**asked, "colour": "red"})
    assert "requests" in problem(unknown, 422, "field_unknown")["allowed"]
    many = client.post(PATH, files={"image": image_file()}, data={f"f{i}": "" for i in range(50)})
    problem(many, 400, "form_invalid")
    long = client.post(PATH, files={"requests": (None, " " * (BODY_LIMIT - 1000))})
    assert long.status_code == 400, "read, and no JSON"
    missing = client.post(PATH, files={"requests": (None, asked["requests"])})
    assert problem(missing, 422, "field_missing")["field"] == "image"


def test_parameters(client: TestClient) -> None:
    answer = client.post(f"{PATH}?masks=pixels", **form(image_file()))
    assert problem(answer, 422, "parameter_invalid")["field"] == "masks"
    problem(client.post(PATH, **form(image_file()), headers={"accept": "text/html"}), 406, "not_acceptable")
