"""Options such as ``--point 520,375`` to requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from adapters.base import Request
from adapters.boxes import Boxes
from adapters.decoding import Masks
from adapters.detect import Detect
from adapters.edges import Edges
from adapters.everything import Everything
from adapters.points import FOREGROUND, Points
from adapters.proposals import Proposals
from adapters.text import Text
from composer.pipeline import Pipeline
from composer.pipeline_files import load_pipeline
from sam.errors import UsageError

MODEL_FIELDS = {
    "detector": {"detect", "text"},
    "trust": {"detect", "text"},
    "annotations": {"detect", "text"},
    "clip": {"text", "relabel"},
    "pretrained": {"text", "relabel"},
}
"""Fields that the command line fills in, and the kinds of steps that have them."""
_DETECT_OPTIONS = {"classes": "--class", "trust": "--trust-detector"} | {
    name: f"--{name}" for name in ("conf", "iou", "detector", "annotations")
}
TEXT_OPTIONS = {
    "negatives": "--negative", "synonyms": "--synonym", "threshold": "--text-threshold",
    "route": "--route", "max_instances": "--max-instances", "hint_point": "--hint", "clip": "--clip",
    "pretrained": "--pretrained",
}  # fmt: skip
"""Options of --text by the field of :class:`Text` that they fill."""
_OF_DETECTOR = ("detector", "trust", "annotations")


def parse_requests(
    points: Sequence[str],
    boxes: Sequence[str],
    masks: Masks,
    everything: bool,
    grid: Mapping[str, Any],
    proposals: int | None = None,
    edges: bool = False,
    edge_fields: Mapping[str, Any] | None = None,
    detect: bool = False,
    detect_fields: Mapping[str, Any] | None = None,
    phrases: Sequence[str] = (),
    text_fields: Mapping[str, Any] | None = None,
    *,
    zoom: float | None = None,
) -> list[Request]:
    """The requests of one call, in the order points, boxes, text, detect, everything, proposals, edges.

    Args:
        points: ``X,Y`` or ``X,Y,LABEL``, all of them clicks on one object.
        boxes: ``X1,Y1,X2,Y2``, an object each.
        masks: for points and boxes.
        everything: whether all objects are asked for.
        grid: fields of :class:`Everything` that were given.
        proposals: how many, if they are asked for.
        edges: whether edges are asked for.
        edge_fields: fields of :class:`Edges` that were given.
        detect: whether a detector's objects are asked for.
        detect_fields: fields of :class:`Detect` that were given; its detector is also that of the phrases.
        phrases: what to look for by name.
        text_fields: fields of :class:`Text` that were given; synonyms, thresholds and hint point as texts.
        zoom: that of boxes, given ones and a detector's.

    Raises:
        UsageError: nothing asked for, a text that is no point or box, or options of what is not asked for.
        BadPrompt: numbers that no image could fit.
    """
    requests: list[Request] = []
    if zoom is not None and not boxes and not detect:
        _refuse("--zoom", "--box or --detect")
    if zoom is not None and detect:
        detect_fields = {**(detect_fields or {}), "zoom": zoom}
    if points:
        clicks = [
            _numbers(text, "--point", "X,Y or X,Y,LABEL such as 520,375 or 610,400,0", (2, 3))
            for text in points
        ]
        labels = [click[2] if len(click) == 3 else FOREGROUND for click in clicks]
        requests.append(Points([click[:2] for click in clicks], labels, masks=masks))
    if boxes:
        corners = [_numbers(text, "--box", "X1,Y1,X2,Y2 such as 100,60,400,380", (4,)) for text in boxes]
        requests.append(Boxes(corners, masks=masks, zoom=zoom))
    requests += _named(phrases, text_fields or {}, detect, detect_fields or {})
    if everything:
        requests.append(Everything(**grid))
    elif grid:
        _refuse("--" + next(iter(grid)).replace("_", "-"), "--everything")
    if proposals is not None:
        requests.append(Proposals(limit=proposals))
    if edges:
        requests.append(Edges(**(edge_fields or {})))
    elif edge_fields:
        _refuse({"source": "--edge-source", "thin": "--thin"}[next(iter(edge_fields))], "--edges")
    if not requests:
        raise UsageError(
            "nothing to segment: say what by --point X,Y, --box X1,Y1,X2,Y2, --text PHRASE, --detect, "
            "--everything, --proposals, --edges or --pipeline (see `sam-composer segment --help`)",
            field="requests",
        )
    return requests


def _named(
    phrases: Sequence[str], text_fields: Mapping[str, Any], detect: bool, detect_fields: Mapping[str, Any]
) -> list[Request]:
    """What is asked for by name. The detector serves phrases and `--detect` alike."""
    requests: list[Request] = []
    shared: dict[str, Any] = {}
    if phrases:
        shared = {name: detect_fields[name] for name in _OF_DETECTOR if name in detect_fields}
        requests.append(Text(*phrases, **shared, **_read_words(text_fields)))
    elif text_fields:
        _refuse(TEXT_OPTIONS[next(iter(text_fields))], "--text")
    if detect:
        requests.append(Detect(**detect_fields))
    else:
        for name in detect_fields.keys() - shared.keys():
            _refuse(_DETECT_OPTIONS[name], "--detect or --text" if name in _OF_DETECTOR else "--detect")
    return requests


def _read_words(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of :class:`Text`, with synonyms, thresholds and hint point as they are there."""
    read = dict(fields)
    if "hint_point" in read:
        read["hint_point"] = _numbers(read["hint_point"], "--hint", "X,Y such as 520,375", (2,))
    if "synonyms" in read:
        synonyms: dict[str, list[str]] = {}
        for text in read["synonyms"]:
            phrase, equals, word = (part.strip() for part in text.partition("="))
            if not equals:
                raise UsageError(
                    f"--synonym {text!r}: expected PHRASE=WORD such as sofa=couch", field="--synonym"
                )
            synonyms.setdefault(phrase, []).append(word)
        read["synonyms"] = synonyms
    if "threshold" in read:
        read |= _read_thresholds(read.pop("threshold"))
    return read


