"""Names for instances that have none, or other ones: each is shown to a text-image model with phrases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adapters.base import Request, Scene
from adapters.checks import earlier_instances, of_this_image, real_number
from adapters.results import Instances
from adapters.text import MAX_NEGATIVES, text_image_model, usual_threshold
from adapters.text_routes.wording import checked_phrases
from sam.errors import BadPrompt

MAX_VOCABULARY = 1000


@dataclass(frozen=True, eq=False)
class Relabel(Request):
    """Name instances by phrases.

    Every instance stays, in its place and with its ranking score. Its label becomes the phrase that fits
    best, or None where none fits well enough: what it was called before is what was to be replaced.

    Attributes:
        phrases: 1 to 1000 labels, different from each other.
        candidates: the instances; None only until they are given: there is nothing to name without.
        negatives: phrases that take an instance out, as if nothing fitted.
        threshold: least text score of a label, in [0, 1]; None: the preset's, or what suits the model.
        clip, pretrained: see :class:`adapters.text.Text`.

    Raises:
        BadPrompt: a value out of its range, naming the field.
    """

    kind: ClassVar[str] = "relabel"
    phrases: Sequence[str]
    candidates: Instances | None = None
    negatives: Sequence[str] = ()
    threshold: float | None = None
    clip: str | None = None
    pretrained: str | None = None

    def __post_init__(self) -> None:
        phrases = checked_phrases(self.phrases, "phrases", most=MAX_VOCABULARY)
        negatives = checked_phrases(self.negatives, "negatives", least=0, most=MAX_NEGATIVES)
        for negative in negatives:
            if negative in phrases:
                raise BadPrompt(f"{negative!r} is both wanted and not wanted", field="negatives")
        object.__setattr__(self, "phrases", phrases)
        object.__setattr__(self, "negatives", negatives)
        if self.candidates is not None:
            earlier_instances(self.candidates, "candidates")
        if self.threshold is not None:
            real_number(self.threshold, "threshold", 0, 1)
        for name in ("clip", "pretrained"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, str(value))


class RelabelAdapter:
    """Answers :class:`Relabel` with the same instances under new labels."""

    request: type[Request] = Relabel

    def __call__(self, scene: Scene, request: Relabel) -> Instances:
        """Name the candidates.

        Returns:
            As many instances in the same order; ``text_score`` is that of the best phrase, also where it is
            too low for a label, and 0 for empty masks. So is the score of those that an earlier text request
            ranked by it, and their ``prompt_index`` is the number of that phrase.

        Raises:
            BadPrompt: no candidates, or those of another image.
            UsageError: no such text-image model, or the preset has none.
        """
        from adapters.text_routes.naming import look_at
        from adapters.text_routes.vocabulary import Vocabulary

        given = request.candidates
        if given is None:
            raise BadPrompt(
                "relabel needs candidates: instances of an earlier request or of a pipeline's earlier step",
                code="candidates_missing",
                field="candidates",
            )
        of_this_image(given, scene.size, "candidates")
        model = text_image_model(scene, request.clip, request.pretrained)
        threshold = request.threshold
        if threshold is None:
            threshold = usual_threshold(scene, model, request.clip)
        words = Vocabulary.of(model, request.phrases, None, request.negatives)
        named = look_at(scene.image, given, model).named(words)
        scores = np.zeros((len(given), len(words.phrases)), np.float32)
        scores[given.areas > 0] = named.relevance
        best, most = scores.argmax(1), scores.max(1, initial=0)
        fits = (most >= threshold) & (most > 0)
        labels = tuple(words.phrases[i] if fit else None for i, fit in zip(best, fits, strict=True))
        named_anew = given.replace(labels=labels, text_score=most)
        if given.score_kind != "text_score":
            return named_anew
        # What it was ranked by, numbered by and unsure of was about the earlier phrases.
        return named_anew.replace(
            scores=most, prompt_index=best.astype(np.int64), suggested_points=None, suggested_prompts=None
        )
