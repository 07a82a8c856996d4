"""Pipelines: steps from steps, one encoder pass, and every way to write one wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from adapters.base import Request
from adapters.detections import Detections
from adapters.results import EdgeMap, Instances
from adapters.rle import encode_mask
from composer import (
    Boxes,
    Composer,
    Detect,
    Edges,
    Everything,
    From,
    Pipeline,
    PipelineResult,
    Points,
    Select,
    Step,
    Text,
    load_pipeline,
)
from composer.limits import Limits
from composer.pipeline import run_steps
from composer.pipeline_files import describe_pipeline, pipeline_names
from composer.pipeline_picture import columns_of, save_picture
from composer.requests import request_record
from composer.steps import _points
from sam.errors import BadPrompt, EnvironmentProblem, SamComposerError, UsageError

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def composer(small_preset: Path) -> Composer:
    return Composer.load(small_preset, device="cpu", precision="fp32")


class FixedDetector:
    """Finds a disc and a bar in the photo, whatever it is asked, or nothing."""

    def __init__(self, boxes: Sequence[Sequence[float]]) -> None:
        names = ("disc", "bar")[: len(boxes)]
        self.found = Detections(np.array(boxes, np.float32), np.array([0.8, 0.6][: len(boxes)]), names)

    def detector(self, name: str | None, **_: object) -> FixedDetector:
        return self

    def detect(self, scene: object, **_: object) -> Detections:
        return self.found


def scene_with(composer: Composer, photo: Pixels, boxes: Sequence[Sequence[float]]) -> Any:
    scene = composer.open(photo)
    scene.companions = FixedDetector(boxes)  # type: ignore[assignment]
    return scene


DISC, BAR = [15, 20, 65, 70], [95, 20, 115, 70]
CHAIN = Pipeline(
    [
        Step("found", Detect(["disc", "bar"], refine=0)),
        Step("masks", Boxes, boxes=From("found")),
        Step("clicks", "points", points=From("masks")),
        Step("discs", Select, candidates=From("clicks"), labels=["disc"]),
        Step("common", Select, candidates=From("clicks"), other=From("discs"), operation="intersect"),
    ]
)


def test_steps_use_what_earlier_steps_found(composer: Composer, photo: Pixels) -> None:
    result = scene_with(composer, photo, [DISC, BAR]).run(CHAIN)
    assert isinstance(result, PipelineResult) and list(result) == [
        "found",
        "masks",
        "clicks",
        "discs",
        "common",
    ]
    found, masks, clicks = (result[name] for name in ("found", "masks", "clicks"))
    scene = composer.open(photo)
    assert masks.rles == scene.run(Boxes(found.boxes)).rles
    assert clicks.rles == scene.run(Points(_points(masks, np.arange(2)))).rles
    # Each click lies on its mask, and farther from its outline than any other pixel does.
    for point, mask in zip(clicks.points, masks.masks, strict=True):
        assert mask[int(point[1]), int(point[0])]
    assert result["discs"].rles == clicks.rles[:1]
    assert result["common"].masks.tolist() == [m.tolist() for m in clicks.masks & clicks.masks[0]]


def test_labels_and_scores_carry_through(composer: Composer, photo: Pixels) -> None:
    result = scene_with(composer, photo, [DISC, BAR]).run(CHAIN)
    for name in ("found", "masks", "clicks"):
        assert result[name].labels == ("disc", "bar")
        np.testing.assert_allclose(result[name].detector_score, [0.8, 0.6])
    # What ranks is still the new masks' own estimate.
    np.testing.assert_array_equal(result["masks"].scores, result["masks"].predicted_iou)


def test_three_masks_for_each_box_inherit_its_label(composer: Composer, photo: Pixels) -> None:
    three = Pipeline([Step("found", Detect()), Step("three", Boxes, boxes=From("found"), masks="all")])
    result = scene_with(composer, photo, [DISC, BAR]).run(three)["three"]
    assert result.labels == ("disc",) * 3 + ("bar",) * 3
    assert result.prompt_index.tolist() == [0, 0, 0, 1, 1, 1] and result.ambiguity.tolist() == [0, 1, 2] * 2


def test_one_encoder_pass(small_preset: Path, photo: Pixels) -> None:
    composer = Composer.load(small_preset, device="cpu", precision="fp32")
    pipeline = Pipeline(
        [
            Step("all", Everything(points_per_side=2, box_nms_thresh=1.0, max_mask_area_fraction=None)),
            Step("again", Boxes, boxes=From("all")),
            Step("large", Select, candidates=From("again"), largest=2),
            Step("edges", Edges, within=From("large"), points_per_side=2),
        ]
    )
    result = composer.run(photo, pipeline)
    assert composer.cache.stats.encodes == 1 and composer.cache.stats.hits == 0
    assert list(result.outputs) == ["edges"] and isinstance(result["edges"], EdgeMap)
    assert len(result["large"]) == 2


def test_nothing_found_is_no_error(
    composer: Composer, photo: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = Step("edges", Edges, within=From("discs"), points_per_side=1)
    decodes = []
    scene = scene_with(composer, photo, [])
    monkeypatch.setattr(scene, "decode", lambda *a, **k: decodes.append(1))
    result = scene.run(CHAIN)
    assert [len(found) for found in result.values()] == [0] * 5
    assert not decodes
    monkeypatch.undo()
    result = scene.run(Pipeline([*CHAIN.steps, edges]))
    assert not result["edges"].values.any()


def mask_of(*rows: str) -> Any:
    return encode_mask(np.array([[c == "#" for c in row] for row in rows]))


def test_the_point_of_a_mask_is_its_deepest_pixel() -> None:
    ring = mask_of("#####", "#...#", "#.#.#", "#...#", "#####")
    block = mask_of(".....", ".###.", ".###.", ".###.", ".....")
    found = Instances((5, 5), (ring, block), np.array([[0, 0, 5, 5], [1, 1, 4, 4]]), np.ones(2))
    assert _points(found, np.array([0, 1])).tolist() == [[[0, 0]], [[2, 2]]]


def test_an_empty_mask_prompts_for_nothing_and_numbers_stay(composer: Composer, photo: Pixels) -> None:
    masks = np.zeros((3, 90, 140), bool)
    masks[0, 10:30, 10:30] = masks[2, 40:60, 50:80] = True
    rles = tuple(map(encode_mask, masks))
    boxes = np.array([[10, 10, 30, 30], [0, 0, 0, 0], [50, 40, 80, 60]], np.float32)
    found = Instances((90, 140), rles, boxes, np.ones(3), labels=("a", "b", "c"))
    for field, request in (("boxes", Boxes), ("points", Points)):
        step = Step("masks", request, **{field: From("found")})
        result = step.answer(composer.open(photo), {"found": found})
        assert isinstance(result, Instances)
        assert result.labels == ("a", "c") and result.prompt_index.tolist() == [0, 2]


def test_outputs(composer: Composer, photo: Pixels) -> None:
    steps = CHAIN.steps
    assert CHAIN.outputs == ("common",)
    assert Pipeline(steps, ["common", "masks", "common"]).outputs == ("common", "masks")
    assert Pipeline(steps[:1]).outputs == ("found",)
    result = scene_with(composer, photo, [DISC]).run(Pipeline(steps, ["common", "masks"]))
    assert list(result.outputs) == ["common", "masks"] and len(result) == 5
    # Logits that nobody will read are not kept.
    assert result["masks"].low_res_logits is not None and result["clicks"].low_res_logits is None


def test_steps_are_answered_as_they_are_asked_for(composer: Composer, photo: Pixels) -> None:
    steps = run_steps(scene_with(composer, photo, [DISC]), CHAIN)
    step, result = next(steps)
    assert step.name == "found" and len(result) == 1


def test_what_goes_wrong_names_the_step(composer: Composer, photo: Pixels) -> None:
    outside = Pipeline([Step("all", Everything(points_per_side=1)), Step("click", Points([[500, 5]]))])
    with pytest.raises(BadPrompt, match=r"step 'click': point 0 .* is outside the image") as error:
        composer.run(photo, outside)
    assert (error.value.field, error.value.code) == ("click.points", "point_outside")
    with pytest.raises(UsageError, match=r"step 'found': .*detector"):
        composer.run(photo, Pipeline([Step("found", Detect())]))


def test_more_steps_than_the_limits_allow(small_preset: Path, photo: Pixels) -> None:
    composer = Composer.load(small_preset, device="cpu", limits=Limits(max_requests=2))
    with pytest.raises(UsageError, match="5 steps; at most 2"):
        composer.run(photo, CHAIN)
    with pytest.raises(UsageError, match="5 steps; at most 2"):
        composer.open(photo).run(CHAIN)


@pytest.mark.parametrize(
    ("make", "field", "said"),
    [
        (lambda: Step("2nd", Everything()), "name", "starts with no digit"),
        (lambda: Step("a b", Everything()), "name", "'a b'"),
        (lambda: Step("a" * 65, Everything()), "name", "up to 64"),
        (lambda: Step(None, Everything()), "name", "'None'"),
        (lambda: Step("a", "everythin"), "a.kind", "did you mean 'everything'"),
        (lambda: Step("a", 7), "a", "give a request"),
        (lambda: Step("a", Detect(), conf=1), "a.conf", "belong to a request's class"),
        (lambda: Step("a", Detect, confs=1), "a.confs", "did you mean 'conf'"),
        (lambda: Step("a", Detect, conf=7), "a.conf", "from 0 to 1, not 7"),
        (lambda: Step("a", Detect, classes=7), "a.classes", "classes must be names"),
        (lambda: Step("a", Detect, conf=From("b")), "a.conf", "no field of detect can"),
        (lambda: Step("a", Select, candidates=From("b"), best=From("b")), "a.best", "only candidates, other"),
        (lambda: Step("a", Select, candidates="people"), "a.candidates", "{from: STEP}"),
        (lambda: Step("a", Select), "a.candidates", "select needs candidates"),
        (lambda: Step("a", Select, candidates=From("b"), largest=0), "a.largest", "largest must be"),
        (lambda: Step("a", Boxes), "a.boxes", "boxes needs boxes"),
        (lambda: Step("a", Boxes, boxes=From("b"), margin=-1), "a.margin", "margin must be"),
        (lambda: Step("a", Points, points=From("b"), labels=[1]), "a.labels", "one click each"),
        (lambda: Pipeline([]), "steps", "at least one step"),
        (lambda: Pipeline([Everything()]), "steps", "step 1 is a Everything"),
        (lambda: Pipeline([Step("a", Detect()), Step("a", Detect())]), "a.name", "steps 1 and 2"),
        (lambda: Pipeline([Step("a", Detect())], ["b"]), "output", "known here: a"),
        (lambda: Pipeline([Step("a", Detect())], []), "output", "such as"),
        (lambda: Pipeline([Step("a", Detect())], "a"), "output", "such as"),
    ],
)
def test_mistakes(make: Any, field: str, said: str) -> None:
    with pytest.raises(SamComposerError) as error:
        make()
    assert said in str(error.value) and error.value.field == field


def boxes_of(name: str, source: str) -> Step:
    return Step(name, Boxes, boxes=From(source))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([boxes_of("a", "a")], "step 'a': boxes comes from the step itself: a cycle"),
        ([boxes_of("a", "b"), boxes_of("b", "a")], "from step 'b', which itself needs this one: a cycle"),
        (
            [boxes_of("a", "b"), boxes_of("b", "c"), boxes_of("c", "a")],
            "step 'a': boxes comes from step 'b', which itself needs this one: a cycle",
        ),
        ([boxes_of("a", "c"), boxes_of("c", "d"), boxes_of("d", "c")], "'c', which comes later"),
        ([boxes_of("a", "b"), Step("b", Detect())], "from step 'b', which comes later; move it before"),
        ([boxes_of("a", "b"), boxes_of("b", "b")], "from step 'b', which comes later"),
        ([Step("people", Detect()), boxes_of("a", "peple")], "no such step: did you mean 'people'?"),
        ([Step("people", Detect()), boxes_of("a", "xy")], "no such step; known here: people"),
        ([boxes_of("a", "xy")], "there is no step before this one"),
        ([Step("lines", Edges()), boxes_of("a", "lines")], "step 'lines', which finds edges, no instances"),
    ],
)
def test_references_that_lead_nowhere(steps: list[Step], said: str) -> None:
    with pytest.raises(UsageError) as error:
        Pipeline(steps)
    assert said in str(error.value) and error.value.field == f"{str(error.value).split(chr(39))[1]}.boxes"
    assert error.value.code == "pipeline_invalid"


def test_a_request_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """References go by a field's type and name, so that third-party requests take them too."""

    @dataclass(frozen=True, eq=False)
    class Keep(Request):
        kind: ClassVar[str] = "keep"
        earlier: Instances | None = None
        boxes: Any = None
        points: Any = None

    class KeepAdapter:
        request = Keep

        def __call__(self, scene: Any, request: Any) -> Any:
            return request.earlier

    monkeypatch.setattr("composer.steps.adapter_for", lambda kind: KeepAdapter())
    step = Step("kept", Keep, earlier=From("a"))
    found = Instances.empty((4, 5))
    assert step.answer(SimpleNamespace(), {"a": found}) is found
    with pytest.raises(UsageError, match="'a' found edges, and no instances"):
        step.answer(SimpleNamespace(), {"a": EdgeMap(np.zeros((4, 5)))})
    several = [Step("a", Keep), Step("b", Keep), Step("c", Keep, boxes=From("a"), points=From("b"))]
    with pytest.raises(UsageError, match="boxes and points must come from the same step"):
        Pipeline(several)


