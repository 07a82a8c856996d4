"""The limits in code and in YAML agree, and a wrong one is refused by name."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from composer.configs import configs_folder
from composer.limits import DEFAULT_LIMITS, PILLOW_CEILING, Limits, shipped_limits
from sam.errors import UsageError


def test_the_shipped_file_says_what_the_code_says() -> None:
    assert shipped_limits() == DEFAULT_LIMITS
    text = (configs_folder() / "limits.yaml").read_text()
    assert set(yaml.safe_load(text)) == {f.name for f in fields(Limits)}


def test_every_key_of_the_shipped_file_has_a_comment_above_it() -> None:
    blocks = (configs_folder() / "limits.yaml").read_text().strip().split("\n\n")
    for block in blocks[1:]:
        *comment, key = block.splitlines()
        assert comment and all(line.startswith("# ") for line in comment), block
        assert key.partition(":")[0] in {f.name for f in fields(Limits)}


def test_defaults_of_the_contract() -> None:
    limits = Limits()
    assert (limits.max_body_bytes, limits.max_pixels, limits.max_aspect_ratio) == (
        32 * 2**20,
        25_000_000,
        100,
    )
    assert (limits.mask_memory_bytes, limits.queue_size) == (2**30, 16)
    assert (limits.deadline_seconds, limits.drain_seconds, limits.host) == (60, 30, "127.0.0.1")


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        DEFAULT_LIMITS.max_pixels = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "value"), [("64 MiB", 64 << 20), ("3GiB", 3 << 30), ("5 KiB", 5120), ("123", 123), ('"77"', 77)]
)
def test_sizes_as_texts(tmp_path: Path, text: str, value: int) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text(f"max_body_bytes: {text}\n")
    limits = Limits.from_file(path)
    assert limits.max_body_bytes == value
    assert limits.max_pixels == DEFAULT_LIMITS.max_pixels


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_pixel: 5", "max_pixel: unknown key; did you mean 'max_pixels'"),
        ("max_pixels: -5", "max_pixels: must be more than zero, not -5"),
        ("max_pixels: 0", "more than zero"),
        ("max_pixels: true", "a whole number, not True"),
        ("max_pixels: 1.5", "a whole number, not 1.5"),
        ("max_pixels: 25 MiB", "a whole number, not '25 MiB'"),
        (f"max_pixels: {PILLOW_CEILING + 1}", "at most 178,956,970"),
        ("max_body_bytes: 32 MB", "or a text such as 32 MiB, not '32 MB'"),
        ("deadline_seconds: .nan", "a number, not nan"),
        ("deadline_seconds: .inf", "a number, not inf"),
        ("deadline_seconds: soon", "a number, not 'soon'"),
        ("drain_seconds: -1", "zero or more"),
        ("max_aspect_ratio: 0.5", "at least 1"),
        ("host: ''", "non-empty text"),
        ("host: 5", "non-empty text"),
        ("queue_size:", "a whole number, not None"),
    ],
)
def test_mistakes_name_file_line_and_key(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text(f"# mine\n\n{line}\n")
    with pytest.raises(UsageError) as caught:
        Limits.from_file(path)
    assert str(caught.value).startswith(f"{path}:3: {line.partition(':')[0]}: ")
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["embedding_cache_bytes", "queue_size", "drain_seconds"])
def test_zero_where_it_means_none(name: str) -> None:
    options: dict[str, Any] = {name: 0}
    assert getattr(Limits(**options), name) == 0
