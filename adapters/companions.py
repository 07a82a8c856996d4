"""Models beside the segmenter that adapters may ask for; what finds and keeps them is the composer's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from adapters.clip import TextImageModel
    from adapters.detections import Detector


class Companions(Protocol):
    """Other models that a scene's adapters may ask for."""

    def detector(self, name: str | None, *, trust: bool, annotations: str | None) -> Detector:
        """The detector of that name, file or results file, loaded at the first use; None: the preset's own.

        Args:
            name: see :class:`adapters.detect.Detect`.
            trust: whether a file that runs code when it is read may be read.
            annotations: of a COCO results file, the COCO file that names its photos and categories.
        """

    def text_image_model(self, name: str | None, pretrained: str | None) -> TextImageModel:
        """The model that compares words with pictures, loaded at the first use; None: the preset's own.

        Args:
            name: see :meth:`adapters.clip.TextImageModel.load`.
            pretrained: its weights.
        """
