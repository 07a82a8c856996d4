"""What to ask about a labelled photo: the names of what is in it, and some of what is not."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from composer.category_names import spoken_name
from composer.evaluation.ground_truth import GroundTruth, Segment
from sam.errors import BadAnnotation


def vocabulary_of(truth: GroundTruth, things_only: bool) -> dict[str, str]:
    """The phrase for each category of a set.

    Raises:
        BadAnnotation: the set names no categories.
    """
    names = [name for name, thing in truth.categories.items() if thing or not things_only]
    if not names:
        raise BadAnnotation(f"{truth.source}: names no categories, so there is nothing to ask for")
    return {name: spoken_name(name) or name for name in names}


def phrases_about(
    segments: Sequence[Segment], vocabulary: Mapping[str, str], absent: int, chooser: random.Random
) -> dict[str, list[Segment]]:
    """What to ask about a photo, and the segments that each phrase names: of some phrases none.

    A category that is labelled as a crowd alone is neither there nor absent.
    """
    there: dict[str, list[Segment]] = {}
    for segment in segments:
        phrase = vocabulary.get(segment.category or "")
        if phrase is not None:
            there.setdefault(phrase, []).append(segment)
    others = sorted({*vocabulary.values()} - {*there})
    asked = {phrase: some for phrase, some in there.items() if not all(s.crowd for s in some)}
    return asked | {phrase: [] for phrase in chooser.sample(others, min(absent, len(others)))}
