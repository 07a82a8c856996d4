"""``sam-composer segment``: clicks, boxes, phrases, a detector, everything, proposals, edges."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from apps import detect_options, model_options, text_options
from apps.choices import EdgeSource
from apps.console import flowing

HELP = """Segment photos by clicks, boxes, phrases, a detector, or everything; propose objects; find edges.

Each photo is encoded once, whatever is asked of it. Results go to --out: NAME.json with masks (COCO RLE),
boxes, scores and timings, NAME.overlay.png to look at, NAME.edges.png (16 bits) for edges, a folder for each
further --format. Coordinates are pixels of the photo as it is displayed, counted from its top left corner.
"""
EPILOG = """
[bold]Examples[/bold]

One click on an object:

  sam-composer segment photo.jpg --point 520,375 --out out

Three clicks on ONE object, the last (label 0) on what is not part of it:

  sam-composer segment photo.jpg --point 520,375 --point 560,400 --point 610,400,0 --out out

Two boxes, an object each, by the published ViT-B:

  sam-composer segment photo.jpg --box 100,60,400,380 --box 420,80,700,360 --preset vit_b --out out

Every person and every bus, by the words, but no toys:

  sam-composer segment photo.jpg --text person --text bus --negative "a toy bus" --out out

Dogs that a detector finds (a .pt file runs code when it is read, hence the flag):

  sam-composer segment photo.jpg --detect --detector yolo11n.pt --trust-detector --class dog --out out

Five hundred object proposals, and edges for a picture:

  sam-composer segment photo.jpg --proposals 500 --edges --out out

Several steps, of which later ones use what earlier ones found (see `sam-composer pipeline list`):

  sam-composer segment photo.jpg --pipeline largest --out out

Everything, in a folder of photos, for COCO tools too:

  sam-composer segment PHOTOS --everything --format json,coco --out out

