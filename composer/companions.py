"""The models beside the segmenter: found by name, loaded once, kept."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from composer.presets import Preset
from composer.recorded_detections import RecordedDetections
from composer.weights import cache_folder, expected_path, locate_clip, locate_detector
from sam.checkpoints import file_digest
from sam.errors import UsageError

if TYPE_CHECKING:
    from adapters.base import Request
    from adapters.clip import TextImageModel
    from adapters.detections import Detector

RESULTS_SUFFIX = ".json"
CLIP_WEIGHTS = "open_clip_model.safetensors"


class Companions:
    """Detectors and text-image models of one composer. Safe to share between threads.

    Args:
        preset: whose own models answer where none is named.
        device: where text-image models run.
    """

    def __init__(self, preset: Preset, device: torch.device | None = None) -> None:
        self._preset = preset
        self._device = device or torch.device("cpu")
        self._text_image: dict[tuple[str | None, str | None], TextImageModel] = {}
        self._detectors: dict[tuple[str | None, str | None], Detector] = {}
        self._digests: dict[Path, str] = {}
        self._lock = threading.Lock()

    def detector(self, name: str | None, *, trust: bool, annotations: str | None) -> Detector:
        """See :class:`adapters.companions.Companions`.

        Raises:
            UsageError: the preset has no detector, or an untrusted file.
            CheckpointError: missing, damaged, or not a detector.
            BadAnnotation: a malformed results file.
        """
        with self._lock:
            key = (name, annotations)
            if key not in self._detectors:
                self._detectors[key] = self._load(name, trust, annotations)
            return self._detectors[key]

    def text_image_model(self, name: str | None, pretrained: str | None) -> TextImageModel:
        """See :class:`adapters.companions.Companions`.

        Raises:
            UsageError: the preset has none, or an unknown architecture or tag.
            CheckpointError: missing, damaged, or not such a model.
            EnvironmentProblem: weights that cannot be downloaded.
        """
        with self._lock:
            key = (name, pretrained)
            if key not in self._text_image:
                self._text_image[key] = self._load_text_image(name, pretrained)
            return self._text_image[key]

    def describe(self) -> list[dict[str, str]]:
        """Those that have answered so far, as reports name them: ``kind``, ``name``, digests of files.

        A published name or tag stands for itself.
        """
        with self._lock:
            return [
                *(self._clip_record(*key) for key in self._text_image),
                *(self._detector_record(*key) for key in self._detectors),
            ]

    def load_for(self, requests: Iterable[Request]) -> None:
        """Load those that requests may ask, so that the first of them does not wait for it.

        Raises:
            SamComposerError: as :meth:`detector` and :meth:`text_image_model`.
        """
        for request in requests:
            asked = self._asked_by(request)
            if "clip" in asked:
                self.text_image_model(*asked["clip"])
            if "detector" in asked:
                name, annotations = asked["detector"]
                self.detector(name, trust=getattr(request, "trust", False), annotations=annotations)

    def named_by(self, requests: Iterable[Request]) -> list[dict[str, str]]:
        """Those that requests may ask, as :meth:`describe` has them; none is loaded for it."""
        found: list[dict[str, str]] = []
        with self._lock:
            for request in requests:
                asked = self._asked_by(request)
                if "clip" in asked:
                    found.append(self._clip_record(*asked["clip"]))
                if "detector" in asked:
                    found.append(self._detector_record(*asked["detector"]))
        return [one for number, one in enumerate(found) if one not in found[:number]]

    def _asked_by(self, request: Request) -> dict[str, tuple[str | None, str | None]]:
        """What a request names, or the preset's own; nothing of a kind where there is neither."""
        fields = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
        asked: dict[str, tuple[str | None, str | None]] = {}
        for kind, detail in (("clip", "pretrained"), ("detector", "annotations")):
            if kind in fields and (fields[kind] or getattr(self._preset, kind)):
                asked[kind] = (fields[kind], fields.get(detail))
        return asked

    def _clip_record(self, name: str | None, pretrained: str | None) -> dict[str, str]:
        if name is None:
            file: Path | None = self._own_file("clip")
            called = f"{self._preset.name} clip"
        else:
            file = _clip_file(name, pretrained)
            called = Path(name).name if pretrained is None else f"{name}/{Path(pretrained).name}"
        return {"kind": "clip", "name": called, **self._digest("sha256", file)}

    def _detector_record(self, name: str | None, annotations: str | None) -> dict[str, str]:
        if name is None:
            file: Path | None = self._own_file("detector")
            called = f"{self._preset.name} detector"
        else:
            path = _detector_file(name)
            # What a published name stands for may not be here yet, and is no other thing once it is.
            file, called = (None if path.parent == cache_folder() / "detectors" else path), path.name
        known = {} if annotations is None else self._digest("annotations_sha256", Path(annotations))
        return {"kind": "detector", "name": called, **self._digest("sha256", file), **known}

    def _own_file(self, part: str) -> Path:
        return next(expected_path(one) for one in self._preset.files() if one.part == part)

    def _digest(self, key: str, path: Path | None) -> dict[str, str]:
        """Nothing for what is not here: loading says so better."""
        if path is None or not path.is_file():
            return {}
        if path not in self._digests:
            self._digests[path] = file_digest(path)
        return {key: self._digests[path]}

    def _load_text_image(self, name: str | None, pretrained: str | None) -> TextImageModel:
        from adapters.clip import TextImageModel

        if name is None:
            if pretrained is not None:
                raise UsageError("pretrained belongs to a model: name that too (clip=)", field="clip")
            return TextImageModel.load(locate_clip(self._preset).parent, device=self._device)
        return TextImageModel.load(name, pretrained, device=self._device)

    def _load(self, name: str | None, trust: bool, annotations: str | None) -> Detector:
        from adapters.detector import UltralyticsDetector

        if name is None:
            if annotations is not None:
                raise UsageError(
                    "annotations belong to a COCO results file (.json): name that too (detector=)",
                    field="annotations",
                )
            return UltralyticsDetector.load(locate_detector(self._preset), trust=False)
        path = _detector_file(name)
        if path.suffix.lower() == RESULTS_SUFFIX:
            return RecordedDetections(path, Path(annotations) if annotations is not None else None)
        if annotations is not None:
            raise UsageError(
                f"annotations belong to a COCO results file (.json), and {name} is none", field="annotations"
            )
        return UltralyticsDetector.load(path, trust=trust)


def _detector_file(name: str) -> Path:
    path = Path(name)
    if path.is_file() or path.name != name or path.suffix.lower() == RESULTS_SUFFIX:
        return path
    return cache_folder() / "detectors" / name  # a published name: ultralytics puts it where we say


def _clip_file(name: str, pretrained: str | None) -> Path | None:
    """The file of its weights, where it has one here that was named."""
    folder = Path(name)
    path = folder / CLIP_WEIGHTS if folder.is_dir() else folder
    if path.name != CLIP_WEIGHTS:
        path = Path(pretrained or "")
    return path if path.is_file() else None
