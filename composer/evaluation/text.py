"""Phrases against labelled photos: is what a phrase names found, and nothing where it names nothing?

For each photo, the names of the categories in it are asked for one by one, and so are some of the others. A
phrase that is there counts with the overlap of all that is answered and all that is labelled so (mean IoU),
and with the share of segments that some mask meets; one that is not there is a false alarm where anything is
answered at all. FastSAM's rule, which always finds something, and the largest mask are measured beside.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.base import Scene, TextRoute
from adapters.text import (
    Text,
    answer,
    named_by,
    route_of,
    sight_of,
    strict_of,
    text_image_model,
    thresholds_of,
)
from adapters.text_routes.naming import Named, labelled, settled
from adapters.text_routes.points import from_points
from adapters.text_routes.token import check_text_slot
from adapters.text_routes.vocabulary import Vocabulary
from composer.evaluation.ground_truth import GroundTruth, Segment
from composer.evaluation.scoring import MaskFilter, OpenScene, labelled_scenes
from composer.evaluation.text_phrases import phrases_about, vocabulary_of
from composer.evaluation.text_scores import Asked, TextScores, score_answer
from sam.errors import BadAnnotation, BadPrompt

if TYPE_CHECKING:
    from adapters.results import Instances

BASELINES = ("fastsam", "largest")
SWEEP_STEPS = 24


@dataclass(frozen=True)
class TextProtocol:
    """What is asked.

    Attributes:
        request: settings of the requests; its phrases are replaced by those of the photos.
        routes: to compare, the first is the one that the report is about.
        baselines: whether to measure :data:`BASELINES` too.
        absent: phrases of other categories for each photo.
        things_only: leave out stuff such as grass.
        seed: of the choice of absent phrases.
    """

    request: Text
    routes: tuple[TextRoute, ...] = ("auto",)
    baselines: bool = False
    absent: int = 5
    things_only: bool = False
    seed: int = 0


@dataclass(frozen=True)
class TextEvaluation:
    """The outcome over a set.

    Attributes:
        routes: questions and answers by way, baselines among them.
        sweep: figures of the first route by least text score, ascending.
        images: photos asked about.
        threshold: least text score that was used, unless the way has none.
    """

    routes: Mapping[str, Sequence[Asked]]
    sweep: Mapping[float, TextScores]
    images: int
    threshold: float

    @property
    def best_threshold(self) -> float:
        """That of the sweep with the best balance of overlap and false alarms."""
        return max(self.sweep, key=lambda t: self.sweep[t].balance, default=self.threshold)

    def by_phrase(self) -> dict[str, dict[str, Any]]:
        """For each phrase how often it was there and not, mean IoU and false alarms of the first route."""
        asked: dict[str, list[Asked]] = {}
        for one in next(iter(self.routes.values())):
            asked.setdefault(one.phrase, []).append(one)
        return {
            phrase: {"present": sum(o.present for o in some), "absent": sum(not o.present for o in some)}
            | TextScores.of(some).to_json()
            for phrase, some in sorted(asked.items())
        }

    def to_json(self) -> dict[str, Any]:
        """``present_miou``, ``instance_recall``, ``false_alarm_rate``, the same by ``routes``, and more."""
        routes = {name: TextScores.of(asked).to_json() for name, asked in self.routes.items()}
        first = next(iter(routes))
        return {
            **routes[first],
            "route": first,
            "routes": routes,
            "threshold": _short(self.threshold),
            "best_threshold": _short(self.best_threshold),
            "thresholds": [{"threshold": _short(t)} | s.to_json() for t, s in self.sweep.items()],
            "phrases": self.by_phrase(),
            "images": self.images,
            "questions": len(next(iter(self.routes.values()))),
        }


def evaluate_text(
    open_scene: OpenScene,
    truth: GroundTruth,
    protocol: TextProtocol,
    on_image: Callable[[str], None] | None = None,
) -> TextEvaluation:
    """Ask about every photo. An image is encoded once, and each candidate looked at once, for all phrases.

    Args:
        open_scene: opens a photo.
        truth: labelled photos with named categories.
        protocol: what is asked.
        on_image: called with a photo's name before it is opened.

    Raises:
        BadAnnotation: a set without category names, or that contradicts itself.
        BadImage: a photo that cannot be read.
        UsageError, BadPrompt: as :class:`adapters.text.TextAdapter`.
    """
    vocabulary = vocabulary_of(truth, protocol.things_only)
    chooser = random.Random(protocol.seed)
    routes: dict[str, list[Asked]] = {}
    candidates: list[Question] = []
    images, threshold = 0, 0.0
    for _, scene, segments in labelled_scenes(open_scene, truth, MaskFilter(), on_image, crowds=True):
        photo = PhotoQuestions(scene, protocol)
        images, threshold = images + 1, photo.threshold
        for phrase, labelled_so in phrases_about(segments, vocabulary, protocol.absent, chooser).items():
            for name, found in photo.answers(phrase).items():
                routes.setdefault(name, []).append(score_answer(phrase, found, labelled_so))
            candidates.append(Question(phrase, labelled_so, *photo.named(phrase)))
    if not routes:
        raise BadAnnotation(f"{truth.source}: no phrase to ask for in {len(truth)} photos")
    return TextEvaluation(routes, sweep(candidates, threshold, protocol.request), images, threshold)


class PhotoQuestions:
    """Asks about one photo, and keeps what it has seen between the phrases."""

    def __init__(self, scene: Scene, protocol: TextProtocol) -> None:
        request = protocol.request
        self._protocol = protocol
        self._model = text_image_model(scene, request.clip, request.pretrained)
        self._sight = sight_of(scene, self._model, request)
        self.threshold = float(thresholds_of(request, self._sight)[0])
        self._words: dict[str, Vocabulary] = {}

    def answers(self, phrase: str) -> dict[str, Instances]:
        """The answer of each way."""
        words, request = self._words_of(phrase), self._request(phrase)
        found: dict[str, Instances] = {
            way: answer(self._sight, words, replace(request, route=way)) for way in self._protocol.routes
        }
        if self._protocol.baselines:
            found |= {"fastsam": self._best_of_all(words), "largest": self._largest(phrase)}
        return found

    def named(self, phrase: str) -> tuple[Vocabulary, Named, Named | None]:
        """The masks of the first route and how well the phrase fits each, for thresholds to choose from.

        Beside them those of the second look, where the route takes one.
        """
        words = self._words_of(phrase)
        request = replace(self._request(phrase), route=self._protocol.routes[0])
        route = route_of(request, self._sight.scene)
        named = named_by(route, self._sight, words, request)
        second = route == "auto" and named.best()[0] > 0  # else nothing is close at any threshold
        return words, named, from_points(self._sight, words) if second else None

    def _request(self, phrase: str) -> Text:
        return replace(self._protocol.request, phrases=(phrase,))

    def _words_of(self, phrase: str) -> Vocabulary:
        """The same each time, since what was seen for it is kept."""
        if phrase not in self._words:
            self._words[phrase] = Vocabulary.of(self._model, [phrase])
        return self._words[phrase]

    def _best_of_all(self, words: Vocabulary) -> Instances:
        """FastSAM's rule: a softmax over the masks for one phrase, and the highest is the answer."""
        seen = self._sight.proposed
        if not len(seen.instances):
            return seen.instances
        shares = (words.scale * (seen.vectors @ words.vectors[0])).softmax(0).numpy()
        best = [int(shares.argmax())]
        return labelled(seen.instances[best], words.phrases[0], 0, shares[best])

    def _largest(self, phrase: str) -> Instances:
        masks = self._sight.proposed.instances
        if not len(masks):
            return masks
        return labelled(masks[[int(masks.areas.argmax())]], phrase, 0, np.ones(1, np.float32))


