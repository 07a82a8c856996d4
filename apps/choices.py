"""Values that several commands let people choose from."""

from __future__ import annotations

import enum


class EdgeSource(str, enum.Enum):
    """Where edges come from; see :data:`adapters.base.EdgeSource`."""

    masks = "masks"
    head = "head"
    both = "both"
