"""Boxes of a detector to masks with the request's words for them."""

from __future__ import annotations

import numpy as np

from adapters.results import Instances
from adapters.rle import BoolArray
from adapters.text_routes.naming import Named, look_at
from adapters.text_routes.sight import DETECTOR_CONF, Sight
from adapters.text_routes.vocabulary import Vocabulary

KNOWN_CONF = 0.25
"""Least score of a detection that the detector itself names with a word of the request."""


def from_detector(sight: Sight, words: Vocabulary, meant: tuple[tuple[str, ...], ...]) -> Named:
    """Masks of a detector's boxes.

    A detector that takes any phrase is asked for the request's; one that has a phrase among its classes finds
    that by its name; for the other phrases, the text-image model says what is in each box. Where the detector
    names a box, its score is the text score too, unless a negative phrase fits what is in the box better.

    Args:
        sight: of the image.
        words: the phrases.
        meant: of each phrase all words for it, itself among them.

    Raises:
        UsageError: there is no detector.
    """
    detector = sight.detector
    if detector.open_vocabulary:
        found = detected(sight, meant)
        known = names_match(found, meant)
        if words.has_negatives:
            known &= ~words.ruled_out(look_at(sight.scene.image, found, sight.model).vectors)
        return Named(found, known * found.detector_score[:, None], known)
    names = {name.casefold() for name in detector.names}
    by_name = np.array([any(word.casefold() in names for word in several) for several in meant])
    named = sight.boxed.named(words)
    known = names_match(named.instances, meant) & ~words.ruled_out(sight.boxed.vectors)
    scores = named.instances.detector_score[:, None]
    # What the detector knows it knows better: an apple that it takes for an orange is none.
    relevance = np.where(by_name, known * scores * (scores >= KNOWN_CONF), named.relevance)
    assert named.fit is not None
    fit = np.where(by_name, -np.inf, named.fit).astype(np.float32)
    return Named(named.instances, relevance.astype(np.float32), known & by_name, fit)


def detected(sight: Sight, meant: tuple[tuple[str, ...], ...]) -> Instances:
    """The masks that :func:`from_detector` chooses among. Raises UsageError as that."""
    if sight.detector.open_vocabulary:
        every = tuple(dict.fromkeys(word for several in meant for word in several))
        return sight.detect(every, KNOWN_CONF)
    return sight.detect(None, DETECTOR_CONF)


def names_match(instances: Instances, meant: tuple[tuple[str, ...], ...]) -> BoolArray:
    """(n, P) bool where a label is one of a phrase's words, whatever its case."""
    folded = [{word.casefold() for word in several} for several in meant]
    matches = [[(label or "").casefold() in words for words in folded] for label in instances.labels]
    return np.array(matches, np.bool_).reshape(len(instances), len(meant))
