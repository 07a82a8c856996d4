"""What every output format gets and does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from adapters.results import Instances, Result
from composer.images import Image


@dataclass(frozen=True, eq=False)
class Answer:
    """A request and what came of it.

    Attributes:
        request: the request as plain JSON values, ``kind`` among them.
        result: instances or an edge map.
        name: of the pipeline's step that asked; None without a pipeline.
    """

    request: Mapping[str, Any]
    result: Result
    name: str | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """All that was found out about one image.

    Attributes:
        image: the picture; masks are at its size.
        answers: in the order of the requests.
        model: preset, weights digest and so on, as plain JSON values, for reports.
        timings: seconds by step, for reports.
        pipeline: the steps as plain JSON values, those included whose results are no answer; None without.
        encoder_passes: how often an embedding was made for it: once, and once for each window that was looked
            at closer; None where nobody counted.
    """

    image: Image
    answers: tuple[Answer, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    pipeline: Mapping[str, Any] | None = None
    encoder_passes: int | None = None

    @property
    def instances(self) -> Instances:
        """The instances of every answer, in order. Where they rank by different scores, ``score_kind`` is
        ``mixed``.

        Low-resolution logits are left out: no format holds them, and joining them would copy them.
        """
        parts = [a.result for a in self.answers if isinstance(a.result, Instances)]
        if not parts:
            return Instances.empty(self.image.size)
        kinds = {part.score_kind for part in parts}
        kind = kinds.pop() if len(kinds) == 1 else "mixed"
        return Instances.concatenate([p.replace(score_kind=kind, low_res_logits=None) for p in parts])


class Writer(Protocol):
    """Writes one format into a folder. One object serves one run over many images, from one thread.

    Every file appears whole or not at all. Formats that need more than ``<stem>.json`` and ``<stem>.*.png``
    keep to a subfolder of their own name, so that no image's name can clash with theirs.
    """

    def write(self, stem: str, outcome: Outcome, folder: Path) -> list[Path]:
        """Write what belongs to one image.

        Args:
            stem: name of this image's files, different for each image
                (:func:`composer.formats.names.unique_stems`).
            outcome: what was found.
            folder: output folder of the run, created if need be.

        Returns:
            The files written, absolute if ``folder`` is.

        Raises:
            EnvironmentProblem: a file cannot be written.
        """
        ...

    def finish(self, folder: Path) -> list[Path]:
        """Write what belongs to the whole run. Call it once, and also where a run is broken off.

        Args:
            folder: the same as in every :meth:`write`.

        Returns:
            The files written; they cover the images that are done.
        """
        ...


class PerImageWriter:
    """Base of the formats that have nothing to say about a whole run."""

    def finish(self, folder: Path) -> list[Path]:
        """Nothing to write."""
        return []
