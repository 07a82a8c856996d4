"""``eval edges``: the BSDS500 boundary benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.choices import EdgeSource
from apps.console import counting
from apps.evaluating.options import (
    MODEL,
    RESULTS,
    Bsds,
    Checkpoint,
    Device,
    Json,
    LimitImages,
    Plot,
    Precision,
    PresetName,
    Split,
    about_model,
    about_run,
    check_outputs,
    load_composer,
    named,
    refuse_given,
)

if TYPE_CHECKING:
    from composer.composer import Composer
    from composer.evaluation.boundaries.evaluate import Predict
    from composer.evaluation.boundaries.truth import DrawnImage, DrawnSet

OF_THE_MODEL = (
    "edge_source", "points_per_side", "preset", "checkpoint", "device", "precision", "save_maps",
)  # fmt: skip
HELP = """Precision and recall of edges against boundaries that people drew: the BSDS500 benchmark.

Edges come from the model (thinned), or from files that any program wrote. ODS is F at the best threshold for
the whole set, OIS at the best for each photo, AP the area under the curve, R50 the recall at half precision.
"""


def edges(
    context: typer.Context,
    bsds: Bsds,
    split: Split = None,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="DIR", help="Maps to evaluate in place of the model's."),
    ] = None,
    edge_source: Annotated[
        EdgeSource | None,
        typer.Option(help="Of the model's edges. (default: the preset's)", rich_help_panel=MODEL),
    ] = None,
    points_per_side: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="Clicks a side of the grid.")
    ] = 16,
    thresholds: Annotated[
        int, typer.Option(min=1, max=999, metavar="N", help="How many, evenly spaced.")
    ] = 99,
    workers: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Processes for the matching. (default: one for each core)"),
    ] = None,
    limit_images: LimitImages = None,
    preset: PresetName = "tiny",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    precision: Precision = "auto",
    save_maps: Annotated[
        Path | None,
        typer.Option(
            "--save-maps", metavar="DIR", help="Keep the maps, as 16-bit PNG.", rich_help_panel=RESULTS
        ),
    ] = None,
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Evaluate edges; the texts of the options say what each is."""
    from rich.console import Console

    from composer.evaluation.boundaries.evaluate import evaluate_boundaries, maps_in
    from composer.evaluation.boundaries.report import boundary_table, save_curve
    from composer.evaluation.boundaries.truth import open_bsds
    from composer.formats.atomic import ensure_folder, write_json
    from sam.errors import UsageError

    truth = open_bsds(bsds, split).limited(limit_images)
    check_outputs(json, plot)
    if predictions is not None:
        refuse_given(context, OF_THE_MODEL, "--predictions")
        if not predictions.is_dir():
            raise UsageError(f"{predictions}: no such folder", field="predictions")
        predict, who = maps_in(predictions, truth, photo_size), predictions.resolve().name
        about: dict[str, Any] = {"predictions": str(predictions)}
    else:
        composer = load_composer(preset, checkpoint, device, precision)
        predict, request = of_model(composer, edge_source, points_per_side, save_maps)
        who = composer.preset.name
        about = about_model(composer) | {"request": request}
        if save_maps is not None:
            ensure_folder(save_maps)
    with counting(len(truth), "photos") as (start, _):
        found = evaluate_boundaries(truth, predict, thresholds=thresholds, workers=workers, on_image=start)
    title = named(f"edges: {who}", drawn_name(truth))
    Console().print(boundary_table(found, title))
    if json is not None:
        write_json(json, found.to_json() | about | {"split": truth.split} | about_run(truth.source))
    if plot is not None:
        save_curve(plot, found, title)


def photo_size(image: DrawnImage) -> tuple[int, int]:
    """(H, W) of a photo as it is displayed; decodes it, so that a damaged one is found. Raises BadImage."""
    from composer.images import open_image
    from composer.limits import shipped_limits

    return open_image(image.path, limits=shipped_limits()).size


def of_model(
    composer: Composer, source: EdgeSource | None = None, per_side: int = 16, save: Path | None = None
) -> tuple[Predict, dict[str, Any]]:
    """What gives a photo's thinned edges, and the request as JSON values.

    Args:
        composer: whose edges.
        source: of the edges; None: the preset's own.
        per_side: clicks a side of the grid.
        save: folder for the maps as 16-bit PNG, or None.
    """
    import numpy as np

    from adapters.edges import Edges, EdgesAdapter
    from composer.formats.atomic import write_bytes
    from composer.formats.json_report import edge_png
    from composer.requests import request_record

    chosen: Any = None if source is None else source.value
    request = Edges(points_per_side=per_side, source=chosen, thin=True)

    def predict(image: DrawnImage) -> Any:
        found = EdgesAdapter()(composer.open(image.path), request)
        if save is not None:
            write_bytes(save / f"{image.path.stem}.png", edge_png(found))
        return found.values.astype(np.float64)

    return predict, request_record(request)


def drawn_name(truth: DrawnSet) -> str:
    """The set and its split, for a title."""
    return " ".join([Path(truth.source).resolve().name, *([truth.split] if truth.split else [])])
