"""Options with a few fixed values that several commands have."""

from __future__ import annotations

import enum


class EdgeSource(str, enum.Enum):
    """Where a model's edges come from: see :data:`adapters.base.EdgeSource`, whose values these are."""

    masks = "masks"
    head = "head"
    both = "both"
