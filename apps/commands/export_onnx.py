"""``sam-composer export-onnx``: the encoder and the decoder as files for onnxruntime."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps import model_options
from apps.console import flowing, say

if TYPE_CHECKING:
    from composer.onnx_export import Exported, Part

HELP = """Write the image encoder and the mask decoder as ONNX files, to run without PyTorch or in a browser.

NAME.onnx as --out gives NAME.encoder.onnx and NAME.decoder.onnx, and NAME.json with what a program must know
to use them: the input's size, mean and standard deviation, names of inputs and outputs, thresholds, and the
digest of the weights. The same is in each file's metadata. A folder as --out names them by the preset. Files
that are there are replaced.

Each file is run by onnxruntime and compared with PyTorch before it gets its name.
"""
EPILOG = """
[bold]Examples[/bold]

sam-composer export-onnx --out tiny.onnx

sam-composer export-onnx --preset vit_b --part decoder --out vit_b-decoder.onnx

sam-composer export-onnx --quantize int8 --out small/

The packages are an extra: pip install 'sam-composer\\[onnx]'. Inputs and outputs: docs/export.md.
"""


class PartChoice(str, Enum):
    """What to export."""

    both = "both"
    encoder = "encoder"
    decoder = "decoder"


class Quantization(str, Enum):
    """Number format of the weights, other than float32."""

    int8 = "int8"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("export-onnx", help=flowing(HELP), epilog=flowing(EPILOG), no_args_is_help=True)(export)


def export(
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="Where to: NAME.onnx, or a folder.")
    ],
    preset: model_options.PresetName = "tiny",
    checkpoint: model_options.Checkpoint = None,
    part: Annotated[PartChoice, typer.Option("--part", help="What to export.")] = PartChoice.both,
    opset: Annotated[
        int, typer.Option("--opset", help="Version of ONNX's operators; newer ones need newer runtimes.")
    ] = 18,
    quantization: Annotated[
        Quantization | None,
        typer.Option("--quantize", help="8-bit weights: smaller files, slightly other masks."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare each file with PyTorch before it is kept.")
    ] = True,
) -> None:
    """The command; see ``HELP``."""
    from composer.composer import Composer
    from composer.formats.atomic import ensure_folder
    from composer.onnx_export import PARTS, export_onnx

    if out.endswith(("/", "\\")):
        ensure_folder(Path(out))
    parts: tuple[Part, ...] = PARTS if part is PartChoice.both else (part.value,)
    composer = Composer.load(preset, checkpoint=checkpoint, device="cpu", precision="fp32")
    for file in export_onnx(
        composer, Path(out), parts=parts, opset=opset, int8=quantization is not None, check=check
    ):
        say(_told(file, quantization is not None))


def _told(file: Exported, int8: bool) -> str:
    line = f"{file.path}  {file.size:,} bytes"
    if file.difference is None:
        return line
    of = f"{file.difference:.1e} of the largest value"
    return f"{line}  {'8-bit: differs' if int8 else 'as PyTorch, to'} {'by up to ' if int8 else ''}{of}"
