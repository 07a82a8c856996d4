"""``export-onnx``: a loaded segmenter as ONNX files, compared with torch before they get their names."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from composer import __version__
from composer.composer import Composer
from composer.formats.atomic import ensure_folder, scratch_folder, write_text, writing
from sam.errors import SamComposerError
from sam.export import OPSET, describe, export_decoder, export_encoder
from sam.model import SegmentAnything
from sam.onnx_files import TOLERANCE, compare_decoder, compare_encoder, quantize

Part = Literal["encoder", "decoder"]
PARTS: tuple[Part, ...] = ("encoder", "decoder")
DATA_SUFFIX = ".data"
"""What onnx appends to the name of a file whose weights are in a second one."""


@dataclass(frozen=True)
class Exported:
    """One file that was written.

    Attributes:
        part: ``encoder`` or ``decoder``.
        path: of the ``.onnx`` file.
        size: bytes, those of the ``.data`` file beside it included.
        difference: from torch, see :data:`sam.onnx_files.TOLERANCE`; None: not compared.
    """

    part: Part
    path: Path
    size: int
    difference: float | None


def export_onnx(
    composer: Composer,
    out: Path,
    *,
    parts: Sequence[Part] = PARTS,
    opset: int = OPSET,
    int8: bool = False,
    check: bool = True,
) -> list[Exported]:
    """Write the encoder, the decoder or both, and a JSON file that says how to use them.

    Args:
        composer: on the CPU.
        out: ``NAME.onnx``: the file for one part; ``NAME.encoder.onnx`` and ``NAME.decoder.onnx`` for both. A
            name without ``.onnx`` gets the part's name in any case; in a folder, NAME is the preset's. The
            JSON file is ``NAME.json``; of one part, it is named as that part's file.
        parts: what to export.
        opset: version of ONNX's operators.
        int8: 8-bit weights of matrix products (:func:`sam.onnx_files.quantize`).
        check: compare with torch; with ``int8`` the difference is told and nothing more.

    Raises:
        UsageError: an opset that is not known.
        EnvironmentProblem: a package of the extra ``onnx`` is missing, or the files cannot be written.
        SamComposerError: ``onnx_differs``: a file answers otherwise than torch; it was not written.
    """
    paths, sidecar = _names(out, composer.preset.name, parts)
    ensure_folder(sidecar.parent)
    about = _about(composer, paths, opset, int8)
    written = [_export(composer.model, part, path, about, opset, int8, check) for part, path in paths.items()]
    write_text(sidecar, json.dumps(about, indent=1) + "\n")
    return written


def _names(out: Path, preset: str, parts: Sequence[Part]) -> tuple[dict[Part, Path], Path]:
    """The file of each part, and the JSON file."""
    if out.is_dir():
        stem, exact = out / preset, False
    else:
        exact = out.suffix.lower() == ".onnx" and len(parts) == 1
        stem = out.with_suffix("") if out.suffix.lower() == ".onnx" else out
    paths = {part: out if exact else stem.with_name(f"{stem.name}.{part}.onnx") for part in parts}
    # Of one part alone it bears that file's name: another one exported later has its own.
    sidecar = stem.with_name(f"{stem.name}.json") if len(parts) > 1 else paths[parts[0]].with_suffix(".json")
    return paths, sidecar


def _about(composer: Composer, paths: dict[Part, Path], opset: int, int8: bool) -> dict[str, Any]:
    defaults = composer.preset.defaults
    return {
        "preset": composer.preset.name,
        **describe(composer.model),
        "thresholds": {
            "pred_iou_thresh": defaults.pred_iou_thresh,
            "stability_score_thresh": defaults.stability_score_thresh,
            "box_margin": None if math.isinf(defaults.box_margin) else defaults.box_margin,
        },
        "files": {part: path.name for part, path in paths.items()},
        "opset": opset,
        "quantized": "int8" if int8 else None,
        "made_with": {"sam-composer": __version__, "torch": torch.__version__},
    }


def _export(
    model: SegmentAnything, part: Part, path: Path, about: dict[str, Any], opset: int, int8: bool, check: bool
) -> Exported:
    with scratch_folder(path.parent) as folder, writing(path):
        made = folder / path.name
        if part == "encoder":
            export_encoder(model, made, opset=opset, metadata=about)
        else:
            export_decoder(model, made, opset=opset, metadata=about)
        if int8:
            whole = folder / "float" / path.name
            whole.parent.mkdir()
            _move(made, whole)
            quantize(whole, made)
        compare = compare_encoder if part == "encoder" else compare_decoder
        difference = compare(model, made) if check else None
        if difference is not None and difference > TOLERANCE and not int8:
            raise SamComposerError(
                f"{path.name}: differs from torch by {difference:.1e} of its largest value, expected at most "
                f"{TOLERANCE:.0e}; it was not written. Please report that; --no-check writes it all the same",
                code="onnx_differs",
            )
        size = sum(file.stat().st_size for file in _files(made))
        _move(made, path)
    return Exported(part, path, size, difference)


def _files(path: Path) -> list[Path]:
    """The file with the weights first: once the graph is there, all of it is."""
    data = path.with_name(path.name + DATA_SUFFIX)
    return [file for file in (data, path) if file.exists()]


def _move(source: Path, target: Path) -> None:
    for file in _files(source):
        os.replace(file, target.with_name(target.name + file.name[len(source.name) :]))
