"""Published models put together: their architectures with random weights, through the code for theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from adapters.results import EdgeMap, Instances
from adapters.text_routes import sight, vocabulary
from composer import Composer, Detect, Edges, Text
from composer.presets import load_preset
from sam.checkpoints import save_weights
from sam.variants import build_model

CLASSES = ("person", "bus", *(f"thing {i}" for i in range(78)))


@pytest.fixture(params=["mobile", "vit_b"])
def segmenter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A preset of MobileSAM, and one of SAM ViT-B."""
    weights = tmp_path / "segmenter.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(build_model(load_preset(request.param).model), weights)
    path = tmp_path / "stand-in.yaml"
    path.write_text(
        f"description: random weights\nmodel: {request.param}\nweights: {{file: segmenter.safetensors}}\n"
    )
    yield path
    weights.unlink()  # pytest keeps the folders of three runs


@pytest.fixture(scope="module")
def text_image_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A weights file of CLIP ViT-B-32."""
    import open_clip

    weights = tmp_path_factory.mktemp("stand-in") / "clip.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(open_clip.create_model("ViT-B-32"), weights)
    yield weights
    weights.unlink()


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """YOLO11n as a file of ours, sure that there are people: some boxes of the coarsest of its three maps."""
    from ultralytics import YOLO

    from adapters.detector import UltralyticsDetector

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = YOLO("yolo11n.yaml")
    model.model.names = dict(enumerate(CLASSES))
    with torch.no_grad():
        model.model.model[-1].cv3[2][-1].bias[0] = 0.0
    UltralyticsDetector(model, "stand-in").save(tmp_path / "people.safetensors", image_size=320)
    return tmp_path / "people.safetensors"


def test_three_published_architectures_answer_with_one_encoder_pass(
    segmenter: Path,
    text_image_weights: Path,
    detector: Path,
    photo: npt.NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each mask, look and word takes as long as with published weights, so there are few of them.
    for name, few in (("POINTS_PER_SIDE", 2), ("MOST_CANDIDATES", 4), ("MOST_BOXES", 4)):
        monkeypatch.setattr(sight, name, few)
    monkeypatch.setattr(vocabulary, "COMMON", ())
    monkeypatch.setattr(vocabulary, "BACKGROUND", ("sky",))
    composer = Composer.load(segmenter, device="cpu")
    words = Text(
        "person", "a red disc", negatives=["a toy"], synonyms={"person": ["man"]}, threshold=0.0,
        route="auto", clip="ViT-B-32", pretrained=str(text_image_weights), detector=str(detector),
    )  # fmt: skip
    people = Detect(["person"], conf=0.1, detector=str(detector), limit=3)
    named, detected, edges = composer.run(photo, [words, people, Edges(points_per_side=2)])
    assert isinstance(named, Instances) and isinstance(detected, Instances) and isinstance(edges, EdgeMap)
    assert composer.cache.stats.encodes == 1
    assert {*named.labels} <= {"person", "a red disc"} and {"detect", "rank"} >= {*named.routes}
    known = named[[i for i, route in enumerate(named.routes) if route == "detect"]]
    np.testing.assert_allclose(known.text_score, known.detector_score)
    assert (np.diff(named.scores) <= 0).all() and 0 <= named.scores.min() <= named.scores.max() <= 1
    assert {*detected.labels} == {"person"} and detected.image_size == photo.shape[:2]
    assert edges.values.shape == photo.shape[:2] and 0 <= edges.values.min() <= edges.values.max() <= 1
