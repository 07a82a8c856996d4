"""ONNX files with names, a description beside them, and the encoder kept for ``runtime="onnx"``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from composer import Composer, Edges, Points, onnx_encoders, onnx_export
from composer.onnx_export import export_onnx
from sam import precision
from sam.errors import EnvironmentProblem, SamComposerError, UsageError
from sam.model import SegmentAnything
from sam.onnx_files import OnnxEncoder

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def tiny() -> Composer:
    return Composer.load("tiny", device="cpu", precision="fp32")


@pytest.fixture
def traced(onnx_of_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Exports of `tiny` are copies of what was exported once; where to, in the order of the calls."""
    calls: list[Path] = []

    def copy(part: str) -> Any:
        def export(
            model: SegmentAnything, path: Path, *, opset: int = 18, metadata: Mapping[str, Any] | None = None
        ) -> None:
            calls.append(path)
            shutil.copy(onnx_of_tiny / f"tiny.{part}.onnx", path)

        return export

    for module in (onnx_export, onnx_encoders):
        for part in ("encoder", "decoder"):
            monkeypatch.setattr(module, f"export_{part}", copy(part), raising=False)
    return calls


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAM_COMPOSER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_both_parts_and_their_description(onnx_of_tiny: Path, tiny: Composer) -> None:
    assert names(onnx_of_tiny) == {"tiny.encoder.onnx", "tiny.decoder.onnx", "tiny.json"}
    about = json.loads((onnx_of_tiny / "tiny.json").read_text())
    assert about["files"] == {"encoder": "tiny.encoder.onnx", "decoder": "tiny.decoder.onnx"}
    assert about["weights_sha256"] == tiny.preset.weights.sha256
    assert about["thresholds"]["pred_iou_thresh"] == tiny.preset.defaults.pred_iou_thresh
    assert (about["preset"], about["opset"], about["quantized"]) == ("tiny", 18, None)


@pytest.mark.parametrize(
    ("out", "parts", "expected"),
    [
        ("a.onnx", ("encoder", "decoder"), {"a.encoder.onnx", "a.decoder.onnx", "a.json"}),
        ("a.b", ("encoder", "decoder"), {"a.b.encoder.onnx", "a.b.decoder.onnx", "a.b.json"}),
        ("a.onnx", ("decoder",), {"a.onnx", "a.json"}),
        ("a", ("decoder",), {"a.decoder.onnx", "a.decoder.json"}),
        (".", ("decoder",), {"tiny.decoder.onnx", "tiny.decoder.json"}),
    ],
)
def test_names(
    tiny: Composer, traced: list[Path], tmp_path: Path, out: str, parts: Any, expected: set[str]
) -> None:
    export_onnx(tiny, tmp_path / out, parts=parts, check=False)
    assert names(tmp_path) == expected


def test_a_file_that_answers_otherwise_is_not_kept(
    tiny: Composer, traced: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "TOLERANCE", 0.0)
    (tmp_path / "a.onnx").write_bytes(b"from before")
    with pytest.raises(SamComposerError, match=r"a\.onnx: differs from torch by .*--no-check"):
        export_onnx(tiny, tmp_path / "a.onnx", parts=("decoder",))
    assert names(tmp_path) == {"a.onnx"} and (tmp_path / "a.onnx").read_bytes() == b"from before"
    (file,) = export_onnx(tiny, tmp_path / "a.onnx", parts=("decoder",), check=False)
    assert file.difference is None and file.size == (tmp_path / "a.onnx").stat().st_size > 1_000_000


def test_eight_bits_are_said_and_not_refused(tiny: Composer, traced: list[Path], tmp_path: Path) -> None:
    (file,) = export_onnx(tiny, tmp_path / "a.onnx", parts=("decoder",), int8=True)
    assert file.difference is not None and file.difference > 1e-4
    assert json.loads((tmp_path / "a.json").read_text())["quantized"] == "int8"
    assert names(tmp_path) == {"a.onnx", "a.json"}


def test_where_nothing_can_be_written(tiny: Composer, traced: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentProblem, match="file: cannot be written"):
        export_onnx(tiny, tmp_path / "file" / "a.onnx", check=False)


def test_the_onnx_runtime_gives_the_same_masks(
    tiny: Composer, traced: list[Path], cache: Path, photo: Pixels
) -> None:
    fast = Composer.load("tiny", precision="fp32", runtime="onnx")
    assert isinstance(fast.model.image_encoder, OnnxEncoder)
    assert (fast.describe()["encoder_runtime"], fast.device.type) == ("onnx", "cpu")
    assert "encoder_runtime" not in tiny.describe()
    request = Points([[[40, 45]], [[105, 45]]])
    ours, theirs = (composer.open(photo).run(request) for composer in (fast, tiny))
    both, either = (ours.masks & theirs.masks).sum(), (ours.masks | theirs.masks).sum()
    assert both / either > 0.999
    np.testing.assert_allclose(ours.predicted_iou, theirs.predicted_iou, atol=1e-4)
    # The graph takes one size alone, and the edge head looks at another one too.
    assert fast.preset.defaults.edge_sizes == (384, 768)
    edges = [composer.open(photo).run(Edges()).values for composer in (fast, tiny)]
    np.testing.assert_allclose(*edges, atol=1e-3)


def test_the_encoder_is_exported_once(traced: list[Path], cache: Path, tiny: Composer) -> None:
    for _ in range(2):
        Composer.load("tiny", runtime="onnx")
    assert len(traced) == 1
    (kept,) = (cache / "onnx").iterdir()
    assert kept.name == f"{tiny.model.digest}-{onnx_encoders.GRAPH}" and names(kept) == {"encoder.onnx"}


def test_its_precision_is_named_on_a_cpu_with_bf16_units(
    traced: list[Path], cache: Path, tiny: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_bf16_units", lambda: ("amx_bf16",))
    assert precision.choose_precision(torch.device("cpu")).name == "bf16"
    assert Composer.load("tiny", runtime="onnx").describe()["precision"] == "fp32"


def test_a_damaged_encoder_is_made_anew(traced: list[Path], cache: Path, tiny: Composer) -> None:
    folder = cache / "onnx" / f"{tiny.model.digest}-{onnx_encoders.GRAPH}"
    folder.mkdir(parents=True)
    (folder / "encoder.onnx").write_bytes(b"half a file")
    Composer.load("tiny", runtime="onnx")
    Composer.load("tiny", runtime="onnx")
    assert len(traced) == 1 and names(cache / "onnx") == {folder.name}


def test_runtimes_that_cannot_be(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unknown runtime 'fast': known: torch, onnx"):
        Composer.load("tiny", runtime="fast")
    monkeypatch.setattr("sam.export.importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"onnxruntime: pip install 'sam-composer\[onnx\]'"):
        Composer.load("tiny", runtime="onnx")