def test_one_place_to_say_which_detector() -> None:
    pipeline = Pipeline([Step("a", Detect(["dog"])), Step("b", Detect(detector="own.pt"))])
    changed = pipeline.with_fields("detect", detector="yolo.pt", trust=True)
    requests = [step.request for step in changed]
    assert [(r.detector, r.trust) for r in requests] == [("yolo.pt", True), ("own.pt", True)]  # type: ignore[attr-defined]
    assert requests[0].classes == ("dog",)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="no edges step"):
        pipeline.with_fields("edges", thin=True)


def test_phrases_that_were_made_in_python_take_models_too() -> None:
    steps = [Step("a", Text("dog")), Step("b", Text("cat", clip="RN50", negatives=["toy"]))]
    changed = Pipeline(steps).with_fields("text", clip="ViT-B-32", detector="d.onnx")
    requests: list[Any] = [step.request for step in changed]
    assert [(r.phrases, r.clip, r.detector) for r in requests] == [
        (("dog",), "ViT-B-32", "d.onnx"),
        (("cat",), "RN50", "d.onnx"),
    ]
    assert set(steps[0].fields) == {"phrases"} and set(steps[1].fields) == {"phrases", "clip", "negatives"}


def test_the_record_is_plain_and_complete() -> None:
    record = CHAIN.record()
    assert json.loads(json.dumps(record)) == record
    assert record["output"] == ["common"]
    masks, clicks = record["steps"][1:3]
    assert masks == {
        "name": "masks",
        "kind": "boxes",
        "boxes": {"from": "found"},
        "masks": "best",
        "refine": 0,
    }
    assert clicks == {"name": "clicks", "kind": "points", "points": {"from": "masks"}, "masks": "best"}
    # A default that is written out is the same pipeline.
    explicit = Pipeline([*CHAIN.steps[:1], Step("masks", Boxes, boxes=From("found"), refine=0)])
    assert explicit.record()["steps"] == record["steps"][:2]
    assert "candidates" not in request_record(Select(Instances.empty((4, 5))))


