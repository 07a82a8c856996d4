"""Mistakes about words, detectors and pipelines on the command line: one line each, and its exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

TINY = Path(__file__).parents[2] / "sam/weights/tiny.safetensors"
CYCLE = """\
steps:
  - {name: a, select: {candidates: {from: b}}}
  - {name: b, select: {candidates: {from: a}}}
"""
UNKNOWN = """\
steps:
  - {name: a, everything: {}}
  - {name: c, boxes: {boxes: {from: nowhere}}}
"""


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--text", "dog", "--clip", "ViT-B-33", "--pretrained", "openai"], 2, "near: ViT-B-32, "),
        (["--text", "dog", "--clip", "ViT-B-32", "--pretrained", "opnai"], 2, "its tags: openai, laion400m"),
        (["--text", "dog", "--route", "token"], 3, "the token route needs weights trained with a text slot"),
        (["--text", "dog " * 2560], 3, "has 10,239 characters; give at most 1,000"),
        (["--text", "red dog " * 60], 3, "has too many words: tiny-clip reads 32 tokens"),
        (["--text", " "], 3, "a phrase is empty; say what to look for"),
        (
            ["--detect", "--detector", "{here}/words.pt", "--trust-detector"],
            5,
            "words.pt: not a detector that ultralytics can read",
        ),
        (["--detect", "--detector", "{here}/words.pt"], 2, "runs whatever code its author put into it"),
        (["--detect", "--detector", str(TINY)], 5, "not a detector of ours (its metadata lacks"),
        (["--detect", "--class", "person"], 2, "knows no class 'person'; it knows object"),
        (
            ["--pipeline", "{here}/cycle.yaml"],
            2,
            "cycle.yaml:2: step 'a': candidates comes from step 'b', which",
        ),
        (
            ["--pipeline", "{here}/unknown.yaml"],
            2,
            "unknown.yaml:3: step 'c': boxes comes from step 'nowhere'",
        ),
    ],
    ids=lambda value: None if isinstance(value, int) else str(value)[:40],
)
def test_one_line_says_what_is_wrong(
    cli: Any, photos: Path, tmp_path: Path, options: list[str], code: int, reason: str
) -> None:
    for name, text in (("words.pt", "words"), ("cycle.yaml", CYCLE)):
        (tmp_path / name).write_text(text)
    (tmp_path / "unknown.yaml").write_text(UNKNOWN)
    photo = next(path for path in sorted(photos.iterdir()) if path.suffix == ".jpg")
    asked = [option.replace("{here}", str(tmp_path)) for option in options]
    ended = cli("segment", str(photo), *asked, "--out", str(tmp_path / "out"))
    assert ended.code == code
    assert ended.error.startswith("error: ") and reason in ended.error
    assert not list((tmp_path / "out").glob("*.json"))
