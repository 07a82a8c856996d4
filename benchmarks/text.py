"""Where the time of a text request goes, beside a loop that shows each crop to CLIP once for each phrase.

    python benchmarks/text.py [--phrases N...] [--clips NAME...] [--repeats N] [--no-loop] [--json FILE]

`tiny` finds the masks of bus.jpg; they are named by its own small CLIP, and by one of ViT-B-32's shape with
random weights, which takes the time that a trained one takes. What is timed is the route `rank`, without
encoding the photo: proposing masks, cutting crops, CLIP on pictures, CLIP on words (nothing is kept from one
round to the next), and scoring.

The loop is our rendering of how such tools are often put together (segment, then for each phrase crop every
mask and let CLIP compare), not a measurement of any of them: same masks, one crop for each with the
background greyed, one forward pass of CLIP for each crop and phrase. Ours shows CLIP two crops of each mask,
once.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _models
import _report
import numpy as np
import torch

from adapters.base import Scene
from adapters.clip import TextImageModel
from adapters.companions import Companions
from adapters.detections import Detector
from adapters.results import Instances
from adapters.text import Text, TextAdapter
from adapters.text_routes import naming, sight
from adapters.visual_prompts import Look, show_region
from composer import Composer
from sam.errors import UsageError

PHRASES = (
    "person", "bus", "tree", "window", "wheel", "shoe", "road", "sign", "jacket", "building", "bag", "door",
    "mirror", "light", "sky", "dog",
)  # fmt: skip
CLIPS = ("tiny", "ViT-B-32")
LOOP = "crop by crop, for each phrase"
LOOP_LOOK = Look(1.0, "grey")


class OneModel(Companions):
    """A text-image model for every name, and no detector."""

    def __init__(self, model: TextImageModel) -> None:
        self.model = model

    def detector(self, name: str | None, *, trust: bool, annotations: str | None) -> Detector:
        """There is none."""
        raise UsageError("no detector here", code="detector_missing", field="detector")

    def text_image_model(self, name: str | None, pretrained: str | None) -> TextImageModel:
        """The one model."""
        return self.model


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phrases", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=list(CLIPS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--loop", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path, default=_report.RESULTS / "text.json")
    options = parser.parse_args()
    if not all(0 < count <= len(PHRASES) for count in options.phrases):
        parser.error(f"--phrases: numbers from 1 to {len(PHRASES)}")
    settings = {"phrases": options.phrases, "repeats": options.repeats, "photo": "bus.jpg, 810 x 1080"}
    about = _report.machine()
    composer = Composer.load("tiny")
    scene = composer.open(_models.bundled_photo())
    scene.run(Text(PHRASES[0], route="rank"))  # imports and first uses are not what is measured
    rows = []
    for clip in options.clips:
        model = clip_of(clip, composer)
        scene.companions = OneModel(model)
        masks = sight.propose(scene)
        for count in options.phrases:
            rows += rows_of(clip, scene, model, masks, PHRASES[:count], options.repeats, options.loop)
            print(f"{clip}, {count} phrases: done", flush=True)
    _report.write("text", settings, rows, about, options.json)


def clip_of(name: str, composer: Composer) -> TextImageModel:
    """The preset's own model, or one of an architecture's shape with random weights."""
    if name == "tiny":
        return composer.companions.text_image_model(None, None)
    import open_clip

    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # it warns that the weights are random
    model = open_clip.create_model(name)
    logging.disable(logging.NOTSET)
    return TextImageModel(model, open_clip.get_tokenizer(name), f"{name}, random", torch.device("cpu"))


def rows_of(
    clip: str,
    scene: Scene,
    model: TextImageModel,
    masks: Instances,
    phrases: tuple[str, ...],
    repeats: int,
    loop: bool,
) -> list[dict[str, Any]]:
    """Rows of both ways, ours with its stages."""
    request, adapter = Text(*phrases, route="rank"), TextAdapter()
    stages: list[dict[str, float]] = []

    def ours() -> None:
        model._phrases.clear()
        with timed_stages(model) as spent:
            started = time.perf_counter()
            adapter(scene, request)
            spent["scoring"] = time.perf_counter() - started - sum(spent.values())
        stages.append(dict(spent))

    ways: dict[str, Callable[[], Any]] = {_report.OURS: ours}
    if loop:
        ways[LOOP] = lambda: in_a_loop(scene, model, phrases)
    seconds = _report.take_turns(ways, repeats, warm_up=False)
    medians = {
        f"{stage}_seconds": _report.summary([one[stage] for one in stages])["median"] for stage in stages[0]
    }
    case = f"{clip} CLIP, {len(phrases)} {'phrase' if len(phrases) == 1 else 'phrases'}"
    return _report.rows_of(case, seconds, {_report.OURS: {"masks": len(masks), **medians}})


@contextmanager
def timed_stages(model: TextImageModel) -> Iterator[dict[str, float]]:
    """Seconds in each stage while it lasts: the functions that do them are wrapped."""
    spent = {"masks": 0.0, "crops": 0.0, "pictures": 0.0, "words": 0.0}
    places: list[tuple[Any, str, str]] = [
        (sight, "propose", "masks"),
        (naming, "show_region", "crops"),
        (model, "encode_pictures", "pictures"),
        (model, "encode_phrases", "words"),
    ]
    whole = {(owner, name): getattr(owner, name) for owner, name, _ in places}
    for owner, name, stage in places:
        setattr(owner, name, clocked(whole[owner, name], spent, stage))
    try:
        yield spent
    finally:
        for (owner, name), function in whole.items():
            if owner is model:
                delattr(model, name)  # its class has it
            else:
                setattr(owner, name, function)


def clocked(call: Callable[..., Any], spent: dict[str, float], stage: str) -> Callable[..., Any]:
    """``call``, its seconds added to ``spent``."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            spent[stage] += time.perf_counter() - started

    return wrapped


def in_a_loop(scene: Scene, model: TextImageModel, phrases: tuple[str, ...]) -> np.ndarray[Any, Any]:
    """(masks, phrases) cosines, each crop cut and shown anew for each phrase; masks are proposed once."""
    masks = sight.propose(scene)
    side = max(model.size)
    cosines = np.zeros((len(masks), len(phrases)), np.float32)
    for column, phrase in enumerate(phrases):
        model._phrases.clear()
        words = model.encode_phrases([phrase], ["a photo of a {}."])
        for row, (rle, box) in enumerate(zip(masks.rles, masks.boxes, strict=True)):
            crop = show_region(scene.image, rle, box, side, LOOP_LOOK)
            cosines[row, column] = float(model.encode_pictures([crop]) @ words[0])
    return cosines


if __name__ == "__main__":
    main()
