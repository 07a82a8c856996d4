"""Phrases to masks (paper §7.5, App. D.5): every object that a phrase names, and nothing where it names none.

Four ways, which ``route`` chooses among; the answer says in ``routes`` which one found what:

- ``rank``: automatic masks, each shown to a text-image model and named by it;
- ``detect``: a detector's boxes, named by the detector where it knows the word, else by the text-image model;
- ``points``: where a dense map of the phrase is high becomes clicks;
- ``token``: the phrase's vector is itself the prompt, for weights that were trained with a text slot.

``auto`` takes ``rank``, with ``detect`` beside it where there is a detector, and tries ``points`` for phrases
that have no answer though something was close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, get_args

import numpy as np
import numpy.typing as npt

from adapters.base import Request, Scene, TextRoute
from adapters.checks import earlier_instances, number_array, of_this_image, real_number, whole_number
from adapters.results import FloatArray, Instances
from adapters.rle import BoolArray
from adapters.text_routes.wording import checked_phrases, checked_synonyms, checked_thresholds
from sam.errors import BadPrompt, UsageError

if TYPE_CHECKING:
    from adapters.clip import TextImageModel
    from adapters.text_routes.naming import Named
    from adapters.text_routes.sight import Sight
    from adapters.text_routes.vocabulary import Vocabulary

MAX_NEGATIVES = 100
MAX_INSTANCES = 10_000


@dataclass(frozen=True, eq=False, init=False)
class Text(Request):
    """Segment what phrases name: ``Text("dog", "a red car")``, or ``Text(phrases=["dog", "a red car"])``.

    Attributes:
        phrases: 1 to 100 labels of 1 to 1000 characters, different from each other.
        negatives: phrases of what is not wanted: a mask that one of them fits better is none.
        synonyms: further words for a phrase, ``{"sofa": ["couch"]}``; the label stays the phrase.
        threshold: least text score of an answer, in [0, 1]. None: the preset's, or what suits the model.
        thresholds: by phrase, before ``threshold``.
        route: ``auto``, ``rank``, ``detect``, ``points`` or ``token``; ``auto`` is the preset's own where
            that names one, and ``rank`` where there are ``candidates``.
        max_instances: at most so many of each phrase, those with the highest text score.
        hint_point: ``x, y`` pixels: the object of the one phrase is here. Of the route's masks at this place,
            and those of the click itself, the one that fits the phrase best is decoded again with the click.
        candidates: masks to choose from in place of automatic ones.
        clip: name of an architecture of open_clip, or a folder; None: the preset's own model.
        pretrained: its weights: a tag of open_clip, or a file.
        detector, trust, annotations: see :class:`adapters.detect.Detect`.

    Raises:
        BadPrompt: a value out of its range, naming the field.
    """

    kind: ClassVar[str] = "text"
    phrases: tuple[str, ...]
    negatives: tuple[str, ...]
    synonyms: Mapping[str, Sequence[str]]
    threshold: float | None
    thresholds: Mapping[str, float]
    route: TextRoute
    max_instances: int | None
    hint_point: tuple[float, float] | None
    candidates: Instances | None
    clip: str | None
    pretrained: str | None
    detector: str | None
    trust: bool
    annotations: str | None

    def __init__(
        self,
        *words: str,
        phrases: Sequence[str] = (),
        negatives: Sequence[str] = (),
        synonyms: Mapping[str, Sequence[str]] = {},
        threshold: float | None = None,
        thresholds: Mapping[str, float] = {},
        route: TextRoute = "auto",
        max_instances: int | None = None,
        hint_point: npt.ArrayLike | None = None,
        candidates: Instances | None = None,
        clip: str | None = None,
        pretrained: str | None = None,
        detector: str | None = None,
        trust: bool = False,
        annotations: str | None = None,
    ) -> None:
        if words and phrases:
            raise BadPrompt("give phrases by themselves or as phrases=, not both", field="phrases")
        asked = checked_phrases(words or phrases, "phrases")
        values = {
            "phrases": asked,
            "negatives": checked_phrases(negatives, "negatives", least=0, most=MAX_NEGATIVES),
            "synonyms": checked_synonyms(synonyms, asked),
            "threshold": threshold,
            "thresholds": checked_thresholds(thresholds, asked),
            "route": route,
            "max_instances": max_instances,
            "hint_point": None if hint_point is None else _checked_point(hint_point),
            "candidates": candidates,
            "clip": None if clip is None else str(clip),
            "pretrained": None if pretrained is None else str(pretrained),
            "detector": None if detector is None else str(detector),
            "trust": trust,
            "annotations": None if annotations is None else str(annotations),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        for negative in self.negatives:
            if any(negative in self.words_of(phrase) for phrase in self.phrases):
                raise BadPrompt(f"{negative!r} is both wanted and not wanted", field="negatives")
        if self.threshold is not None:
            real_number(self.threshold, "threshold", 0, 1)
        if self.route not in get_args(TextRoute):
            raise BadPrompt(
                f"route must be one of {', '.join(get_args(TextRoute))}, not {self.route!r}", field="route"
            )
        if self.max_instances is not None:
            whole_number(self.max_instances, "max_instances", 1, MAX_INSTANCES)
        if self.hint_point is not None and len(self.phrases) != 1:
            raise BadPrompt(
                f"hint_point shows where one phrase is, and there are {len(self.phrases)}: ask for each by "
                "itself",
                field="hint_point",
            )
        if self.candidates is not None:
            earlier_instances(self.candidates, "candidates")
        if not isinstance(self.trust, bool):
            raise BadPrompt(f"trust must be true or false, not {self.trust!r}", field="trust")

    def words_of(self, phrase: str) -> tuple[str, ...]:
        """A phrase and its synonyms."""
        return (phrase, *self.synonyms.get(phrase, ()))


class TextAdapter:
    """Answers :class:`Text` with every object that a phrase names, the highest text score first."""

    request: type[Request] = Text

    def __call__(self, scene: Scene, request: Text) -> Instances:
        """Look for the phrases.

        Returns:
            Labelled instances, ranked by ``text_score``; empty where nothing fits well enough. Where a phrase
            has no answer though something was close, with ``suggested_points``.

        Raises:
            UsageError: no such text-image model or detector, or the preset has none.
            BadPrompt: a hint outside of the image, candidates of another image, the token route with weights
                that have no text slot.
        """
        from adapters.text_routes.vocabulary import Vocabulary

        _check_fits(scene, request)
        model = text_image_model(scene, request.clip, request.pretrained)
        words = Vocabulary.of(model, request.phrases, request.synonyms, request.negatives)
        return answer(sight_of(scene, model, request), words, request)


def text_image_model(scene: Scene, name: str | None, pretrained: str | None) -> TextImageModel:
    """The text-image model of that name; None: the preset's own.

    Raises:
        UsageError: there is none, or no such model.
    """
    if scene.companions is None:
        raise UsageError(
            "this scene has no text-image model: open it with a Composer", code="clip_missing", field="clip"
        )
    return scene.companions.text_image_model(name, pretrained)


def sight_of(scene: Scene, model: TextImageModel, request: Text) -> Sight:
    """The image with the request's candidates and detector; may be asked for several vocabularies."""
    from adapters.text_routes.sight import DetectorChoice, Sight

    choice = DetectorChoice(request.detector, request.trust, request.annotations)
    return Sight(scene, model, request.candidates, choice)


