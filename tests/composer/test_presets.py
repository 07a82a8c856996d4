"""Presets: the packaged ones are whole, and a bad one says where it is bad."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from composer.composer import Composer
from composer.presets import load_model_config, load_preset, preset_names
from composer.weights import expected_path, locate
from sam.checkpoints import file_digest
from sam.errors import CheckpointError, UsageError


def test_the_packaged_presets() -> None:
    assert preset_names() == ["tiny", "mobile", "tiny-v1", "vit_b", "vit_h", "vit_l"]


@pytest.mark.parametrize("name", preset_names())
def test_each_is_pinned_and_described(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert preset.description
    assert preset.weights.bytes and preset.weights.sha256
    assert preset.weights.embedded == name.startswith("tiny")
    assert (preset.weights.url is None) == preset.weights.embedded


@pytest.mark.parametrize("name", ["mobile", "vit_b", "vit_h", "vit_l"])
def test_published_weights_keep_the_published_thresholds(name: str) -> None:
    defaults = load_preset(name).defaults
    assert (defaults.pred_iou_thresh, defaults.stability_score_thresh) == (0.88, 0.95)


def test_the_embedded_weights_are_the_pinned_ones() -> None:
    embedded = [one for name in preset_names() for one in load_preset(name).files() if one.embedded]
    assert "tiny" in {preset.label for preset in embedded}
    for preset in embedded:
        path = expected_path(preset)
        assert path.stat().st_size == preset.weights.bytes
        assert file_digest(path) == preset.weights.sha256


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'vit_b'\? known: tiny, mobile, tiny-v1,") as caught:
        load_preset("vitb")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": "tiny"}, "modle: unknown key"),
        ({"model": None}, "model: expected the name of a model"),
        ({"model": "vit_x"}, "unknown model 'vit_x'"),
        ({"model": {"encoder": {"family": "resnet"}}}, "family 'resnet'"),
        ({"model": {"encoder": {"family": "compact", "width": 3}}}, "unknown key 'width'"),
        ({"model": {"encoder": {"family": "compact", "image_size": 100}}}, "multiple of 32"),
        ({"weights": None}, "weights: expected a mapping"),
        ({"weights": {"file": "x", "sha": "y"}}, "sha: unknown key"),
        ({"weights": {"file": "x", "sha256": "abc"}}, "64 hexadecimal digits"),
        ({"weights": {"file": "x", "bytes": -1}}, "number of bytes"),
        ({"weights": {"file": "x", "source": "moon"}}, "'embedded'"),
        ({"everything": {"pred_iou": 0.5}}, "pred_iou: unknown key"),
        ({"everything": {"pred_iou_thresh": "high"}}, "expected a number"),
        ({"everything": 3}, "expected a mapping"),
        ({"boxes": {"margin": "wide"}}, "margin: expected a number, not 'wide'"),
        ({"boxes": {"margin": -0.1}}, "margin: expected a number from 0, not -0.1"),
        ({"edges": 3}, "expected a mapping with `source` and `sizes`"),
        ({"edges": {"from": "head"}}, "from: unknown key"),
        ({"edges": {"sizes": 384}}, "edges.sizes: expected up to 8 sides of 64 to 4096 pixels, not 384"),
        ({"edges": {"sizes": [384, "768"]}}, "edges.sizes: expected up to 8 sides"),
        ({"edges": {"sizes": [32]}}, "edges.sizes: expected up to 8 sides"),
        ({"edges": {"source": "sobel"}}, "expected one of masks, head, both, not 'sobel'"),
        ({"text": {"route": "magic"}}, "text.route: expected one of auto, token, rank.*not 'magic'"),
        ({"detect": {"conf": -0.1}}, "detect.conf: expected a number from 0 to 1, not -0.1"),
        ({"detect": {"conf": True}}, "detect.conf: expected a number, not True"),
        ({"text": {"threshold": 1.5}}, "text.threshold: expected a number from 0 to 1, not 1.5"),
        ({"text": {"threshold": "high"}}, "text.threshold: expected a number, not 'high'"),
        ({"text": {"treshold": 0.5}}, "treshold: unknown key"),
        ({"clip": {"sha256": "x"}}, "clip: expected a mapping with at least `file`"),
        ({"clip": {"file": "x", "url": "http://x"}}, "clip.url: a text-image model is a folder"),
        ({"detector": {"file": "x", "source": "moon"}}, "detector.source: expected 'embedded'"),
        ({"detector": "huge"}, "detector: expected a mapping with `file`, or a shipped preset, not 'huge'"),
        ({"clip": "vit_b"}, "clip: preset 'vit_b' has none"),
    ],
)
def test_a_bad_file_says_where(tmp_path: Path, change: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"description": "d", "model": "tiny", "weights": {"file": "w.safetensors"}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values | change))
    with pytest.raises(UsageError, match=message):
        load_preset(path)


def test_text_settings(tmp_path: Path) -> None:
    values = {"model": "tiny", "weights": {"file": "w"}, "text": {"threshold": 0.25, "route": "rank"}}
    values["detect"] = {"conf": 0.1}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values | {"clip": {"file": "clip/open_clip_model.safetensors"}}))
    preset = load_preset(path)
    assert (preset.defaults.text_threshold, preset.defaults.text_route) == (0.25, "rank")
    assert preset.defaults.detector_conf == 0.1
    assert preset.clip is not None and preset.clip.file == "clip/open_clip_model.safetensors"
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if k != "text"}))
    assert load_preset(path).defaults.text_threshold is None and load_preset(path).clip is None


def test_a_model_beside_the_preset(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text(
        "encoder: {family: compact, out_chans: 64}\ndecoder: {embed_dim: 64}\n"
    )
    config = load_model_config("wide.yaml", tmp_path)
    assert config.name == "wide"
    assert config.decoder.embed_dim == 64


def test_companions_have_sources_of_their_own(tmp_path: Path) -> None:
    values = {"model": "tiny", "weights": {"file": "w.safetensors"}}
    clip = {"source": "embedded", "file": "tiny-clip/open_clip_model.safetensors"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values | {"clip": clip, "detector": {"file": "d.safetensors"}}))
    parts = {one.part: one for one in load_preset(path).files()}
    sources = {part: one.embedded for part, one in parts.items()}
    assert sources == {"weights": False, "clip": True, "detector": False}
    assert expected_path(parts["clip"]).parts[-4:] == ("sam", "weights", *clip["file"].split("/"))
    assert expected_path(parts["detector"]) == tmp_path / "d.safetensors"


def test_companions_of_a_shipped_preset_by_its_name(tmp_path: Path) -> None:
    path, tiny = tmp_path / "mine.yaml", load_preset("tiny")
    path.write_text("model: tiny\nweights: {file: w.safetensors}\nclip: tiny\ndetector: tiny\n")
    mine = load_preset(path)
    assert (mine.clip, mine.detector) == (tiny.clip, tiny.detector) and tiny.clip and tiny.detector
    own, shipped = ({one.part: expected_path(one) for one in preset.files()} for preset in (mine, tiny))
    assert {part for part in own if own[part] == shipped[part]} == {"clip", "detector"}


def test_an_earlier_tiny_answers_by_its_own_name_and_no_other(tmp_path: Path) -> None:
    """Old weights: by the name that they have now; as `tiny`'s they are another model's, and it says so."""
    earlier = load_preset("tiny-v1")
    assert earlier.weights.sha256.startswith("f2ab0a3b")
    assert Composer.load("tiny-v1", device="cpu").model.digest == earlier.weights.sha256
    kept = tmp_path / "mine.safetensors"
    kept.write_bytes(locate(earlier).read_bytes())
    with pytest.raises(CheckpointError, match="the weights of preset 'tiny-v1', not of 'tiny'") as caught:
        Composer.load("tiny", checkpoint=kept, device="cpu")
    assert caught.value.exit_code == 5
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"mine\.safetensors") as caught:
        Composer.load("tiny", checkpoint=kept, device="cpu")
    assert "preset" not in str(caught.value), "damaged, they are nobody's"
