"""The report of one image: ``<stem>.json``, and ``<stem>.edges.png`` where edges were asked for."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from adapters.results import EdgeMap, Instances
from composer.formats.atomic import write_bytes, write_json
from composer.formats.base import Outcome, PerImageWriter


class JsonReportWriter(PerImageWriter):
    """Everything that is known about an image, as the HTTP service answers it too."""

    def write(self, stem: str, outcome: Outcome, folder: Path) -> list[Path]:
        """See :class:`composer.formats.base.Writer`. The report comes last: where it is, all of it is."""
        maps = [answer.result for answer in outcome.answers if isinstance(answer.result, EdgeMap)]
        files = [edge_file_name(stem, i) for i in range(len(maps))]
        written = [
            write_bytes(folder / name, edge_png(edges)) for name, edges in zip(files, maps, strict=True)
        ]
        return [*written, write_json(folder / f"{stem}.json", report(outcome, files))]


def edge_file_name(stem: str, index: int) -> str:
    """``<stem>.edges.png``, and ``<stem>.edges-2.png`` for a second edge request."""
    return f"{stem}.edges.png" if index == 0 else f"{stem}.edges-{index + 1}.png"


def edge_png(edges: EdgeMap) -> bytes:
    """The edge map as a 16-bit grey PNG: 0 to 65,535 stand for 0 to 1."""
    buffer = io.BytesIO()
    values = np.rint(edges.values.astype(np.float64) * 65535).astype(np.uint16)
    PILImage.fromarray(values).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def report(outcome: Outcome, edge_files: list[str]) -> dict[str, Any]:
    """The report as plain JSON values.

    Args:
        outcome: what was found.
        edge_files: where the edge maps are, in order.

    Returns:
        ``image``, ``model``, ``results`` (one for each answer), ``timings`` and, where they were counted,
        ``encoder_passes``; ``pipeline`` where there was one, whose outputs the results then are.
    """
    height, width = outcome.image.size
    image = {
        "file_name": outcome.image.file_name,
        "width": width,
        "height": height,
        "sha256": outcome.image.sha256,
    }
    files = iter(edge_files)
    results: list[dict[str, Any]] = []
    for answer in outcome.answers:
        entry: dict[str, Any] = {} if answer.name is None else {"name": answer.name}
        entry["request"] = dict(answer.request)
        if isinstance(answer.result, Instances):
            entry |= {"kind": "instances", "annotations": annotation_records(answer.result)}
            entry |= _suggestions(answer.result)
        else:
            entry |= {"kind": "edges", "file": next(files)}
        results.append(entry)
    told: dict[str, Any] = {
        "image": image,
        "model": dict(outcome.model),
        "results": results,
        "timings": dict(outcome.timings),
    }
    if outcome.encoder_passes is not None:
        told["encoder_passes"] = outcome.encoder_passes
    return told if outcome.pipeline is None else told | {"pipeline": dict(outcome.pipeline)}


def annotation_records(instances: Instances) -> list[dict[str, Any]]:
    """SA-1B records with label and scores; a score that was not computed is None."""
    records: list[dict[str, Any]] = instances.to_sa1b("")["annotations"]
    for record, instance in zip(records, instances, strict=True):
        record |= {
            "label": instance.label,
            "score": instance.score,
            "score_kind": instance.score_kind,
            "detector_score": _number(instance.detector_score),
            "text_score": _number(instance.text_score),
            "ambiguity": instance.ambiguity if instance.ambiguity >= 0 else None,
            "prompt_index": instance.prompt_index if instance.prompt_index >= 0 else None,
        }
        if instance.route is not None:
            record["route"] = instance.route
    return records


def _suggestions(instances: Instances) -> dict[str, Any]:
    """Where a click would settle what the answer is unsure about; nothing where it is not."""
    points, prompts = instances.suggested_points, instances.suggested_prompts
    if points is None or prompts is None:
        return {}
    pairs = zip(points.tolist(), prompts.tolist(), strict=True)
    return {"suggested_points": [{"point": point, "prompt_index": prompt} for point, prompt in pairs]}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
