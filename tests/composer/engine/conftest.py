"""Engines with a small model, stopped in the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from composer import Composer
from composer.engine.encoding import encode_batch
from composer.engine.engine import Engine
from composer.limits import DEFAULT_LIMITS
from tests.composer.engine.kit import MakeEngine


@pytest.fixture
def make_engine(small_preset: Path) -> Iterator[MakeEngine]:
    """Makes a started engine with limits of its own; all are stopped in the end."""
    made: list[Engine] = []

    def make(encode: object = encode_batch, **limits: object) -> Engine:
        chosen = replace(DEFAULT_LIMITS, **limits)  # type: ignore[arg-type]
        composer = Composer.load(small_preset, device="cpu", precision="fp32", limits=chosen)
        made.append(Engine(composer, encode_many=encode).start())  # type: ignore[arg-type]
        return made[-1]

    yield make
    for engine in made:
        engine.drain(0)