def _read_thresholds(texts: Sequence[str]) -> dict[str, Any]:
    """``T`` for all phrases, ``PHRASE=T`` for one."""
    found: dict[str, Any] = {}
    of_phrases: dict[str, float] = {}
    for text in texts:
        phrase, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError as error:
            raise UsageError(
                f"--text-threshold {text!r}: expected T or PHRASE=T such as 0.3 or dog=0.3",
                field="--text-threshold",
            ) from error
        if equals:
            of_phrases[phrase.strip()] = value
        elif "threshold" in found:
            raise UsageError(
                f"--text-threshold {text!r}: a second one for all phrases; for one write PHRASE={text}",
                field="--text-threshold",
            )
        else:
            found["threshold"] = value
    return found | ({"thresholds": of_phrases} if of_phrases else {})


def parse_pipeline(
    name: str, prompts: Mapping[str, Any], models: Mapping[str, Any] | None = None
) -> Pipeline:
    """The pipeline of ``--pipeline``, which stands instead of all other prompts.

    Args:
        name: of a pipeline, or a YAML file's path.
        prompts: values of the options that say what to segment, by option; those not given are falsy.
        models: fields that say by which models, for the steps that do not: ``detector``, ``trust``,
            ``annotations``, ``clip``, ``pretrained``.

    Raises:
        UsageError: another prompt beside it, a model that no step uses, or a pipeline that is none.
    """
    for option, value in prompts.items():
        if value:
            raise UsageError(
                f"{option} and --pipeline: a pipeline says all that is asked; give one or the other",
                field=option,
            )
    pipeline = load_pipeline(name)
    filled: dict[str, dict[str, Any]] = {}
    for field, value in (models or {}).items():
        kinds = MODEL_FIELDS[field] & {step.kind for step in pipeline}
        if not kinds:
            option = (_DETECT_OPTIONS | TEXT_OPTIONS)[field]
            raise UsageError(
                f"{option}: pipeline {pipeline.name} has no {' or '.join(sorted(MODEL_FIELDS[field]))} step",
                field=option,
            )
        for kind in kinds:
            filled.setdefault(kind, {})[field] = value
    for kind, fields in filled.items():
        pipeline = pipeline.with_fields(kind, **fields)
    return pipeline


def _refuse(option: str, needed: str) -> NoReturn:
    raise UsageError(f"{option} belongs to {needed}; add that, or leave it out", field=option)


def _numbers(text: str, option: str, expected: str, counts: tuple[int, ...]) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts:
        raise UsageError(f"{option} {text!r}: expected {expected}, in pixels", field=option)
    return values