# ---- files -----------------------------------------------------------------------------------------------


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


GOOD = """\
description: Discs
  and bars.
steps:
  - {name: found, detect: {classes: [disc, bar], refine: 0}}
  - name: masks
    boxes: {boxes: {from: found}}
  - {name: clicks, points: {points: {from: masks}}}
  - {name: discs, select: {candidates: {from: clicks}, labels: [disc]}}
  - {name: common, select: {candidates: {from: clicks}, other: {from: discs}, operation: intersect}}
"""


def test_a_file_is_the_same_pipeline(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path, GOOD))
    assert pipeline.record() == CHAIN.record()
    assert (pipeline.name, pipeline.description) == ("mine", "Discs and bars.")
    assert load_pipeline(write(tmp_path, GOOD + "output: [discs]\n")).outputs == ("discs",)
    assert load_pipeline(write(tmp_path, "steps: [{name: all, everything: }]")).outputs == ("all",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step: []", r"mine.yaml:1: step: unknown key; did you mean 'steps'\?"),
        ("steps: []", "mine.yaml:1: steps: expected a list"),
        ("description: x", "mine.yaml: steps: expected a list"),
        ("description: [x]\nsteps: [{name: a, everything: }]", "mine.yaml:1: description: expected a text"),
        ("steps:\n  - 7", "mine.yaml:2: step 1: expected a name and one kind of request.*, 7"),
        ("steps:\n  - everything: {}", "mine.yaml:2: step 1: .* found everything"),
        ("steps:\n  - {name: a}", "mine.yaml:2: step 1: .* found name"),
        ("steps:\n  - {name: a, edges: , detect: }", "mine.yaml:2: step 1: .* found name, edges, detect"),
        ("steps:\n  - name: a\n    detect: [dog]", "mine.yaml:3: step 'a': detect: expected fields"),
        ("steps:\n  - name: a\n    detekt: {}", r"mine.yaml:2: step 'a': .*did you mean 'detect'\?"),
        ("steps:\n  -\n    edges:\n    name: no", "mine.yaml:4: .*this is 'False'"),
        ("steps:\n  - name: a\n    detect:\n      conf: 7", r"mine.yaml:4: step 'a': conf must .* not 7"),
        ("steps:\n  - name: a\n    detect:\n      cnf: 1", r"mine.yaml:4: .*did you mean 'conf'\?"),
        ("steps:\n  - name: a\n    detect:\n      trust: true", "mine.yaml:4: step 'a': .* cannot vouch"),
        ("steps:\n  - name: a\n    detect: {conf: {from: b}}", "mine.yaml:3: .*conf cannot come from a step"),
        (
            "steps:\n  - name: a\n    select: {candidates: b}",
            "mine.yaml:3: .*{from: STEP} in a file, not 'b'",
        ),
        (
            "steps:\n  - name: a\n    select: {candidates: {from: b, x: 1}}",
            "mine.yaml:3: .*{from: STEP} in a file",
        ),
        ("steps:\n  - name: a\n    boxes: {boxes: {from: b}}", "mine.yaml:3: .*there is no step before"),
        (
            "steps:\n  - {name: a, edges: }\n  - {name: b, edges: }\n  - name: a\n    edges:",
            "mine.yaml:4: step 'a': steps 1 and 3 have the same name",
        ),
        ("steps:\n  - {name: a, edges: }\noutput: [b]", "mine.yaml:3: output 'b': there is no such step"),
        ("steps: [{name: a, everything: !!python/name:os.system }]", "mine.yaml:1: unknown tag"),
        ("steps: [" + "{name: a, edges: }," * 33 + "]", "have the same name"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        load_pipeline(write(tmp_path, text))
    assert error.value.exit_code == 2 and "\n" not in str(error.value)


def test_too_many_steps_in_a_file(tmp_path: Path) -> None:
    steps = [{"name": f"s{i}", "edges": None} for i in range(33)]
    with pytest.raises(UsageError, match="33 steps; at most 32"):
        load_pipeline(write(tmp_path, yaml.safe_dump({"steps": steps})))


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        UsageError, match=r"'cutot': did you mean 'cutout'\? known: carried, cutout, detected"
    ):
        load_pipeline("cutot")
    with pytest.raises(UsageError, match="no such file"):
        load_pipeline("none/here.yaml")


@pytest.mark.parametrize("name", pipeline_names())
def test_the_pipelines_that_come_with_it(name: str, tmp_path: Path) -> None:
    assert describe_pipeline(name).endswith(".")
    try:
        pipeline = load_pipeline(name)
    except EnvironmentProblem as error:
        pytest.skip(f"an adapter that is not here yet: {error}")
    assert pipeline.name == name
    assert save_picture(pipeline, tmp_path / "graph.svg").stat().st_size > 1000


def test_there_are_six_at_least() -> None:
    assert len(pipeline_names()) >= 6


# ---- the picture -----------------------------------------------------------------------------------------


def test_every_step_stands_to_the_right_of_what_it_needs() -> None:
    assert columns_of(CHAIN) == {"found": 0, "masks": 1, "clicks": 2, "discs": 3, "common": 4}


def test_a_picture(tmp_path: Path) -> None:
    from PIL import Image

    from composer.pipeline_picture import _layout

    boxes, passages, (width, height) = _layout(CHAIN)
    assert list(passages) == [("clicks", "common")]
    for box in boxes.values():
        assert min(box.x, box.y) >= 0
        assert box.x + box.width <= width and box.y + box.height <= height
        for x, y in passages["clicks", "common"]:  # the arrow passes beside the boxes
            assert not (box.x < x < box.x + box.width and box.y < y < box.y + box.height)
    with Image.open(save_picture(CHAIN, tmp_path / "graph.png")) as picture:
        assert picture.width > picture.height > 50
    svg = save_picture(CHAIN, tmp_path / "graph.svg").read_text()
    assert svg.count("<path") > 5
    with pytest.raises(UsageError, match=r"ends in \.png"):
        save_picture(CHAIN, tmp_path / "graph.jpeg")
