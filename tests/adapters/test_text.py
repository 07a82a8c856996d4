"""Phrases to instances, with a text-image model that knows colours and a segmenter with random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from adapters.base import Defaults, Scene
from adapters.detections import Detections
from adapters.relabel import Relabel, RelabelAdapter
from adapters.results import Instances
from adapters.text import Text, TextAdapter
from adapters.text_routes import hint, points, sight, token
from adapters.text_routes.hint import logits_of_mask
from adapters.text_routes.sight import Sight
from adapters.text_routes.vocabulary import Vocabulary
from composer.requests import request_record
from sam.errors import BadPrompt, UsageError
from sam.image_encoder.vit import ViTConfig
from sam.model import SegmentAnything
from sam.prompts import Prompts
from sam.variants import DecoderConfig, ModelConfig, build_model

MakeColoured = Callable[..., Any]
DISC, BAR, WALL = range(3)


def ask(coloured: Any, *phrases: str, **fields: Any) -> Instances:
    request = Text(*phrases, candidates=coloured.candidates, **({"route": "rank"} | fields))
    return TextAdapter()(coloured.scene, request)


def recorded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[Prompts]:
    """The prompts that go to the decoder, as they go."""
    asked: list[Prompts] = []
    decode = scene.decode

    def recording(prompts: Prompts, **options: Any) -> Any:
        asked.append(prompts)
        return decode(prompts, **options)

    monkeypatch.setattr(scene, "decode", recording)
    return asked


def with_slot(coloured: Any, model: SegmentAnything) -> Scene:
    """The same photo and text-image model, another segmenter."""
    return Scene(coloured.scene.image, model, lambda p: model.encode([p])[0], Defaults(), coloured.model)


@pytest.mark.parametrize("bias", [None, -45.0])
def test_each_phrase_finds_its_own(make_coloured: MakeColoured, bias: float | None) -> None:
    coloured = make_coloured(bias)
    found = ask(coloured, "red", "a green", "blue")
    assert {*found.labels} == {"red", "a green"} and len(found) == 2
    for label, number in (("red", DISC), ("a green", BAR)):
        row = found[found.labels.index(label)]
        assert row.rle == coloured.candidates.rles[number]
        assert row.text_score == row.score > 0.5 and row.route == "rank"
        assert row.predicted_iou == coloured.candidates.predicted_iou[number]
        assert np.isnan(row.detector_score)
    assert found.score_kind == "text_score"
    assert found.prompt_index.tolist() == [("red", "a green", "blue").index(label) for label in found.labels]


def test_what_is_not_there_is_not_found(make_coloured: MakeColoured) -> None:
    found = ask(make_coloured(), "blue")
    assert len(found) == 0 and found.score_kind == "text_score" and found.suggested_points is None


def test_each_mask_is_looked_at_once_for_all_phrases(make_coloured: MakeColoured) -> None:
    coloured = make_coloured()
    ask(coloured, "red", "green", "blue", synonyms={"blue": ["navy"]}, negatives=["yellow"])
    assert coloured.model.pictures == 2 * len(coloured.candidates)  # two looks


def test_thresholds_of_phrase_request_preset_and_kind(make_coloured: MakeColoured) -> None:
    score = float(ask(make_coloured(), "red").scores[0])
    above = score + (1 - score) / 2
    strict = make_coloured(defaults=Defaults(text_threshold=above))
    assert len(ask(strict, "red")) == 0
    assert len(ask(strict, "red", clip="another")) == 1  # the preset's says nothing of another model
    assert len(ask(strict, "red", threshold=0.2)) == 1
    assert len(ask(strict, "red", threshold=0.2, thresholds={"red": above})) == 0


def test_unsure_answers_say_where_to_click(make_coloured: MakeColoured) -> None:
    coloured = make_coloured(-60.0)  # of the sigmoid's middle: no mask is certain
    score = float(ask(coloured, "red", threshold=0.0).scores[0])
    assert score < 0.8
    found = ask(coloured, "green", "red", thresholds={"red": score * 1.2}, threshold=0.0)
    assert found.labels[0] == "green" and "red" not in found.labels
    assert found.suggested_prompts is not None and found.suggested_prompts.tolist() == [1]
    np.testing.assert_allclose(found.suggested_points, [[40, 45]], atol=2)
    assert found[:0].suggested_points is not None


def test_limits_and_negatives(make_coloured: MakeColoured) -> None:
    coloured = make_coloured()
    everything = ask(coloured, "brick", threshold=0.001)
    assert len(everything) >= 1
    assert len(ask(coloured, "brick", threshold=0.001, max_instances=1)) == 1
    assert len(ask(coloured, "red", "green", negatives=["dark red", "dark green"])) < 2


def test_automatic_candidates_and_the_way_to_points(make_coloured: MakeColoured) -> None:
    coloured = make_coloured()
    found = TextAdapter()(coloured.scene, Text("red", "green", threshold=0.0))
    assert len(found) and {*found.routes} <= {"rank", "points"}
    assert found.image_size == coloured.scene.size
    by_points = TextAdapter()(coloured.scene, Text("red", threshold=0.0, route="points"))
    assert {*by_points.routes} <= {"points"}


# ---- points ------------------------------------------------------------------------------------------------


def test_clicks_are_where_the_map_is_high_and_far_below(make_coloured: MakeColoured) -> None:
    relevance = np.zeros((9, 14), np.float32)
    relevance[2:4, 2:4] = 0.9
    relevance[6:8, 9:11] = 0.8
    on, off = points.clicks_of(relevance, (90, 140))
    assert len(on) == 2
    np.testing.assert_allclose(on[0], [29.5, 29.5], atol=11)
    np.testing.assert_allclose(on[1], [99.5, 69.5], atol=11)
    assert len(off) and np.hypot(*(off[:, None] - on[None]).transpose(2, 0, 1)).min() >= 0.12 * 140
    for flat in (np.full((9, 14), 0.5), np.zeros((9, 14)), np.full((9, 14), 0.01)):
        on, off = points.clicks_of(flat.astype(np.float32), (90, 140))
        assert on.shape == off.shape == (0, 2)


def test_of_a_clicks_three_masks_the_most_relevant_stays(
    make_coloured: MakeColoured, monkeypatch: pytest.MonkeyPatch
) -> None:
    coloured = make_coloured()
    asked: list[Prompts] = []

    def segment(scene: Scene, prompts: Prompts, **options: Any) -> Instances:
        asked.append(prompts)
        every = Instances.concatenate([coloured.candidates[[WALL, DISC, BAR]]] * len(prompts))
        return every.replace(prompt_index=np.repeat(np.arange(len(prompts)), 3))

    monkeypatch.setattr(points, "segment", segment)
    for phrase, number in (("red", DISC), ("green", BAR)):
        found = ask(coloured, phrase, route="points")
        assert found.rles == (coloured.candidates.rles[number],)
        assert found.routes == ("points",) and found.labels == (phrase,)
    prompts = asked[0]
    assert prompts.points is not None and prompts.labels is not None
    assert prompts.labels[:, 0].eq(1).all() and prompts.labels[:, 1:].eq(0).all()
    assert torch.hypot(*(prompts.points[0, 0] - torch.tensor([40.0, 45]))) < 20


def test_auto_clicks_where_nothing_passed_but_something_was_close(
    make_coloured: MakeColoured, monkeypatch: pytest.MonkeyPatch
) -> None:
    coloured = make_coloured()
    mixed = coloured.candidates[[WALL]]
    asked: list[Any] = []

    def from_points(seen: Sight, words: Vocabulary, near: Any) -> Any:
        asked.append(near)
        return seen.proposed.named(words).only(np.zeros(1, bool))

    monkeypatch.setattr(points, "from_points", from_points)
    monkeypatch.setattr(sight, "propose", lambda scene: mixed)
    best = float(sight_of(coloured, mixed).proposed.named(words_of(coloured, "red")).best()[0])
    unsure = TextAdapter()(coloured.scene, Text("red", threshold=best * 1.5))
    assert [near.tolist() for near in asked] == [[True]]
    assert len(unsure) == 0 and unsure.suggested_points is not None


def sight_of(coloured: Any, candidates: Instances) -> Sight:
    return Sight(coloured.scene, coloured.model, candidates)


def words_of(coloured: Any, *phrases: str) -> Vocabulary:
    return Vocabulary.of(coloured.model, phrases)


# ---- detect ------------------------------------------------------------------------------------------------


class FixedDetector:
    """Finds the disc and the bar, under names of its own."""

    def __init__(self, names: Sequence[str], labels: Sequence[str], open_vocabulary: bool = False) -> None:
        self.names, self.open_vocabulary = tuple(names), open_vocabulary
        boxes = np.array([[15, 20, 65, 70], [95, 20, 115, 70]], np.float32)
        self.found = Detections(boxes, np.array([0.8, 0.6], np.float32), tuple(labels))
        self.classes: list[Any] = []

    def detect(self, scene: Scene, *, classes: Any, conf: float, iou: float, limit: int) -> Detections:
        self.classes.append(classes)
        return self.found


def with_detector(coloured: Any, detector: FixedDetector) -> None:
    coloured.model.detector = lambda name, **options: detector


def test_a_detector_names_what_it_knows(make_coloured: MakeColoured) -> None:
    coloured = make_coloured()
    with_detector(coloured, FixedDetector(["Ball", "post"], ["Ball", "post"]))
    found = ask(coloured, "sphere", "pole", route="detect", synonyms={"sphere": ["ball"], "pole": ["Post"]})
    assert found.labels == ("sphere", "pole")
    np.testing.assert_allclose(found.text_score, [0.8, 0.6])
    np.testing.assert_allclose(found.detector_score, [0.8, 0.6])
    assert {*found.routes} == {"detect"}
    strict = ask(coloured, "sphere", route="detect", synonyms={"sphere": ["ball"]}, threshold=0.9)
    assert len(strict) == 0


def test_a_detector_with_an_open_vocabulary_is_asked_for_the_words(make_coloured: MakeColoured) -> None:
    coloured = make_coloured()
    detector = FixedDetector((), ["ball", "post"], open_vocabulary=True)
    with_detector(coloured, detector)
    found = ask(coloured, "sphere", "post", route="detect", synonyms={"sphere": ["ball"]})
    assert detector.classes == [("sphere", "ball", "post")]
    assert found.labels == ("sphere", "post")
    assert coloured.model.pictures == 0  # nothing left for the text-image model


@pytest.mark.parametrize("open_vocabulary", [False, True])
@pytest.mark.parametrize("bias", [None, -45.0])
def test_a_negative_takes_what_a_detector_names(
    make_coloured: MakeColoured, monkeypatch: pytest.MonkeyPatch, open_vocabulary: bool, bias: float | None
) -> None:
    """The detector calls the red disc and the green bar balls; what is red is not wanted."""
    coloured = make_coloured(bias)
    with_detector(coloured, FixedDetector(["ball"], ["ball", "ball"], open_vocabulary))
    boxed = coloured.candidates[[DISC, BAR]].replace(
        labels=("ball",) * 2, detector_score=np.array([0.9, 0.8], np.float32), routes=("detect",) * 2
    )
    monkeypatch.setattr(Sight, "detect", lambda *_: boxed)  # random weights give no mask of the disc
    vectors = {"ball": (0.7, 0.7, 0.1)}  # as much red as green
    monkeypatch.setattr(type(coloured.model), "KNOWN", {**coloured.model.KNOWN, **vectors})
    assert ask(coloured, "ball", route="detect").labels == ("ball", "ball")
    found = ask(coloured, "ball", route="detect", negatives=["red"])
    assert found.rles == (boxed.rles[1],)
    np.testing.assert_allclose(found.text_score, [0.8])


def test_the_model_names_boxes_of_a_detector_that_knows_no_names(
    make_coloured: MakeColoured, monkeypatch: pytest.MonkeyPatch
) -> None:
    coloured = make_coloured()
    with_detector(coloured, FixedDetector(["object"], ["object", "object"]))
    boxed = coloured.candidates.replace(
        labels=("object",) * 3,
        detector_score=np.array([0.3, 0.2, 0.15], np.float32),
        routes=("detect",) * 3,
        score_kind="text_score",
    )
    monkeypatch.setattr(Sight, "detect", lambda *_: boxed)  # random weights give no mask of the disc
    found = ask(coloured, "red", "green", "blue", route="detect", threshold=0.05)
    assert {*found.labels} <= {"red", "green"} and len(found)
    assert not np.isnan(found.detector_score).any()
    assert (found.text_score != found.detector_score).all()


def test_auto_takes_a_detector_beside_automatic_masks(
    make_coloured: MakeColoured, monkeypatch: pytest.MonkeyPatch
) -> None:
    coloured = make_coloured()
    monkeypatch.setattr(sight, "propose", lambda scene: coloured.candidates)
    with_detector(coloured, FixedDetector(["ball"], ["ball", "ball"]))
    found = TextAdapter()(coloured.scene, Text("ball", "red", "green"))
    assert {"detect", "rank"} == {*found.routes}
    assert {"ball", "green"} <= {*found.labels}
    chosen = ask(coloured, "ball", "green", route="auto")
    assert {*chosen.routes} == {"rank"}, "of the candidates that were given, and no others"


def test_no_detector_where_one_is_asked_for(make_coloured: MakeColoured) -> None:
    with pytest.raises(UsageError, match="no detector"):
        ask(make_coloured(), "red", route="detect")


# ---- token -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_slot_model() -> SegmentAnything:
    torch.manual_seed(0)
    encoder = ViTConfig(
        embed_dim=16,
        depth=1,
        num_heads=2,
        global_attn_indexes=(0,),
        image_size=64,
        patch_size=8,
        out_chans=32,
    )
    return build_model(
        ModelConfig("slot", encoder, DecoderConfig(embed_dim=32, num_heads=2, mlp_dim=32, text_dim=3))
    )


def test_the_token_route_prompts_with_the_text_vectors(
    make_coloured: MakeColoured, text_slot_model: SegmentAnything, monkeypatch: pytest.MonkeyPatch
) -> None:
    coloured = make_coloured()
    scene = with_slot(coloured, text_slot_model)
    asked: list[Prompts] = []
    decode = scene.decode
    monkeypatch.setattr(
        scene, "decode", lambda prompts, **kw: (asked.append(prompts), decode(prompts, **kw))[1]
    )
    found = TextAdapter()(
        scene, Text("red", "green", route="token", synonyms={"red": ["blue"]}, threshold=0.0)
    )
    assert asked[0].text is not None
    torch.testing.assert_close(asked[0].text, coloured.model.encode_phrases(["red", "green"]))
    assert {*found.routes} <= {"token"}
    for row in found:  # a mask answers the phrase that asked for it
        assert row.label == ("red", "green")[row.prompt_index]


def test_the_token_route_needs_weights_for_it(
    make_coloured: MakeColoured, text_slot_model: SegmentAnything
) -> None:
    with pytest.raises(BadPrompt, match="trained with a text slot") as refused:
        ask(make_coloured(), "red", route="token")
    assert refused.value.code == "text_slot_missing"
    coloured = make_coloured()
    coloured.model.width = 5
    scene = with_slot(coloured, text_slot_model)
    with pytest.raises(BadPrompt, match="of width 3, and colours gives 5") as refused:
        TextAdapter()(scene, Text("red", route="token"))
    assert refused.value.code == "text_slot_width"


# ---- a click to help ---------------------------------------------------------------------------------------


def test_a_hint_is_decoded_with_the_logits_of_the_mask_that_the_words_chose(
    make_coloured: MakeColoured, monkeypatch: pytest.MonkeyPatch
) -> None:
    coloured = make_coloured()
    scene = coloured.scene
    asked: list[Prompts] = []
    decode = scene.decode
    monkeypatch.setattr(
        scene, "decode", lambda prompts, **kw: (asked.append(prompts), decode(prompts, **kw))[1]
    )
    found = ask(coloured, "red", hint_point=(40, 45))
    assert len(found) == 1 and found.labels == ("red",) and found.routes == ("hint",)
    last = asked[-1]
    assert last.points is not None and last.points.tolist() == [[[40, 45]]]
    assert last.mask_logits is not None
    # The logits are those of the disc, in a quarter of the padded square's 64 pixels for the photo's 140.
    inside = last.mask_logits[0] > 0
    rows, columns = torch.nonzero(inside, as_tuple=True)
    cell = 140 / inside.shape[1]
    assert (
        abs(rows.float().mean() * cell - 45) < 2 * cell and abs(columns.float().mean() * cell - 40) < 2 * cell
    )
    assert abs(inside.sum() * cell**2 / (np.pi * 25**2) - 1) < 0.25


def test_a_hint_looks_at_the_masks_of_the_place_alone(make_coloured: MakeColoured) -> None:
    coloured = make_coloured()
    ask(coloured, "red", hint_point=(40, 45))
    # The candidate that is there, the click's three and the answer, each at two scales; some may be empty.
    assert coloured.model.pictures <= 2 * (1 + 3 + 1)
    without = make_coloured()
    nowhere = coloured.candidates[[BAR, WALL]]
    TextAdapter()(without.scene, Text("red", candidates=nowhere, route="rank", hint_point=(40, 45)))
    assert coloured.model.pictures == without.model.pictures + 2


@pytest.mark.parametrize("route", ["detect", "points", "token"])
def test_a_hint_feeds_back_a_mask_of_the_route(
    make_coloured: MakeColoured, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    coloured = make_coloured()
    monkeypatch.setattr(sight, "propose", lambda scene: pytest.fail("no grid of clicks for this route"))
    disc = sight.with_route(coloured.candidates[[BAR, DISC]], route)
    with_detector(coloured, FixedDetector(["thing"], ["thing"] * 2))
    monkeypatch.setattr(Sight, "detect", lambda *_: disc.replace(labels=("thing",) * 2))
    monkeypatch.setattr(points, "masks_of_map", lambda *_: disc)
    monkeypatch.setattr(token, "prompted", lambda *_: disc)
    fed: list[Any] = []
    monkeypatch.setattr(
        hint, "logits_of_mask", lambda scene, rle: (fed.append(rle), logits_of_mask(scene, rle))[1]
    )
    found = TextAdapter()(coloured.scene, Text("red", route=route, hint_point=(40, 45)))
    assert fed == [coloured.candidates.rles[DISC]]
    assert found.labels == ("red",) and found.routes == ("hint",)


def test_a_hint_outside_of_the_image(make_coloured: MakeColoured) -> None:
    with pytest.raises(BadPrompt, match="outside the image") as refused:
        ask(make_coloured(), "red", hint_point=(140, 3))
    assert refused.value.code == "point_outside"


def test_candidates_of_another_image(make_coloured: MakeColoured) -> None:
    coloured = make_coloured()
    with pytest.raises(BadPrompt, match="candidates are of an image of"):
        TextAdapter()(coloured.scene, Text("red", candidates=Instances.empty((10, 10))))


def test_a_scene_without_companions(make_coloured: MakeColoured) -> None:
    coloured = make_coloured()
    coloured.scene.companions = None
    with pytest.raises(UsageError, match="open it with a Composer"):
        ask(coloured, "red")


# ---- relabel -----------------------------------------------------------------------------------------------


def test_relabel_names_and_keeps_everything_else(make_coloured: MakeColoured) -> None:
    coloured = make_coloured()
    before = coloured.candidates.replace(labels=("a", "b", "c"))
    found = RelabelAdapter()(coloured.scene, Relabel(["red", "green"], before))
    assert found.labels == ("red", "green", None)
    assert found.rles == before.rles and found.score_kind == before.score_kind
    np.testing.assert_array_equal(found.scores, before.scores)
    assert found.text_score[0] > 0.5 > found.text_score[2] >= 0
    high = RelabelAdapter()(coloured.scene, Relabel(["red", "green"], before, threshold=1.0))
    assert high.labels == (None, None, None)
    against = RelabelAdapter()(coloured.scene, Relabel(["red", "green"], before, ["dark red"], 0.6))
    assert against.labels[1] == "green" and against.labels[0] is None
    assert "candidates" not in request_record(Relabel(["red"], before))


def test_relabel_of_what_phrases_had_found(make_coloured: MakeColoured) -> None:
    """Ranked and numbered by the old phrases, and unsure of them: all of that is about the new ones now."""
    coloured = make_coloured()
    before = coloured.candidates.replace(
        score_kind="text_score",
        prompt_index=np.full(3, 7),
        suggested_points=np.zeros((1, 2), np.float32),
        suggested_prompts=np.array([7]),
    )
    found = RelabelAdapter()(coloured.scene, Relabel(["green", "red"], before))
    assert found.labels == ("red", "green", None) and found.score_kind == "text_score"
    np.testing.assert_array_equal(found.scores, found.text_score)
    assert found.prompt_index[:2].tolist() == [1, 0] and found.suggested_points is None


def test_relabel_without_candidates_or_with_those_of_another_image(make_coloured: MakeColoured) -> None:
    scene = make_coloured().scene
    with pytest.raises(BadPrompt, match="needs candidates") as refused:
        RelabelAdapter()(scene, Relabel(["red"]))
    assert refused.value.code == "candidates_missing"
    with pytest.raises(BadPrompt, match="candidates are of an image"):
        RelabelAdapter()(scene, Relabel(["red"], Instances.empty((3, 3))))
    assert len(RelabelAdapter()(scene, Relabel(["red"], Instances.empty(scene.size)))) == 0