[bold]Exit codes[/bold]: 0 all done, 4 some images failed (one line each on stderr) and the others are done;
where nothing could be done: 2 wrong call, 3 bad image or prompt, 5 weights, 6 the machine.
"""
PROMPTS, GRID, EDGES = detect_options.PROMPTS, "With --everything", "With --edges"
RESULTS = "Results"


class Masks(str, enum.Enum):
    """Which masks of an ambiguous prompt to keep."""

    best = "best"
    all = "all"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("segment", help=flowing(HELP), epilog=flowing(EPILOG), no_args_is_help=True)(segment)


def segment(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE|DIR", help="Photos, and folders to search for photos.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.", rich_help_panel=RESULTS),
    ],
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            metavar="X,Y[,LABEL]",
            help="A click; label 1 (default) is on the object, 0 off it. Several are clicks on ONE object.",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            "--box",
            metavar="X1,Y1,X2,Y2",
            help="A box around an object. One object each.",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="PHRASE",
            help="What to look for, such as `a red car`: every object that it names. Can be repeated.",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    detect: Annotated[
        bool,
        typer.Option("--detect", help="What a detector finds, with its names.", rich_help_panel=PROMPTS),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--everything", help="Every object, by a grid of clicks.", rich_help_panel=PROMPTS)
    ] = False,
    proposals: Annotated[
        int | None,
        typer.Option(
            "--proposals",
            min=1,
            max=10_000,
            metavar="[N]",
            help="The N best masks that may be objects; without a number, 1000.",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    edges: Annotated[
        bool, typer.Option("--edges", help="How likely each pixel is an edge.", rich_help_panel=PROMPTS)
    ] = False,
    pipeline: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Steps, of a YAML file or by a name of `pipeline list`; instead of other prompts.",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    masks: Annotated[
        Masks,
        typer.Option(
            help="Of a click or box: the best mask, or all three candidates.", rich_help_panel=PROMPTS
        ),
    ] = Masks.best,
    negative: text_options.Negatives = None,
    synonym: text_options.Synonyms = None,
    text_threshold: text_options.TextThresholds = None,
    route: text_options.RouteOption = None,
    max_instances: text_options.MaxInstances = None,
    hint: text_options.Hint = None,
    clip: text_options.Clip = None,
    pretrained: text_options.Pretrained = None,
    zoom: detect_options.Zoom = None,
    detector: detect_options.Detector = None,
    trust_detector: detect_options.TrustDetector = False,
    classes: detect_options.Classes = None,
    conf: detect_options.Conf = None,
    annotations: detect_options.Annotations = None,
    points_per_side: Annotated[
        int | None,
        typer.Option(
            help="Clicks a side of the grid; time goes with its square. (default: 32)", rich_help_panel=GRID
        ),
    ] = None,
    pred_iou_thresh: Annotated[
        float | None,
        typer.Option(
            help="Keep masks whose predicted IoU exceeds this. (default: the preset's)", rich_help_panel=GRID
        ),
    ] = None,
    stability_score_thresh: Annotated[
        float | None,
        typer.Option(
            help="Keep masks at least this stable, 0 to 1. (default: the preset's)", rich_help_panel=GRID
        ),
    ] = None,
    crop_n_layers: Annotated[
        int | None,
        typer.Option(
            help="Zoom in for small objects: layer i looks at 4^i windows. (default: 0)", rich_help_panel=GRID
        ),
    ] = None,
    min_mask_region_area: Annotated[
        float | None,
        typer.Option(help="Fill holes and drop specks of fewer pixels. (default: 0)", rich_help_panel=GRID),
    ] = None,
    edge_source: Annotated[
        EdgeSource | None,
        typer.Option(
            help="How sharply masks end (the paper's way), the model's edge head, or both. "
            "(default: the preset's)",
            rich_help_panel=EDGES,
        ),
    ] = None,
    thin: Annotated[
        bool, typer.Option("--thin", help="Lines a pixel or two wide.", rich_help_panel=EDGES)
    ] = False,
    preset: model_options.PresetName = "tiny",
    checkpoint: model_options.Checkpoint = None,
    device: model_options.Device = "auto",
    precision: model_options.Precision = "auto",
    compile: model_options.Compile = False,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME,...",
            help="json, coco, sa1b, yolo, labelme, masks. The JSON report is written in any case.",
            rich_help_panel=RESULTS,
        ),
    ] = "json",
    overlay: Annotated[
        bool,
        typer.Option("--overlay/--no-overlay", help="NAME.overlay.png to look at.", rich_help_panel=RESULTS),
    ] = True,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Write into a folder that holds results of another run.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
) -> None:
    """The command; see ``HELP``."""
    knobs = {
        "points_per_side": points_per_side,
        "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_score_thresh,
        "crop_n_layers": crop_n_layers,
        "min_mask_region_area": min_mask_region_area,
    }
    given = {name: value for name, value in knobs.items() if value is not None}
    edge_fields = {"source": edge_source.value} if edge_source else {}
    detect_fields = {
        "classes": classes or None,
        "conf": conf,
        "detector": detector,
        "trust": trust_detector or None,
        "annotations": None if annotations is None else str(annotations),
    }
    text_fields = {
        "negatives": negative or None,
        "synonyms": synonym or None,
        "threshold": text_threshold or None,
        "route": route.value if route else None,
        "max_instances": max_instances,
        "hint_point": hint,
        "clip": clip,
        "pretrained": pretrained,
    }
    text_given = {name: value for name, value in text_fields.items() if value is not None}
    detect_given = {name: value for name, value in detect_fields.items() if value is not None}
    edges_given = edge_fields | ({"thin": True} if thin else {})
    from apps.prompt_options import MODEL_FIELDS, TEXT_OPTIONS, parse_pipeline, parse_requests
    from apps.segment_job import SegmentJob

    prompts = {
        "--point": point,
        "--box": box,
        "--detect": detect,
        "--text": text,
        **{TEXT_OPTIONS[name]: True for name in text_given if name not in MODEL_FIELDS},
        "--everything": everything,
        "--proposals": proposals,
        "--edges": edges,
        "--class": classes,
        "--conf": conf is not None,
        "--masks": masks is not Masks.best,
        "--zoom": zoom is not None,
        **{"--" + name.replace("_", "-"): True for name in given},
        "--edge-source": edge_source,
        "--thin": thin,
    }
    given_all = detect_given | text_given
    models = {name: given_all[name] for name in MODEL_FIELDS if name in given_all}
    job = SegmentJob(
        paths=images,
        out=out,
        requests=()
        if pipeline is not None
        else parse_requests(
            point or [],
            box or [],
            masks.value,
            everything,
            given,
            proposals,
            edges,
            edges_given,
            detect,
            detect_given,
            text or [],
            text_given,
            zoom=zoom,
        ),
        pipeline=None if pipeline is None else parse_pipeline(pipeline, prompts, models),
        preset=preset,
        checkpoint=checkpoint,
        device=device,
        precision=precision,
        compile=compile,
        formats=[name.strip() for name in formats.split(",") if name.strip()],
        overlay=overlay,
        overwrite=overwrite,
    )
    code = job.run()
    if code:
        raise typer.Exit(code)