def answer(sight: Sight, words: Vocabulary, request: Text) -> Instances:
    """What :class:`TextAdapter` answers, from a sight of the image that may have been asked before."""
    from adapters.text_routes.hint import from_hint
    from adapters.text_routes.naming import settled, suggestions
    from adapters.text_routes.points import from_points

    route = route_of(request, sight.scene)
    if request.hint_point is not None:
        return from_hint(sight, words, masks_of(route, sight, words, request), request.hint_point)
    thresholds = thresholds_of(request, sight)
    found, named = settled(
        named_by(route, sight, words, request),
        words,
        thresholds,
        strict=strict_of(request),
        limit=request.max_instances,
        further=(lambda near: from_points(sight, words, near)) if route == "auto" else None,
    )
    places = suggestions(named, found, thresholds)
    return found.with_suggestions(places["points"], places["prompts"])


def route_of(request: Text, scene: Scene) -> TextRoute:
    """The request's route; ``auto`` is the preset's own where that names one, or ``rank`` of candidates."""
    if request.route != "auto":
        return request.route
    return scene.defaults.text_route if request.candidates is None else "rank"


def named_by(route: TextRoute, sight: Sight, words: Vocabulary, request: Text) -> Named:
    """The masks of a route and how well each phrase fits them. Raises as :class:`TextAdapter`."""
    from adapters.text_routes.detect import from_detector
    from adapters.text_routes.naming import Named
    from adapters.text_routes.points import from_points
    from adapters.text_routes.token import from_token

    meant = tuple(request.words_of(phrase) for phrase in request.phrases)
    if route == "token":
        return from_token(sight, words)
    if route == "points":
        return from_points(sight, words)
    parts = [from_detector(sight, words, meant)] if _detects(route, sight) else []
    if route != "detect":
        parts.append(sight.proposed.named(words))
    named = Named.concatenate(parts)
    return replace(named, between=lambda: sight.overlaps(named.instances))


