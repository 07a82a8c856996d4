"""The decoder for the browser: exported once for each set of weights, then taken from the cache folder."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from composer.engine.engine import Engine
from composer.engine.jobs import Job
from composer.engine.waiting import answer_of
from composer.formats.atomic import write_bytes
from composer.images import open_image
from composer.weights import cache_folder
from sam.click_export import GRAPHS, export_click_graphs
from sam.errors import EnvironmentProblem, UsageError

VERSION = 4
"""Of the graphs' interface and layout: part of the files' names."""


class DecoderFiles:
    """Makes the files in the background, and waits for them when they are asked for.

    Args:
        engine: whose model is exported.
        folder: where files are kept; by default ``browser`` in the cache folder.
    """

    def __init__(self, engine: Engine, folder: Path | None = None) -> None:
        self._engine = engine
        self._model = engine.composer.model
        self._folder = folder or cache_folder() / "browser"
        self._lock = threading.Lock()
        self._made: dict[str, bytes] = {}

    @property
    def digest(self) -> str:
        """Of everything that decides the files: weights, interface, exporter."""
        weights = self._model.digest or f"random-{id(self._model)}"
        text = f"{weights} {VERSION} {torch.__version__}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def prepare(self) -> threading.Thread:
        """Begin to make the files, if they are not there, without waiting for them."""
        thread = threading.Thread(target=self._quietly(self.files), name="decoder export", daemon=True)
        thread.start()
        return thread

    def file(self, name: str) -> bytes:
        """One of :data:`sam.click_export.GRAPHS` as an ONNX file.

        Raises:
            UsageError: no such graph.
            EnvironmentProblem: it cannot be exported here.
            Unavailable: too many are waiting for the device.
        """
        if name not in GRAPHS:
            raise UsageError(f"no graph {name!r}; there are: {', '.join(GRAPHS)}", field="name")
        return self.files()[name]

    def files(self) -> dict[str, bytes]:
        """All of them, by name. Raises EnvironmentProblem, Unavailable."""
        with self._lock:
            if not self._made:
                self._made = self._kept() or self._export()
            return self._made

    def _paths(self) -> dict[str, Path]:
        return {name: self._folder / f"{self.digest}.{name}.onnx" for name in GRAPHS}

    def _kept(self) -> dict[str, bytes] | None:
        try:
            return {name: path.read_bytes() for name, path in self._paths().items()}
        except OSError:
            return None

    def _export(self) -> dict[str, bytes]:
        model = self._model
        if model.device.type != "cpu":
            raise EnvironmentProblem(
                f"the annotator exports its decoder from a model on the CPU, this one is on {model.device}: "
                "start it with --device cpu once",
                code="device",
            )
        blank = open_image(np.zeros((8, 8, 3), np.uint8))
        embedding = answer_of(self._engine, Job(lambda: blank)).embedding
        made = export_click_graphs(model, embedding)
        if model.digest:  # of random weights nothing is kept: the next ones are others
            for name, path in self._paths().items():
                write_bytes(path, made[name])
        return made

    def _quietly(self, action: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            with suppress(Exception):  # whoever asks for a file gets the same error, and can tell the user
                action()

        return run
