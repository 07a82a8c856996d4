"""The models beside the segmenter: found by name, loaded once, kept."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from composer.presets import Preset
from composer.recorded_detections import RecordedDetections
from composer.weights import cache_folder, locate_detector
from sam.errors import UsageError

if TYPE_CHECKING:
    from adapters.detections import Detector

RESULTS_SUFFIX = ".json"


class Companions:
    """Detectors of one composer. Safe to share between threads.

    Args:
        preset: whose own detector answers where none is named.
    """

    def __init__(self, preset: Preset) -> None:
        self._preset = preset
        self._detectors: dict[tuple[str | None, str | None], Detector] = {}
        self._lock = threading.Lock()

    def detector(self, name: str | None, *, trust: bool, annotations: str | None) -> Detector:
        """See :class:`adapters.detections.Companions`.

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
