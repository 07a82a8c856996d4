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