def available_routes(scene: Scene, request: Text) -> tuple[TextRoute, ...]:
    """The routes that this model, its weights and companions can take, ``auto`` first."""
    model = text_image_model(scene, request.clip, request.pretrained)
    sight = sight_of(scene, model, request)
    routes: list[TextRoute] = ["auto", "rank", "points"]
    if sight.has_detector:
        routes.append("detect")
    try:
        check_text_slot(sight)
    except BadPrompt:
        return tuple(routes)
    return (*routes, "token")


@dataclass(frozen=True)
class Question:
    """One phrase about one photo, before a threshold is chosen.

    Attributes:
        phrase: asked for.
        segments: those that are labelled so.
        words: its vocabulary.
        named: masks, and how well the phrase fits them.
        further: more of them for where nothing passes though something was close; None: none are looked for.
    """

    phrase: str
    segments: Sequence[Segment]
    words: Vocabulary = field(repr=False)
    named: Named
    further: Named | None = None

    def at(self, threshold: float, request: Text) -> Asked:
        """As the request would be answered if that were its threshold, and otherwise as it is."""
        further = self.further
        found, _ = settled(
            self.named,
            self.words,
            np.array([threshold], np.float32),
            strict=strict_of(request),
            limit=request.max_instances,
            further=None if further is None else lambda _: further,
        )
        return score_answer(self.phrase, found, self.segments)


def sweep(
    questions: Sequence[Question], threshold: float, request: Text, steps: int = SWEEP_STEPS
) -> dict[float, TextScores]:
    """The figures by threshold: from the lowest to the highest best score of a question, and at that used.

    Args:
        questions: not empty.
        threshold: that used.
        request: what else counts; its threshold, if it names one, counts for what a detector knows too.
        steps: at most so many thresholds beside.
    """
    best = [max(q.named.best()[0], q.further.best()[0] if q.further else 0) for q in questions]
    levels = np.quantile(np.array(best, np.float32), np.linspace(0, 1, steps)).astype(np.float32)
    return {
        float(level): TextScores.of([question.at(level, request) for question in questions])
        for level in np.unique(np.append(levels, np.float32(threshold)))
    }


def _short(threshold: float) -> float:
    """Six digits that count: scores of a sigmoid can be very small."""
    return float(f"{threshold:.6g}")