def _detects(route: TextRoute, sight: Sight) -> bool:
    return route == "detect" or (route == "auto" and sight.has_detector)


def masks_of(route: TextRoute, sight: Sight, words: Vocabulary, request: Text) -> list[Instances]:
    """The masks of a route for the first phrase, not looked at. Raises as :class:`TextAdapter`."""
    from adapters.text_routes.detect import detected
    from adapters.text_routes.points import masks_of_map, relevance_maps
    from adapters.text_routes.token import prompted

    meant = (request.words_of(request.phrases[0]),)
    if route == "token":
        return [prompted(sight, words)]
    if route == "points":
        return [masks_of_map(sight, relevance_maps(sight, words)[..., 0])]
    found = [detected(sight, meant)] if _detects(route, sight) else []
    return found if route == "detect" else [*found, sight.candidates]


def thresholds_of(request: Text, sight: Sight) -> FloatArray:
    """(P,) least text scores: of the phrase, of the request, or the usual one."""
    usual = usual_threshold(sight.scene, sight.model, request.clip)
    if request.threshold is not None:
        usual = request.threshold
    return np.array([request.thresholds.get(phrase, usual) for phrase in request.phrases], np.float32)


def strict_of(request: Text) -> BoolArray:
    """(P,) phrases whose threshold the request names, which then counts for what a detector knows too."""
    return np.array([request.threshold is not None or p in request.thresholds for p in request.phrases])


def usual_threshold(scene: Scene, model: TextImageModel, clip: str | None) -> float:
    """Least text score where a request names none: the preset's, or that of the kind of model.

    The preset's was chosen for its own text-image model, and says nothing of another that ``clip`` names.
    """
    from adapters.text_routes.vocabulary import default_threshold

    preset = scene.defaults.text_threshold if clip is None else None
    return default_threshold(model) if preset is None else preset


def _checked_point(value: npt.ArrayLike) -> tuple[float, float]:
    point = number_array(value, "hint_point", "[x, y]")
    if point.shape != (2,):
        raise BadPrompt(f"hint_point must be [x, y], not of shape {point.shape}", field="hint_point")
    return float(point[0]), float(point[1])


def _check_fits(scene: Scene, request: Text) -> None:
    height, width = scene.size
    if request.hint_point is not None:
        x, y = request.hint_point
        if not (0 <= x < width and 0 <= y < height):
            raise BadPrompt(
                f"hint_point x={x:g}, y={y:g} is outside the image, {width} px wide and {height} px high",
                code="point_outside",
                field="hint_point",
                allowed={"x": [0, width - 1], "y": [0, height - 1]},
            )
    if request.candidates is not None:
        of_this_image(request.candidates, scene.size, "candidates")
