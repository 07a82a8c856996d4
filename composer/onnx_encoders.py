"""Encoders for ``Composer.load(runtime="onnx")``: exported once for each set of weights, then kept."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from composer.formats.atomic import scratch_folder, writing
from composer.weights import cache_folder
from sam.errors import EnvironmentProblem
from sam.export import export_encoder, require_onnx
from sam.model import SegmentAnything
from sam.onnx_files import OnnxEncoder, OnnxSession

GRAPH = "1"
"""Version of the graph: to be raised when an encoder's weights give another one."""
FILE = "encoder.onnx"


def onnx_encoder(model: SegmentAnything) -> OnnxEncoder:
    """The encoder of ``model`` in onnxruntime.

    The first time it is exported, which takes ten seconds to a minute, into a folder of the cache that
    bears the weights' digest. A file there that cannot be loaded, or is of other weights, is made anew.

    Args:
        model: on the CPU, its weights loaded.

    Raises:
        EnvironmentProblem: a package of the extra ``onnx`` is missing, or the cache cannot be written.
    """
    assert model.digest, "random weights have no digest to be found by"
    require_onnx("onnxruntime")
    folder = cache_folder() / "onnx" / f"{model.digest}-{GRAPH}"
    with suppress(EnvironmentProblem):
        session = OnnxSession(folder / FILE)
        if session.metadata.get("weights_sha256") == model.digest:
            return OnnxEncoder(session)
    _export(model, folder)
    return OnnxEncoder(OnnxSession(folder / FILE))


def _export(model: SegmentAnything, folder: Path) -> None:
    with scratch_folder(folder.parent) as scratch, writing(folder):
        made = scratch / "made"
        made.mkdir()
        export_encoder(model, made / FILE)
        if folder.exists():
            os.replace(folder, scratch / "old")
        # Another process may have put the same there meanwhile, which is as good.
        with suppress(OSError):
            os.replace(made, folder)
