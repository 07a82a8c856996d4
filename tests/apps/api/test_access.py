"""Tokens, quotas, pages of other sites, and the headers that browsers heed."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from apps.api.app import create_app
from apps.api.envelope import headers_for
from apps.api.gate import Quota
from apps.api.settings import ServiceSettings, read_tokens
from composer.allowed_models import AllowedModels
from sam.errors import UsageError
from tests.apps.api.kit import MakeService, form, image_file

TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def guarded(make_service: MakeService, tmp_path: Path) -> TestClient:
    path = tmp_path / "tokens.txt"
    path.write_text(f"# people\n\nann:{TOKEN}\n{'f' * 40}\n")
    return TestClient(create_app(make_service(ServiceSettings(read_tokens(path)))))


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "token_missing"),
        ("Bearer", "token_missing"),
        ("Basic YW5uOmFubg==", "token_invalid"),
        (f"Bearer {TOKEN[:-1]}", "token_invalid"),
        (f"Bearer ann:{TOKEN}", "token_invalid"),
    ],
)
def test_without_a_token_nothing_is_told(guarded: TestClient, header: str | None, code: str) -> None:
    headers = {} if header is None else {"authorization": header}
    for answer in (
        guarded.get("/v1/models", headers=headers),
        guarded.post("/v1/segment", **form(image_file()), headers=headers),
        guarded.get("/metrics", headers=headers),
    ):
        assert answer.status_code == 401 and answer.json()["code"] == code
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_with_a_token(guarded: TestClient) -> None:
    for token in (TOKEN, "f" * 40):
        answer = guarded.post(
            "/v1/segment", **form(image_file()), headers={"authorization": f"bearer {token}"}
        )
        assert answer.status_code == 200
    assert TOKEN not in guarded.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).text


def test_health_needs_no_token(guarded: TestClient) -> None:
    assert guarded.get("/livez").status_code == guarded.get("/readyz").status_code == 200
    assert guarded.get("/openapi.json").json()["security"] == [{"token": []}]


@pytest.mark.parametrize(
    "content", ["", "# nothing\n", "short\n", f"ann: {TOKEN}\n", "ümläüte-sind-kein-token\n"]
)
def test_files_of_tokens_that_are_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(content)
    with pytest.raises(UsageError) as refused:
        read_tokens(path)
    assert TOKEN not in str(refused.value), "errors go to logs"
    with pytest.raises(UsageError):
        read_tokens(tmp_path / "missing.txt")


def test_tokens_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_tokens(None) == {}
    monkeypatch.setenv("SAM_COMPOSER_TOKENS", f"ann:{TOKEN},{'f' * 40}")
    settings = ServiceSettings(read_tokens(None))
    assert settings.client_of(TOKEN) == "ann"
    assert str(settings.client_of("f" * 40)).startswith("token-")
    assert settings.client_of("nobody") is None
    assert TOKEN not in repr(settings)


def test_a_quota_is_per_client_and_a_minute(make_service: MakeService) -> None:
    now = 0.0
    quota = Quota(6, lambda: now)
    assert [quota.wait("a") for _ in range(6)] == [0] * 6
    assert quota.wait("a") == pytest.approx(10)
    assert quota.wait("b") == 0
    now = 10.1
    assert quota.wait("a") == 0 and quota.wait("a") > 0
    client = TestClient(create_app(make_service(ServiceSettings(quota=2))))
    answers = [client.post("/v1/segment", **form(image_file())) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == "quota_exceeded" and int(answers[2].headers["retry-after"]) >= 1
    assert client.get("/v1/models").status_code == 200, "looking costs nothing"


def test_pages_of_other_sites_are_kept_out(client: TestClient) -> None:
    foreign = {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"}
    answer = client.post("/v1/segment", **form(image_file()), headers=foreign)
    assert answer.status_code == 403 and answer.json()["code"] == "foreign_page"
    assert "access-control-allow-origin" not in answer.headers
    preflight = {"access-control-request-method": "POST", **foreign}
    assert client.options("/v1/segment", headers=preflight).status_code == 405
    own = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
    assert client.post("/v1/segment", **form(image_file()), headers=own).status_code == 200


def test_pages_that_are_allowed(make_service: MakeService) -> None:
    origin = "https://page.example"
    client = TestClient(create_app(make_service(ServiceSettings(origins=(origin,)))))
    headers = {"origin": origin, "sec-fetch-site": "cross-site"}
    preflight = client.options("/v1/segment", headers={"access-control-request-method": "POST", **headers})
    assert preflight.status_code == 200 and preflight.headers["access-control-allow-origin"] == origin
    answer = client.post("/v1/segment", **form(image_file()), headers=headers)
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == origin
    other = client.get("/v1/models", headers={"origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


def test_headers(client: TestClient) -> None:
    for path in ("/v1/models", "/v1/nothing", "/v1/segment"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
    assert "cross-origin-embedder-policy" not in client.get("/livez").headers
    assert headers_for("/annotate/page/x.js")["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers_for("/annotate")["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Cross-Origin-Embedder-Policy" not in headers_for("/annotated")


def test_request_ids_are_new_each_time(client: TestClient) -> None:
    ids = {client.get("/livez", headers={"x-request-id": "mine"}).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5 and "mine" not in ids


def test_detectors_that_the_server_allows(make_service: MakeService, tmp_path: Path) -> None:
    """Their errors name them as the client does, without the path."""
    path = tmp_path / "cats.pt"
    path.write_bytes(b"no detector")
    allowed = AllowedModels({"cats.pt": str(path)}, {"mine": (str(tmp_path / "clip"), None)})
    client = TestClient(create_app(make_service(ServiceSettings(allowed=allowed))))
    for asked in (
        {"kind": "detect", "detector": "cats.pt"},
        {"kind": "text", "phrases": ["x"], "clip": "mine"},
    ):
        answer = client.post("/v1/segment", **form(image_file(), [asked]))
        assert answer.status_code >= 422 and str(tmp_path) not in answer.text, answer.text
    about = client.get("/v1/models").json()
    assert (about["detectors"], about["clips"]) == (["cats.pt"], ["mine"])
    unknown = client.post("/v1/segment", **form(image_file(), [{"kind": "detect", "detector": str(path)}]))
    assert unknown.status_code == 422 and unknown.json()["allowed"] == ["cats.pt"]


def test_paths_become_names() -> None:
    allowed = AllowedModels({"a.pt": "/m/a.pt"}, {"b": ("/m", "/m/a.pt.more")})
    assert allowed.hide_paths("/m/a.pt: damaged; /m is a folder") == "a.pt: damaged; b is a folder"
