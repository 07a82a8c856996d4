"""`doctor`: what is well, what is broken, and that one broken thing hides no other."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from apps import health
from sam.errors import CheckpointError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAM_COMPOSER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def findings(cli):
    """The JSON report: exit code and finding by subject."""

    def examine() -> tuple[int, dict[str, dict]]:
        ended = cli("doctor", "--json")
        report = json.loads(ended.out)
        assert report["ok"] == (ended.code == 0)
        return ended.code, {finding["subject"]: finding for finding in report["findings"]}

    return examine


def test_all_is_well(cli, findings) -> None:
    code, found = findings()
    assert code == 0, [f for f in found.values() if f["state"] == "broken"]
    assert found["torch"]["detail"] == metadata.version("torch")
    assert found["weights tiny"]["detail"].endswith("SHA-256 right")
    assert found["weights vit_b"]["state"] == "note"
    assert found["weights vit_b"]["detail"] == "not downloaded (`sam-composer models pull vit_b`)"
    assert {"package composer", "adapters", "cpu", "cuda", "device", "precision", "cache folder"} <= set(
        found
    )
    assert "points" in found["adapters"]["detail"] and "everything" in found["adapters"]["detail"]
    ended = cli("doctor")
    assert ended.code == 0 and ended.out.endswith("all is well\n")


def test_precision_is_told_with_its_reason(findings) -> None:
    from sam.precision import choose_precision

    chosen = choose_precision(torch.device("cpu"), "auto")
    if torch.cuda.is_available():
        pytest.skip("auto chooses the GPU here")
    assert findings()[1]["precision"]["detail"] == f"{chosen.name} (auto): {chosen.reason}"


def test_damaged_weights_are_broken_and_the_rest_is_still_examined(findings, cache: Path) -> None:
    cache.mkdir()
    (cache / "sam_vit_b_01ec64.pth").write_bytes(b"short")
    code, found = findings()
    assert code == CheckpointError.exit_code + 1 == 6
    assert found["weights vit_b"]["state"] == "broken" and "5 bytes" in found["weights vit_b"]["detail"]
    assert found["weights tiny"]["state"] == "ok" and found["cache folder"]["state"] != "broken"


def test_an_examination_that_fails_is_a_finding(findings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> list[health.Finding]:
        raise RuntimeError("driver gone")

    monkeypatch.setattr(health, "EXAMINATIONS", {"machine": fails, "space": health.space})
    code, found = findings()
    assert code == 6
    assert found["machine"] == {
        "subject": "machine",
        "state": "broken",
        "detail": "RuntimeError: driver gone",
    }
    assert "cache folder" in found


def test_another_distribution_with_a_package_of_our_name() -> None:
    found = health.names({"composer": ["sam_composer", "composer"], "adapters": ["Sam.Composer"], "sam": []})
    states = {finding.subject: finding for finding in found}
    assert states["package composer"].state == "broken"
    assert states["package composer"].detail.startswith("composer installs a package of this name too")
    assert states["package adapters"].state == states["package sam"].state == "ok"


def test_a_package_that_is_imported_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters/__init__.py").touch()
    root = Path(health.__file__).parents[1]
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]\n" + (
        "from apps.health import names\nfor f in names({}): print(f.subject, f.state, f.detail, sep='|')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = dict(line.split("|", 1) for line in ended.stdout.splitlines())
    assert lines["package adapters"].startswith("broken|") and str(tmp_path) in lines["package adapters"]
    assert lines["package sam"].startswith("ok|")


def test_a_cache_folder_that_cannot_be_written(findings, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAM_COMPOSER_CACHE", str(tmp_path / "file/below"))
    code, found = findings()
    assert code == 6 and "SAM_COMPOSER_CACHE" in found["cache folder"]["detail"]
