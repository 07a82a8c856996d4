"""Short training runs of the embedded model, each with one thing changed, and what each shape costs.

    python benchmarks/search.py [FILE] [--data DIR] [--packed DIR] [--out DIR] [--only NAME...] [--json FILE]

FILE (benchmarks/search.yaml) names a training file, settings of every run in its place, and the runs with
what each changes: keys of the training file with dots between them, or of the model's shapes under
``shapes``. A run is trained by ``sam-composer train`` in a folder of its own, where it goes on after an
interruption; a finished one is not trained again. Then all models that were named encode a photo and answer a
click, taking turns.

Short runs say what learns faster, not where it would end. They are compared at their last validation, on the
training file's held-out photos.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import _models
import _report
import torch
import yaml
from _shared import ROOT

from composer.configs import load_yaml
from composer.presets import load_model_config
from sam.embedding import resize_longest_side
from sam.model import SegmentAnything
from sam.prompts import Prompts
from sam.training.run_log import read_log
from sam.variants import build_model

FILE = ROOT / "benchmarks/search.yaml"
SHAPES = "shapes."
FIGURES = ("miou@1", "oracle@1", "miou@3", "box")


def main() -> None:
    """Train what is not trained yet, time the models, print a table, write JSON and a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", default=FILE)
    parser.add_argument("--data", type=Path, help="folder of the sets; default: the training file's")
    parser.add_argument("--packed", type=Path, help="folder of the packed sets, for all runs")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/search")
    parser.add_argument("--only", nargs="+", help="names of runs; default: all")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--json", type=Path, default=_report.RESULTS / "search.json")
    options = parser.parse_args()
    told = load_yaml(options.file)
    runs = told["runs"]
    if unknown := sorted(set(options.only or ()) - set(runs)):
        parser.error(f"no run {unknown[0]!r} in {options.file}; there are {', '.join(runs)}")
    runs = {name: changes for name, changes in runs.items() if not options.only or name in options.only}
    data, packed = (None if path is None else path.resolve() for path in (options.data, options.packed))
    about = _report.machine()
    rows = []
    for name, changes in runs.items():
        folder = options.out.resolve() / folder_of(name)
        config = written(folder, options.file.parent / told["base"], {**told["settings"], **changes})
        train(config, folder, data, packed)
        rows.append({"name": name, "changes": changes, **outcome(folder, config)})
    costs(rows, options.out.resolve(), options.repeats)
    settings = {**told["settings"], "base": told["base"], "repeats": options.repeats}
    report = {"benchmark": "search", "machine": about, "settings": settings, "rows": rows}
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    picture = options.json.with_suffix(".png")
    draw(rows, picture)
    print(table(rows))
    print(f"written to {options.json} and {picture}")


def folder_of(name: str) -> str:
    """Of a run."""
    return name.replace(",", "").replace(" ", "-")


def written(folder: Path, base: Path, changes: Mapping[str, Any]) -> Path:
    """The training file and the model of one run, in its folder; one that holds another run is refused."""
    values = copy.deepcopy(load_yaml(base))
    shapes = copy.deepcopy(load_yaml(ROOT / "configs/models" / f"{values['model']}.yaml"))
    for key, value in changes.items():
        place(shapes if key.startswith(SHAPES) else values, key.removeprefix(SHAPES), value)
    values["model"] = "model.yaml"
    values["data"]["root"] = str((base.parent / values["data"]["root"]).resolve())
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("model.yaml", shapes), ("config.yaml", values)):
        path = folder / name
        if path.is_file() and load_yaml(path) != content:
            sys.exit(f"{path}: of a run with other settings; choose another folder with --out")
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "config.yaml"


def place(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b.c`` in nested mappings."""
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value


def train(config: Path, folder: Path, data: Path | None, packed: Path | None) -> None:
    """To the end, going on where it was stopped."""
    if (folder / "run/weights.safetensors").is_file():
        return
    command = [
        sys.executable,
        "-m",
        "apps.cli",
        "train",
        "--config",
        str(config),
        "--out",
        str(folder / "run"),
    ]
    for option, value in (("--data", data), ("--packed", packed)):
        command += [] if value is None else [option, str(value)]
    subprocess.run(command, cwd=ROOT, check=True)


def outcome(folder: Path, config: Path) -> dict[str, Any]:
    """Figures in percent of each validation and of the last, canvases, seconds, parameters."""
    log = read_log(folder / "run/log.jsonl")
    curve = [
        {"step": row["step"], **{name: round(100 * row[name], 1) for name in FIGURES}}
        for row in log
        if "box" in row
    ]
    phases = load_yaml(config)["phases"]
    model = build_model(load_model_config("model.yaml", folder))
    return {
        **curve[-1],
        "canvases": sum(phase["steps"] * phase["batch"] for phase in phases),
        "minutes": round(log[-1]["seconds"] / 60, 1),
        "million_parameters": round(sum(p.numel() for p in model.parameters()) / 1e6, 2),
        "curve": curve,
    }


def costs(rows: list[dict[str, Any]], out: Path, repeats: int) -> None:
    """Milliseconds of an image and of a click, models taking turns; into the rows."""
    photo = _models.photo()
    ways: dict[str, Callable[[], Any]] = {}
    for row in rows:
        folder = out / folder_of(row["name"])
        model = build_model(load_model_config("model.yaml", folder)).eval()
        model.prepare()
        ways[f"{row['name']}: encode"], ways[f"{row['name']}: click"] = encode_and_click(model, photo)
    seconds = _report.take_turns(ways, repeats)
    for row in rows:
        for part in ("encode", "click"):
            times = _report.summary(seconds[f"{row['name']}: {part}"])
            row[f"{part}_ms"] = round(1000 * times["median"], 1)


def encode_and_click(
    model: SegmentAnything, photo: _models.Pixels
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A photo to its embedding, and a click to three masks of low resolution."""
    resized = resize_longest_side(photo, model.image_size)
    embedding = model.encode([resized])[0]
    click = Prompts(points=torch.tensor([[[100.0, 100.0]]]), labels=torch.ones(1, 1, dtype=torch.long))
    return (
        lambda: model.encode([resized]),
        lambda: model.decode(embedding, click, multimask=True).low_res_logits(),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| run | parameters, M | encode, ms | click, ms | minutes | 1 click | oracle | 3 clicks | box |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = ("million_parameters", "encode_ms", "click_ms", "minutes", *FIGURES)
    lines += [f"| {row['name']} | " + " | ".join(str(row[key]) for key in keys) + " |" for row in rows]
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Held-out mean IoU of the runs below each other; a line where the first run is."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names = [row["name"] for row in rows]
    for key in FIGURES:
        [points] = axes.plot([row[key] for row in rows], names, "o", label=key)
        axes.axvline(rows[0][key], color=points.get_color(), alpha=0.4, linewidth=1)
    axes.invert_yaxis()
    axes.margins(y=0.1)
    axes.grid(axis="y", alpha=0.3)
    axes.set_xlabel("mean IoU, %, held out")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
