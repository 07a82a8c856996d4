"""What ``sam-composer segment`` does with its options: checks, the model, the files, the summary."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.base import Request
from apps import run_manifest
from apps.console import say, warn
from apps.segmenting import Run, Tally, named
from composer import Composer, __version__
from composer.folders import find_images
from composer.formats import make_writers
from composer.formats.atomic import ensure_folder, writing
from composer.formats.base import Writer
from composer.formats.names import unique_stems
from composer.limits import shipped_limits
from composer.overlay import OverlayWriter
from composer.pipeline import Pipeline
from composer.presets import load_preset
from composer.requests import request_record
from sam.errors import BadImage, UsageError
from sam.precision import cpu_bf16_units


@dataclass(frozen=True)
class SegmentJob:
    """The options of one call.

    Attributes:
        paths: image files and folders.
        out: folder for the results.
        requests: what to ask of every image.
        pipeline: what to ask instead of requests.
        preset: a name or a YAML file.
        checkpoint: weights in place of the preset's.
        device: see :func:`sam.precision.choose_device`.
        precision: see :func:`sam.precision.choose_precision`.
        compile: whether to compile the encoder.
        formats: names of output formats besides the JSON report.
        overlay: whether to write pictures.
        overwrite: whether results of another run, or of another photo of the same name, may be replaced.
    """

    paths: Sequence[Path]
    out: Path
    requests: Sequence[Request]
    pipeline: Pipeline | None = None
    preset: str = "tiny"
    checkpoint: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    formats: Sequence[str] = ("json",)
    overlay: bool = True
    overwrite: bool = False

    def run(self) -> int:
        """Do it, print the summary and return the exit code.

        What is cheap to check comes first: nobody should wait for a model to hear of a misspelt option.

        Raises:
            SamComposerError: nothing could be done; for a single image also what is wrong with it.
        """
        writers = self._writers()
        preset = load_preset(self.preset)
        images = find_photos(self.paths, self.out)
        _check_writable(self.out)
        started = time.perf_counter()
        limits = replace(shipped_limits(), embedding_cache_bytes=0)  # each image is opened once
        composer = Composer.load(
            preset,
            checkpoint=self.checkpoint,
            device=self.device,
            precision=self.precision,
            limits=limits,
            compile=self.compile,
        )
        if composer.precision.name == "bf16" and composer.device.type == "cpu" and not cpu_bf16_units():
            warn(f"note: precision bf16 was {composer.precision.reason}")
        composer.companions.load_for(self._asked)
        load_seconds = time.perf_counter() - started
        # The manifest goes first, so that an image of its name gets a longer one.
        stems = unique_stems([self.out / run_manifest.NAME, *images])[1:]
        manifest = self._manifest(composer)
        if not self.overwrite:
            run_manifest.check_folder(self.out, manifest, stems)
        tally = Tally(len(images))
        try:
            Run(composer, self.requests, writers, self.out, manifest, self.pipeline, self.overwrite).over(
                images, stems, tally
            )
        finally:
            if tally.done or tally.total > 1:
                say(summary(tally, load_seconds, self.out, composer.cache.stats.encodes))
        if tally.failures and tally.total == 1:
            raise named(images[0], tally.failures[0])
        return tally.exit_code

    def _writers(self) -> list[Writer]:
        others = [name for name in self.formats if name != "json"]
        pictures: list[Writer] = [OverlayWriter()] if self.overlay else []
        return [*pictures, *make_writers([*others, "json"])]  # the report last: where it is, all of it is

    @property
    def _asked(self) -> Sequence[Request]:
        return self.requests if self.pipeline is None else [step.request for step in self.pipeline]

    def _manifest(self, composer: Composer) -> dict[str, Any]:
        model = composer.describe()
        companions = composer.companions.named_by(self._asked)
        manifest = {
            "sam_composer": __version__,
            "preset": model["preset"],
            "weights_sha256": model["weights_sha256"],
            "requests": [request_record(request) for request in self.requests],
        }
        if companions:
            manifest["companions"] = companions
        return manifest if self.pipeline is None else manifest | {"pipeline": self.pipeline.record()}


def find_photos(paths: Sequence[Path], out: Path) -> list[Path]:
    """The images that ``paths`` name, without earlier results where ``out`` lies in one of the folders.

    Raises:
        UsageError: nothing there, or ``out`` is itself one of the folders.
        BadImage: ``no_images``.
    """
    target = Path(os.path.realpath(out))
    folders = [Path(os.path.realpath(path)) for path in paths if path.is_dir()]
    if target in folders:
        raise UsageError(
            f"--out {out}: is the folder of the photos; give the results one of their own, "
            f"such as {out / 'segmented'}",
            field="out",
        )
    images = find_images(paths)
    if any(folder in target.parents for folder in folders):
        named = set(paths)
        images = [p for p in images if p in named or target not in Path(os.path.realpath(p)).parents]
    if not images:
        raise BadImage(
            f"{', '.join(map(str, paths))}: no images found besides the results in {out}", code="no_images"
        )
    return images


def summary(tally: Tally, load_seconds: float, out: Path, passes: int) -> str:
    """What was done, in one line; ``passes`` of the encoder, each of an image or of a crop of one."""
    images = f"{tally.done} of {tally.total} images" if tally.total > 1 else "1 image"
    failed = f", {len(tally.failures)} failed" if tally.failures else ""
    masks = "1 mask" if tally.masks == 1 else f"{tally.masks} masks"
    return (
        f"{images} done{failed}: {masks} in {tally.seconds:.1f} s, "
        f"{passes} encoder {'pass' if passes == 1 else 'passes'} "
        f"(and {load_seconds:.1f} s to load the model); results in {out}"
    )


def _check_writable(out: Path) -> None:
    ensure_folder(out)
    with writing(out), tempfile.TemporaryFile(dir=out):
        pass
