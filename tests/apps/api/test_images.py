"""``/v1/images``: sent once, asked many times, forgotten in time."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors
from starlette.testclient import TestClient

from apps.api.app import create_app
from apps.api.service import Service
from apps.api.settings import ServiceSettings, read_tokens
from composer.embedding_file import embedding_bytes
from composer.engine.held_images import HeldImages
from composer.images import open_image
from sam.errors import Unavailable
from tests.apps.api.kit import CLICK, MakeService, form, image_file


def hold(client: TestClient, number: int = 0, **headers: str) -> Any:
    return client.post("/v1/images", files={"image": image_file(number)}, headers=headers)


def test_hold_ask_forget(client: TestClient) -> None:
    held = hold(client)
    assert held.status_code == 201
    about = held.json()
    assert about["id"] == open_image(image_file()).sha256
    assert (about["width"], about["height"]) == (64, 48)
    assert datetime.fromisoformat(about["expires"]) > datetime.now(timezone.utc)
    path = held.headers["location"]
    assert path == f"/v1/images/{about['id']}"
    assert client.get(path).json()["id"] == about["id"]
    asked = client.post(f"{path}/segment", json={"requests": CLICK})
    direct = client.post("/v1/segment", **form(image_file()))
    assert asked.json()["results"] == direct.json()["results"]
    assert asked.json()["encoder_passes"] == 0
    as_form = client.post(f"{path}/segment", files={"requests": (None, json.dumps(CLICK))})
    assert as_form.json()["results"] == direct.json()["results"]
    assert client.post(f"{path}/segment", json={"pipeline": "largest"}).status_code == 200
    assert client.delete(path).status_code == 204
    for answer in (client.get(path), client.delete(path), client.post(f"{path}/segment", json={})):
        assert answer.status_code == 404 and answer.json()["code"] == "image_unknown"


def test_the_same_picture_in_another_file_has_the_same_id(client: TestClient) -> None:
    first = client.post("/v1/images", files={"image": image_file(3, kind="PNG")}).json()["id"]
    again = client.post("/v1/images", files={"image": image_file(3, kind="WEBP", lossless=True)}).json()["id"]
    assert first == again


def test_the_embedding_can_be_read_elsewhere(client: TestClient, service: Service) -> None:
    path = hold(client).headers["location"]
    answer = client.get(f"{path}/embedding")
    assert answer.headers["content-type"] == "application/vnd.safetensors"
    tensors = load_safetensors(answer.content)
    embedding = service.engine.composer.open(image_file()).embedding
    assert np.array_equal(tensors["image_embeddings"], embedding.features.numpy())
    skips = {
        f"high_res_{s.shape[-1] // embedding.features.shape[-1]}": s for s in embedding.high_res_features
    }
    assert set(skips) == {"high_res_2", "high_res_4"}
    assert all(np.array_equal(tensors[name], skip.numpy()) for name, skip in skips.items())
    assert answer.headers["x-original-size"] == "48,64"
    assert answer.headers["x-input-size"] == "48,64"
    assert answer.headers["x-model-digest"] == service.engine.composer.model.digest
    header = int.from_bytes(answer.content[:8], "little")
    assert (8 + header) % 8 == 0, "a Float32Array can lie on the bytes where they are"
    assert json.loads(answer.content[8 : 8 + header])["__metadata__"]["original_size"] == "48,64"
    assert answer.content == embedding_bytes(embedding)


def test_asking_needs_no_image_and_takes_none(client: TestClient) -> None:
    path = hold(client).headers["location"]
    answer = client.post(f"{path}/segment", **form(image_file()))
    assert answer.status_code == 422 and answer.json()["field"] == "image"


@pytest.mark.parametrize("image_id", ["x", "0" * 63, "g" * 64, "../../etc", "0" * 65])
def test_what_is_no_id(client: TestClient, image_id: str) -> None:
    assert client.get(f"/v1/images/{image_id}").status_code in (404, 422)


def test_an_evicted_embedding_costs_nothing(make_service: MakeService) -> None:
    service = make_service(embedding_cache_bytes=0)
    with TestClient(create_app(service)) as client:
        path = hold(client).headers["location"]
        before = service.engine.composer.cache.stats.encodes
        assert client.post(f"{path}/segment", json={"requests": CLICK}).status_code == 200
        assert service.engine.composer.cache.stats.encodes == before


def test_images_of_one_client_are_not_there_for_another(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM_COMPOSER_TOKENS", f"ann:{'a' * 32},bob:{'b' * 32}")
    service = make_service(ServiceSettings(read_tokens(None)))
    ann, bob = ({"authorization": f"Bearer {letter * 32}"} for letter in "ab")
    with TestClient(create_app(service)) as client:
        path = hold(client, **ann).headers["location"]
        assert client.get(path, headers=ann).status_code == 200
        assert client.get(path, headers=bob).status_code == 404
        assert client.delete(path, headers=bob).status_code == 404
        hold(client, **bob)
        assert client.delete(path, headers=ann).status_code == 204
        assert client.get(path, headers=ann).status_code == 404
        assert client.get(path, headers=bob).status_code == 200


class TestHeldImages:
    """The store itself, with a clock of its own."""

    def store(self, service: Service, images: float = 10, seconds: float = 60) -> Any:
        self.now = 0.0
        self.image = [open_image(image_file(number)) for number in range(4)]
        self.embedding = service.engine.composer.open(image_file()).embedding
        size = self.image[0].pixels.nbytes + self.embedding.nbytes
        return HeldImages(int(size * images), seconds, lambda: self.now)

    def test_the_least_recently_used_goes_first(self, service: Service) -> None:
        held = self.store(service, images=2.5)
        for image in self.image[:2]:
            held.put(image, self.embedding, "")
        assert held.get(self.image[0].sha256, "") is not None
        held.put(self.image[2], self.embedding, "")
        assert held.get(self.image[1].sha256, "") is None
        assert held.get(self.image[0].sha256, "") is not None
        assert len(held) == 2 and held.nbytes <= held.max_bytes

    def test_they_expire_after_their_last_use(self, service: Service) -> None:
        held = self.store(service, seconds=60)
        first = held.put(self.image[0], self.embedding, "")
        assert first.expires == 60
        held.put(self.image[1], self.embedding, "")
        self.now = 50
        assert held.get(self.image[0].sha256, "") is not None
        self.now = 70
        assert held.get(self.image[1].sha256, "") is None
        assert held.get(self.image[0].sha256, "") is not None
        self.now = 1000
        held.forget_expired()
        assert len(held) == 0 and held.nbytes == 0

    def test_one_that_is_too_large_is_refused(self, service: Service) -> None:
        held = self.store(service, images=0.5)
        with pytest.raises(Unavailable) as refused:
            held.put(self.image[0], self.embedding, "")
        assert refused.value.code == "image_not_held" and len(held) == 0
