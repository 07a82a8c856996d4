"""Which models, beside the preset's own, requests from outside may name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class AllowedModels:
    """Models beside the preset's own that strangers may name.

    Attributes:
        detectors: what they may write -> the weights file or published name that it stands for.
        clips: what they may write -> architecture or folder, and weights or None.
        trust: whether those detectors may be read even if that runs code in their files. Whoever starts the
            server says so, never a request.
    """

    detectors: Mapping[str, str] = field(default_factory=dict)
    clips: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    trust: bool = False

    def hide_paths(self, text: str) -> str:
        """``text`` with what models stand for replaced by their names: errors name the file that they met."""
        stand = {value: name for name, value in self.detectors.items()}
        for name, (model, weights) in self.clips.items():
            stand |= {value: name for value in (model, weights) if value is not None}
        for value in sorted(stand, key=len, reverse=True):
            text = text.replace(value, stand[value])
        return text
