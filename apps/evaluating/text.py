"""``eval text``: phrases that are in a photo, and phrases that are not."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from apps.console import counting
from apps.evaluating.options import (
    MODEL,
    Checkpoint,
    Coco,
    Device,
    Json,
    LimitImages,
    Panoptic,
    Plot,
    Precision,
    PresetName,
    about_model,
    about_run,
    check_outputs,
    ground_truth,
    load_composer,
    title_of,
)
from apps.text_options import Clip, Pretrained, Route, TextThreshold

HELP = """Mean IoU of phrases that are in a photo, and false alarms of phrases that are not.

The names of a photo's categories are asked for one by one, then N of the other categories, drawn by --seed.
Each route is a row; --baselines adds FastSAM's rule (of all masks the one that fits best, always) and the
largest mask. The JSON file has the figures for other thresholds too, and for each phrase.
"""


class Categories(str, enum.Enum):
    """Which of a set's categories are asked for."""

    all = "all"
    things = "things"


def text(
    panoptic: Panoptic = None,
    coco: Coco = None,
    route: Annotated[
        list[Route] | None,
        typer.Option("--route", help="As for `segment`; can be repeated. (default: all that can be taken)"),
    ] = None,
    absent: Annotated[
        int, typer.Option("--absent", min=0, max=1000, metavar="N", help="Absent phrases for each photo.")
    ] = 5,
    vocabulary: Annotated[
        Categories, typer.Option(help="All categories, or things without stuff such as grass.")
    ] = Categories.all,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Measure FastSAM's rule and the largest mask too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of absent phrases.")] = 0,
    text_threshold: TextThreshold = None,
    clip: Clip = None,
    pretrained: Pretrained = None,
    detector: Annotated[
        str | None,
        typer.Option("--detector", metavar="FILE|NAME", help="As for `segment`.", rich_help_panel=MODEL),
    ] = None,
    trust_detector: Annotated[
        bool,
        typer.Option(
            "--trust-detector", help="Read a .pt file, which runs code in it.", rich_help_panel=MODEL
        ),
    ] = False,
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of a results file, as for `segment`.", rich_help_panel=MODEL),
    ] = None,
    limit_images: LimitImages = None,
    preset: PresetName = "tiny",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Evaluate phrases; the texts of the options say what each is."""
    from rich.console import Console

    from adapters.text import Text
    from composer.evaluation.text import TextProtocol, available_routes, evaluate_text
    from composer.evaluation.text_report import save_text_plot, text_table
    from composer.formats.atomic import write_json

    truth = ground_truth(panoptic, coco, None, limit_images)
    check_outputs(json, plot)
    request = Text(
        "anything",
        threshold=text_threshold,
        clip=clip,
        pretrained=pretrained,
        detector=detector,
        trust=trust_detector,
        annotations=None if annotations is None else str(annotations),
    )
    composer = load_composer(preset, checkpoint, device, precision)
    routes: Any = tuple(r.value for r in route or ())
    protocol = TextProtocol(
        request=request,
        routes=routes or available_routes(composer.open(truth.images[0].path), request),
        baselines=baselines,
        absent=absent,
        things_only=vocabulary is Categories.things,
        seed=seed,
    )
    with counting(len(truth), "photos") as (start, _):
        found = evaluate_text(composer.open, truth, protocol, start)
    title = title_of("text", composer, truth)
    Console().print(text_table(found, title))
    if json is not None:
        model = composer.companions.text_image_model(request.clip, request.pretrained)
        about = about_model(composer) | {"clip": model.name, "absent": absent, "seed": seed}
        about |= {"vocabulary": vocabulary.value} | about_run(truth.source)
        write_json(json, found.to_json() | about)
    if plot is not None:
        save_text_plot(plot, found, title)
