"""The models beside the segmenter: found by name, loaded once, kept."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from composer.presets import Preset
from composer.recorded_detections import RecordedDetections
from composer.weights import cache_folder, locate_clip, locate_detector
from sam.errors import UsageError

if TYPE_CHECKING:
    from adapters.clip import TextImageModel
    from adapters.detections import Detector

RESULTS_SUFFIX = ".json"


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
            return UltralyticsDetector.load(locate_detector(self._preset), trust=False)
        path = Path(name)
        if path.suffix.lower() == RESULTS_SUFFIX:
            return RecordedDetections(path, Path(annotations) if annotations is not None else None)
        if annotations is not None:
            raise UsageError(
                f"annotations belong to a COCO results file (.json), and {name} is none", field="annotations"
            )
        if not path.is_file() and path.name == name:  # a published name: ultralytics puts it where we say
            path = cache_folder() / "detectors" / name
        return UltralyticsDetector.load(path, trust=trust)
