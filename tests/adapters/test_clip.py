"""Text-image models: what goes in is open_clip's own format, and what cannot be loaded says why."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor

from adapters import clip, clip_dense
from adapters.clip import TEMPLATES, TextImageModel
from adapters.quiet import quiet_root_logger
from adapters.text_routes import vocabulary
from adapters.text_routes.vocabulary import Vocabulary
from sam.checkpoints import save_weights
from sam.errors import BadPrompt, CheckpointError, UsageError

Pixels = npt.NDArray[np.uint8]
TRANSFORMER = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
NEW_GELU = "ViT-B-32-quickgelu"


@pytest.fixture(scope="module")
def models(clip_folders: dict[str, Path]) -> dict[str, TextImageModel]:
    return {name: TextImageModel.load(folder) for name, folder in clip_folders.items()}


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_open_clip(folder: Path) -> tuple[Any, Callable[[Image.Image], Tensor]]:
    """The model and its transform as open_clip loads them itself."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), transform


@pytest.mark.parametrize("kind", ["softmax", "transformer"])
def test_pictures_are_prepared_and_encoded_as_open_clip_does(
    kind: str, clip_folders: dict[str, Path], models: dict[str, TextImageModel]
) -> None:
    theirs, transform = as_open_clip(clip_folders[kind])
    picture = noise(*models[kind].size)
    expected = transform(Image.fromarray(picture))
    torch.testing.assert_close(models[kind].prepare(picture), expected, atol=1e-6, rtol=0)
    with torch.inference_mode():
        vector = theirs.encode_image(expected[None], normalize=True)
    torch.testing.assert_close(models[kind].encode_pictures([picture]), vector, atol=1e-5, rtol=0)


def test_a_picture_of_another_size_is_squeezed(models: dict[str, TextImageModel]) -> None:
    model = models["softmax"]
    smooth = np.asarray(Image.fromarray(noise(6, 9)).resize((192, 128), Image.Resampling.BICUBIC))
    squeezed = np.asarray(Image.fromarray(smooth).resize((64, 64), Image.Resampling.BICUBIC))
    difference = (model.prepare(smooth) - model.prepare(squeezed)).abs()
    assert difference.max() < 3 / 255 / 0.15


@pytest.mark.parametrize("kind", ["softmax", "transformer"])
def test_a_phrase_is_the_mean_of_open_clips_vectors_of_its_sentences(
    kind: str, clip_folders: dict[str, Path], models: dict[str, TextImageModel]
) -> None:
    theirs, _ = as_open_clip(clip_folders[kind])
    tokens = open_clip.get_tokenizer(f"local-dir:{clip_folders[kind]}")(
        [t.format("red car") for t in TEMPLATES]
    )
    with torch.inference_mode():
        mean = theirs.encode_text(tokens, normalize=True).mean(0)
    found = models[kind].encode_phrases(["dog", "red car"])
    torch.testing.assert_close(found[1], mean / mean.norm(), atol=1e-5, rtol=0)
    assert models[kind].width == found.shape[1]


