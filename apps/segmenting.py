"""One run of ``sam-composer segment`` over its files, where a bad file costs itself only."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from adapters.base import Request
from apps import run_manifest
from apps.console import counting
from composer import Composer, Scene
from composer.formats.base import Answer, Outcome, Writer
from composer.images import open_image
from composer.pipeline import Pipeline, run_steps
from composer.requests import request_record
from sam.errors import EnvironmentProblem, SamComposerError

log = logging.getLogger(__name__)

BUG, SOME_FAILED = 1, 4
_OUT_OF_MEMORY = (MemoryError, getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError))


@dataclass
class Tally:
    """What has come of the images so far.

    Attributes:
        done: images whose results are written.
        masks: in them.
        failures: what went wrong with the others, in order.
        seconds: since the first image was opened.
    """

    total: int
    done: int = 0
    masks: int = 0
    failures: list[Exception] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0; 1 if a bug was met; 4 if some images are done and some are not; if none is, what was wrong."""
        codes = {getattr(error, "exit_code", BUG) for error in self.failures}
        if not codes or BUG in codes:
            return BUG if codes else 0
        return codes.pop() if len(codes) == 1 and not self.done else SOME_FAILED


@dataclass(frozen=True)
class Run:
    """A model, what to ask it of every image, and what to write.

    Attributes:
        composer: loaded.
        requests: in the order of the answers.
        writers: the JSON report last, since it says that an image is done.
        out: existing folder.
        manifest: what :mod:`apps.run_manifest` is to remember.
        pipeline: what to ask instead of requests.
        overwrite: whether results of another photo of the same name may be replaced.
    """

    composer: Composer
    requests: Sequence[Request]
    writers: Sequence[Writer]
    out: Path
    manifest: dict[str, Any]
    pipeline: Pipeline | None = None
    overwrite: bool = False

    def over(self, images: Sequence[Path], stems: Sequence[str], tally: Tally) -> None:
        """Segment every image and keep count in ``tally``, which is right also where this raises.

        Raises:
            EnvironmentProblem: results cannot be written; going on would be no use.
            KeyboardInterrupt: what is done is kept, and the formats that cover a whole run are finished.
        """
        started = time.perf_counter()
        with counting(len(images), "images") as (start, note):
            try:
                for path, stem in zip(images, stems, strict=True):
                    start(path.name)
                    self._attempt(path, stem, tally, note)
            except BaseException:
                with suppress(EnvironmentProblem):
                    self._finish(tally)
                raise
            finally:
                tally.seconds = time.perf_counter() - started
            self._finish(tally)

    def _attempt(self, path: Path, stem: str, tally: Tally, note: Callable[[str], None]) -> None:
        try:
            self._write(self.answer(path), stem, tally)
            return
        except EnvironmentProblem:
            raise
        except _OUT_OF_MEMORY as error:
            problem: Exception = EnvironmentProblem(
                f"not enough memory for this image: {str(error).partition('.')[0] or type(error).__name__}; "
                "make it smaller, or use a smaller preset",
                code="out_of_memory",
            )
        except Exception as error:
            problem = error
        log.debug("%s", path, exc_info=problem)
        tally.failures.append(problem)
        if tally.total > 1:  # the failure of a single image is the error of the command
            note(f"error: {describe(path, problem)}")

    def answer(self, path: Path) -> Outcome:
        """Read, encode and ask about one image; ``timings`` are the seconds of each step."""
        clock = _Clock()
        before = self.composer.cache.stats.encodes
        image = open_image(path, limits=self.composer.limits)
        clock.lap("read")
        scene = Scene(self.composer, image)
        _ = scene.embedding
        clock.lap("encode")
        answers = []
        for request in self.requests:
            answers.append(Answer(request_record(request), scene.run(request)))
            clock.lap(request.kind)
        if self.pipeline is not None:
            answers = _answers(scene, self.pipeline, clock)
        steps = None if self.pipeline is None else self.pipeline.record()
        passes = self.composer.cache.stats.encodes - before
        return Outcome(image, tuple(answers), self.composer.describe(), clock.seconds, steps, passes)

    def _write(self, outcome: Outcome, stem: str, tally: Tally) -> None:
        if not self.overwrite:
            run_manifest.check_photo(self.out, stem, outcome.image.sha256)
        if tally.done == 0:  # not before there is something to remember
            run_manifest.write_manifest(self.out, self.manifest)
        for writer in self.writers:
            writer.write(stem, outcome, self.out)
        tally.done += 1
        tally.masks += len(outcome.instances)

    def _finish(self, tally: Tally) -> None:
        for writer in self.writers if tally.done else ():
            writer.finish(self.out)


def _answers(scene: Scene, pipeline: Pipeline, clock: _Clock) -> list[Answer]:
    """One answer for each output step, in the pipeline's order of outputs."""
    found = {}
    for step, result in run_steps(scene, pipeline):
        clock.lap(f"steps.{step.name}")
        if step.name in pipeline.outputs:
            record = step.record()
            found[step.name] = Answer(record, result, record.pop("name"))
    return [found[name] for name in pipeline.outputs]


def describe(path: Path, error: Exception) -> str:
    """One line that names the image, whether or not the error did so itself."""
    text = str(error)
    if not isinstance(error, SamComposerError):
        name = type(error).__name__
        text = f"a bug of sam-composer: {name}: {text}; please report it with what --debug prints"
    return text if text.startswith(str(path)) else f"{path}: {text}"


def named(path: Path, error: Exception) -> Exception:
    """The same error with the image in its message; a bug as it is."""
    if not isinstance(error, SamComposerError):
        return error
    same = type(error)(describe(path, error), code=error.code, field=error.field)
    same.__cause__ = error
    return same


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._last, 4)
        self._last = now
