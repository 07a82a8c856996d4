"""The scripts' own modules, which are no package: found beside them, as the scripts find them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def benchmark() -> Callable[[str], ModuleType]:
    """A module of ``benchmarks/`` by its name."""

    def load(name: str) -> ModuleType:
        if str(FOLDER) not in sys.path:
            sys.path.append(str(FOLDER))
        return importlib.import_module(name)

    return load