def test_phrases_are_kept(models: dict[str, TextImageModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = models["softmax"]
    first = model.encode_phrases(["a cat", "a {strange} one", "a cat"])
    torch.testing.assert_close(first[0], first[2])
    monkeypatch.setattr(model.model, "encode_text", None)
    torch.testing.assert_close(model.encode_phrases(["a {strange} one"]), first[1:2])
    assert model.encode_phrases([]).shape == (0, 64)
    assert model.encode_pictures([]).shape == (0, 64)


def test_the_cache_of_phrases_is_bounded(
    models: dict[str, TextImageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip, "PHRASES_CACHED", 3)
    model = models["transformer"]
    assert len(model.encode_phrases(["a", "b", "c", "d", "e"])) == 5
    assert [phrase for phrase, _ in model._phrases] == ["c", "d", "e"]


def test_a_phrase_that_would_be_cut_off_is_refused(models: dict[str, TextImageModel]) -> None:
    longest = " ".join(["cat"] * (32 - 2 - 7))  # start, end, and `a close - up photo of a … .` makes 9
    with pytest.raises(BadPrompt, match=r"reads 32 tokens") as refused:
        models["softmax"].encode_phrases([longest])
    assert refused.value.code == "phrase_too_long"
    models["softmax"].encode_phrases([longest], ("{}",))


@pytest.mark.parametrize("field", ["phrases", "synonyms", "negatives"])
def test_a_phrase_that_is_too_long_is_said_to_be_of_its_list(
    models: dict[str, TextImageModel], field: str
) -> None:
    words = {"phrases": "a dog", "synonyms": "a hound", "negatives": "a cat"}
    words[field] = " ".join(["cat"] * (32 - 2 - 7))
    phrase, synonym, negative = words.values()
    with pytest.raises(BadPrompt, match=r"reads 32 tokens") as refused:
        Vocabulary.of(models["softmax"], [phrase], {phrase: [synonym]}, [negative])
    assert refused.value.field == field


def test_how_cosines_become_scores(models: dict[str, TextImageModel]) -> None:
    assert models["softmax"].bias is None
    assert models["sigmoid"].bias == -10
    assert models["softmax"].scale == pytest.approx(1 / 0.07, rel=1e-4)


def test_quick_gelu_of_a_tag_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of a tag that was trained with it would give other answers without."""
    asked: list[tuple[str, bool]] = []

    def create(name: str, tag: str | None, quick_gelu: bool, where: str) -> None:
        asked.append((str(tag), quick_gelu))
        raise UsageError("enough")

    monkeypatch.setattr(clip, "_create", create)
    for tag in ("openai", "laion2b_s34b_b79k"):
        with pytest.raises(UsageError, match="enough"):
            TextImageModel.load("ViT-B/32", tag)
    assert asked == [("openai", True), ("laion2b_s34b_b79k", False)]


def test_forcing_quick_gelu_changes_the_activation() -> None:
    small = TRANSFORMER | {"quick_gelu": False}
    plain, quick = (open_clip.CLIP(**(small | {"quick_gelu": flag})) for flag in (False, True))
    kinds = [type(m.visual.transformer.resblocks[0].mlp.gelu).__name__ for m in (plain, quick)]
    assert kinds == ["GELU", "QuickGELU"]


def test_a_published_architecture_from_a_file(tmp_path: Path) -> None:
    """The names and shapes of ViT-B-32, random weights, through the code that published ones take."""
    theirs = open_clip.create_model(NEW_GELU).eval()
    save_weights(theirs, tmp_path / "b32.safetensors")
    model = TextImageModel.load(NEW_GELU, tmp_path / "b32.safetensors")
    assert model.name == f"{NEW_GELU}/b32.safetensors"
    assert model.size == (224, 224) and model.bias is None and model.width == 512
    assert type(model.model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    assert model.encode_dense(noise(50, 70)).shape == (14, 14, 512)
    with pytest.raises(CheckpointError, match="another architecture") as wrong:
        TextImageModel.load("RN50", tmp_path / "b32.safetensors")
    assert wrong.value.code == "checkpoint_mismatch"


def test_a_file_is_looked_at_as_the_published_weights_of_its_architecture() -> None:
    model = open_clip.CLIP(**TRANSFORMER)
    open_clip.model.set_model_preprocess_cfg(
        model, {"size": 32, "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    )
    assert clip._usual_preprocessing("ViT-B-16-SigLIP", model)["mean"] == (0.5, 0.5, 0.5)
    assert clip._usual_preprocessing("ViT-B-32", model)["mean"] == open_clip.OPENAI_DATASET_MEAN


class SigLipTokens:
    """In place of SigLIP's tokenizer, which is downloaded: letters as tokens, 1 ends a text and fills up."""

    context_length = 64

    def __call__(self, texts: list[str], context_length: int = 64) -> Tensor:
        rows = [[3 + ord(c) % 100 for c in text][: context_length - 1] for text in texts]
        return torch.tensor([row + [1] * (context_length - len(row)) for row in rows])


def test_a_published_siglip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration as open_clip has it, random weights: bias, 64 tokens, its own mean and deviation."""
    monkeypatch.setattr(clip, "_tokenizer", lambda name: SigLipTokens())
    monkeypatch.setattr(clip, "_load_file", lambda *_: None)
    (tmp_path / "weights.safetensors").touch()
    model = TextImageModel.load("ViT-B-16-SigLIP", tmp_path / "weights.safetensors")
    assert (model.bias, model.context_length, model.size, model.width) == (-10, 64, (224, 224), 768)
    picture = noise(224, 224)
    pixels = model.prepare(picture)
    expected = torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1  # mean and deviation .5
    torch.testing.assert_close(pixels, expected, atol=1e-6, rtol=0)
    seen = model.encode_pictures([picture])
    monkeypatch.setattr(vocabulary, "COMMON", ())  # each word takes as long as with published weights
    monkeypatch.setattr(vocabulary, "BACKGROUND", ())
    words = vocabulary.Vocabulary.of(model, ["a zebra"])
    theirs = model.model
    with torch.inference_mode():
        tokens = SigLipTokens()([template.format("a zebra") for template in TEMPLATES])
        mean = theirs.encode_text(tokens, normalize=True).mean(0)
        logit = theirs.logit_scale.exp() * seen[0] @ (mean / mean.norm()) + theirs.logit_bias
    found = words.relevance(seen)[0, 0]
    assert found == pytest.approx(float(logit.sigmoid()), rel=1e-3) and found > 0
    assert len(model.encode_phrases(["z" * 62, "z" * 63], ("{}",))) == 2
    with pytest.raises(BadPrompt, match="reads 64 tokens"):
        model.encode_phrases(["z" * 64], ("{}",))


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("VIT-B-32", "openai", "near: .*ViT-B-32"),
        ("no such thing", "openai", "known: "),
        ("ViT-B-32", None, "name its weights too, a tag \\(openai"),
        ("ViT-B-32", "opnai", "neither a file nor a tag of ViT-B-32; its tags: openai"),
    ],
)
def test_unknown_names_list_the_known(name: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        TextImageModel.load(name, pretrained)
    assert refused.value.code == "clip_unknown"


def test_a_folder_takes_no_other_weights(clip_folders: dict[str, Path]) -> None:
    for name in (clip_folders["softmax"], clip_folders["softmax"] / "open_clip_model.safetensors"):
        with pytest.raises(UsageError, match="holds its own weights; leave 'openai' out") as refused:
            TextImageModel.load(name, "openai")
        assert refused.value.field == "pretrained"


def test_a_folder_that_is_none(tmp_path: Path, clip_folders: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json is missing"):
        TextImageModel.load(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"open_clip_model\.safetensors is missing"):
        TextImageModel.load(tmp_path)
    weights = (clip_folders["softmax"] / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "open_clip_model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match="not a description that open_clip can build"):
        TextImageModel.load(tmp_path)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TRANSFORMER}))
    with pytest.raises(CheckpointError, match="another architecture"):
        TextImageModel.load(tmp_path / "open_clip_model.safetensors")


def test_the_places_of_a_convolutional_tower_average_to_its_vector(models: dict[str, TextImageModel]) -> None:
    model = models["softmax"]
    picture = noise(64, 64)
    with torch.inference_mode():
        places = clip_dense._of_map(model.model.visual, model.prepare(picture)[None])
    mean = torch.nn.functional.normalize(places.mean((0, 1)), dim=-1)
    torch.testing.assert_close(mean, model.encode_pictures([picture])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["softmax", "transformer"])
def test_places_are_unit_vectors_on_a_grid(kind: str, models: dict[str, TextImageModel]) -> None:
    places = models[kind].encode_dense(noise(40, 80))
    assert places.ndim == 3 and places.shape[2] == models[kind].width
    torch.testing.assert_close(places.norm(dim=-1), torch.ones(places.shape[:2]), atol=1e-5, rtol=0)
    if kind == "softmax":  # a convolution keeps the photo's shape
        assert places.shape[1] == 2 * places.shape[0]


def test_a_place_of_a_transformer_shows_what_is_there(models: dict[str, TextImageModel]) -> None:
    """Two halves: places of a half agree with each other more than with those of the other."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 32:] = 255
    places = models["transformer"].encode_dense(picture)
    left, right = places[2:-2, :3].reshape(-1, 32).mean(0), places[2:-2, -3:].reshape(-1, 32).mean(0)
    same = (places[4, 1] @ left).item()
    assert same > (places[4, 1] @ right).item()


def test_the_places_of_a_mobileclip_average_to_its_vector() -> None:
    """Its projection is the trunk's classifier: of the published towers the smallest, random weights."""
    about = open_clip.get_model_config("MobileCLIP2-S0")["vision_cfg"]
    tower = open_clip.timm_model.TimmModel(
        about["timm_model_name"], 512, 256, pool=about["timm_pool"], proj=about["timm_proj"]
    ).eval()
    assert clip_dense._is_pooled_map(tower)
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        places = clip_dense._of_map(tower, pixels)
        expected = tower(pixels)[0]
    assert places.shape == (8, 8, 512)
    torch.testing.assert_close(places.mean((0, 1)), expected, atol=1e-5, rtol=1e-4)


def test_a_tower_with_a_head_that_is_not_linear_gives_no_map() -> None:
    towers = {
        "mlp": open_clip.timm_model.TimmModel("regnetx_002", 32, 64, pool="avg", proj="mlp"),
        "channels last": open_clip.timm_model.TimmModel("swin_tiny_patch4_window7_224", 32, proj="linear"),
    }
    assert [name for name, tower in towers.items() if clip_dense._is_pooled_map(tower)] == []


@pytest.mark.parametrize("size", [(600, 600), (200, 1600), (1600, 200), (37, 50), (1, 1), (2, 900)])
def test_windows_are_where_the_map_says_and_cover_the_image(size: tuple[int, int]) -> None:
    height, width = size
    # Each pixel says where it is, so the corners of a window say what it shows.
    image = np.stack([*np.mgrid[:height, :width]], 2).astype(np.int32)

    class Tower(torch.nn.Module):
        def encode_image(self, batch: Tensor, normalize: bool) -> Tensor:
            return batch

    def corners(window: npt.NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(np.concatenate([window[0, 0], window[-1, -1] + 1]))

    places = clip_dense._of_windows(Tower(), corners, image).numpy()  # type: ignore[arg-type]
    rows, columns = places.shape[:2]
    assert max(rows, columns) == clip_dense.WINDOWS_PER_SIDE
    seen = np.zeros(size, bool)
    for i, j in np.ndindex(rows, columns):
        top, left, bottom, right = places[i, j]
        seen[top:bottom, left:right] = True
        centre = ((i + 0.5) * height / rows, (j + 0.5) * width / columns)
        for first, last, length, middle in zip((top, left), (bottom, right), size, centre, strict=True):
            assert first <= middle <= last
            if first > 0 and last < length:  # where the border is no nearer than half a window
                assert abs((first + last) / 2 - middle) <= 1
    assert seen.all()


def test_other_towers_are_asked_window_by_window() -> None:
    class Mean(torch.nn.Module):
        visual = torch.nn.Identity()

        def encode_image(self, batch: Tensor, normalize: bool) -> Tensor:
            return batch.mean((2, 3))

    picture = np.zeros((60, 120, 3), np.uint8)
    picture[:, :60, 0] = 200
    picture[:, 60:, 1] = 200

    def prepare(window: Pixels, size: tuple[int, int] | None = None) -> Tensor:
        return torch.from_numpy(window.copy()).permute(2, 0, 1).float()

    places = clip_dense.dense_features(Mean(), prepare, picture, (18, 18))
    assert places.shape == (3, 6, 3)
    torch.testing.assert_close(places[:, 0], torch.tensor([[1.0, 0, 0]]).expand(3, 3))
    torch.testing.assert_close(places[:, -1], torch.tensor([[0, 1.0, 0]]).expand(3, 3))


def test_only_the_thread_that_loads_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    def other() -> None:
        logging.getLogger().error("of a request")

    with quiet_root_logger():
        logging.error("open_clip's: no weights")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    logging.error("afterwards")
    assert [record.getMessage() for record in caplog.records] == ["of a request", "afterwards"]
