"""The facade: load, open, run; one encode for each image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from adapters.base import Request
from adapters.results import Instances
from composer import Boxes, Composer, Everything, Points
from composer.limits import Limits
from sam.errors import BadImage, BadPrompt, CheckpointError, UsageError
from sam.model import SegmentAnything
from sam.prompts import Prompts

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def composer(small_preset: Path) -> Composer:
    return Composer.load(small_preset, device="cpu", precision="fp32")


def test_every_kind_of_source_gives_the_same_masks(composer: Composer, photo: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    request = Points([[40, 45]])
    sources = (photo, path, str(path), path.read_bytes(), Image.fromarray(photo))
    masks = [composer.open(source).run(request).masks for source in sources]
    assert all(np.array_equal(masks[0], other) for other in masks[1:])
    assert composer.open(path).source.file_name == "photo.png"


def test_one_image_is_encoded_once(small_preset: Path, photo: Pixels) -> None:
    composer = Composer.load(small_preset, device="cpu", precision="fp32")
    requests: list[Request] = [Points([[40, 45]]), Boxes([[15, 20, 65, 70]]), Everything(points_per_side=2)]
    results = composer.run(photo, requests)
    assert [type(r) for r in results] == [Instances] * 3
    composer.open(photo.copy())
    assert composer.cache.stats.encodes == 1
    assert composer.cache.stats.hits == 1


def test_a_cpu_decodes_in_float32_whatever_it_encodes_in(small_preset: Path, photo: Pixels) -> None:
    fine, coarse = (
        Composer.load(small_preset, device="cpu", precision=name).model for name in ("fp32", "bf16")
    )
    expected, embedding = (model.encode([photo])[0] for model in (fine, coarse))
    assert not torch.equal(expected.features, embedding.features)
    prompts = Prompts(boxes=torch.tensor([[15.0, 20, 65, 70]]))
    answers = [model.decode(embedding, prompts, multimask=True) for model in (fine, coarse)]
    assert torch.equal(*(answer.iou_predictions for answer in answers))
    assert torch.equal(*(answer.low_res_logits() for answer in answers))
    coarse.decode_dtype = None
    reduced = coarse.decode(embedding, prompts, multimask=True)
    assert not torch.equal(reduced.low_res_logits(), answers[0].low_res_logits())


def test_crops_are_encoded_once_too(small_preset: Path, photo: Pixels) -> None:
    composer = Composer.load(small_preset, device="cpu", precision="fp32")
    request = Everything(points_per_side=2, crop_n_layers=1)
    first = composer.run(photo, [request, request])
    assert composer.cache.stats.encodes == 1 + 4
    assert np.array_equal(first[0].masks, first[1].masks)


def test_threads_share_one_encode_and_agree_with_one_thread(small_preset: Path, photo: Pixels) -> None:
    composer = Composer.load(small_preset, device="cpu", precision="fp32")
    clicks = [(x, 45) for x in range(5, 135, 10)]
    expected = [composer.open(photo).run(Points([c])).masks for c in clicks]
    composer.cache.clear()
    before = composer.cache.stats.encodes
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda c: composer.open(photo).run(Points([c])).masks, clicks))
    assert composer.cache.stats.encodes == before + 1
    assert all(np.array_equal(a, b) for a, b in zip(expected, got, strict=True))


def test_a_model_with_other_weights_does_not_share_the_cache(small_preset: Path, photo: Pixels) -> None:
    one, two = (Composer.load(small_preset, device="cpu", precision="fp32") for _ in range(2))
    assert one.model.digest == two.model.digest != ""
    one.model.digest = ""
    assert Composer(one.model, one.preset, one.precision)._weights_id != one.model.digest


def test_the_checkpoint_argument_replaces_the_weights(small_preset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes((small_preset.parent / "small.safetensors").read_bytes())
    assert Composer.load(small_preset, checkpoint=other).describe()["weights"] == "other.safetensors"
    with pytest.raises(CheckpointError, match=r"no\.pth"):
        Composer.load(small_preset, checkpoint=tmp_path / "no.pth")


def test_describe_names_the_weights_by_digest(composer: Composer) -> None:
    description = composer.describe()
    assert description["preset"] == "small"
    assert len(description["weights_sha256"]) == 64
    assert description["precision"] == "fp32"
    assert "/" not in description["weights"]


def test_bfloat16_changes_little(small_preset: Path, photo: Pixels) -> None:
    full = Composer.load(small_preset, device="cpu", precision="fp32").open(photo)
    half = Composer.load(small_preset, device="cpu", precision="bf16").open(photo)
    assert half.embedding.features.dtype == torch.float32
    similarity = torch.cosine_similarity(
        full.embedding.features.flatten(), half.embedding.features.flatten(), 0
    )
    assert 0.99 < float(similarity) < 1.0


def test_limits_reach_the_image(small_preset: Path, photo: Pixels) -> None:
    composer = Composer.load(small_preset, limits=Limits(max_pixels=1000))
    with pytest.raises(BadImage, match="pixel"):
        composer.open(photo)


@pytest.mark.parametrize("requests", [[], [Points([[1, 1]])] * 33])
def test_no_request_and_too_many(composer: Composer, photo: Pixels, requests: list[Request]) -> None:
    with pytest.raises(UsageError, match="give 1 to 32"):
        composer.run(photo, requests)


def test_what_is_no_request_is_refused_before_the_image_is_read(composer: Composer) -> None:
    with pytest.raises(UsageError, match="cannot run a dict"):
        composer.run("missing.jpg", [{"kind": "points"}])  # type: ignore[list-item]


def test_a_single_request_may_stand_alone(composer: Composer, photo: Pixels) -> None:
    (only,) = composer.run(photo, Points([[40, 45]]))  # type: ignore[arg-type]
    assert len(only) == 1


def test_a_prompt_outside_names_the_image_size(composer: Composer, photo: Pixels) -> None:
    with pytest.raises(BadPrompt, match="140 px wide and 90 px high"):
        composer.open(photo).run(Points([[140, 10]]))


def test_loading_prepares_the_encoder_and_compiles_it_when_asked(
    small_preset: Path, photo: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Composer.load(small_preset, device="cpu", precision="fp32").model
    assert plain.running_encoder is not plain.image_encoder
    asked: list[bool] = []
    monkeypatch.setattr(SegmentAnything, "prepare", lambda model, *, compile: asked.append(compile))
    same = Composer.load(small_preset, device="cpu", precision="fp32", compile=True).model
    Composer.load(small_preset, device="cpu", precision="fp32")
    assert asked == [True, False]
    (found,), (expected,) = plain.encode([photo]), same.encode([photo])
    torch.testing.assert_close(found.features, expected.features, rtol=1e-4, atol=1e-5)
