"""What is not there, said at once: half an hour into an evaluation is late to learn of a missing file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sam.errors import BadAnnotation

NAMED = 3
"""As many are named, the others counted."""


def photos_present(photos: Iterable[Path], source: str) -> None:
    """Raises BadAnnotation where photos that ``source`` names are missing: the first few, and how many."""
    missing = [str(path) for path in photos if not path.is_file()]
    if len(missing) == 1:
        raise BadAnnotation(f"{missing[0]}: is annotated in {source}, but there is no such photo")
    if missing:
        raise BadAnnotation(f"{first_few(missing)}: are annotated in {source}, but there are no such photos")


def first_few(names: Sequence[str]) -> str:
    """``a, b, c and 4 more``."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
