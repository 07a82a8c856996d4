"""Training the embedded detector: one class, "object", on the things of labelled photos."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.configs import check_keys, config_error, load_yaml
from composer.detector_data import write_dataset
from composer.detector_log import RESULTS, save_log
from composer.formats.atomic import ensure_folder, write_json
from composer.training_data import DataSet
from composer.training_sets import Validation, check_held_out, read_data, read_validation
from sam.allocation import keep_freed_memory
from sam.errors import UsageError

WEIGHTS, RECORD = "detector.safetensors", "run.json"
_NUMBERS = {"image_size": 416, "epochs": 10, "batch": 16, "seed": 0}
_CHOICES = ("start", "learning_rate", "mosaic", "average")
_KEYS = ("detector", "name", "description", "data", "validation", *_CHOICES, *_NUMBERS)


@dataclass(frozen=True)
class DetectorRun:
    """What a training file with a key ``detector`` says.

    Attributes:
        architecture: of ultralytics, such as ``yolo11n.yaml``.
        name: of the one class.
        image_size: side of the square that it looks at, pixels.
        epochs, batch, seed: of the training.
        sets: its photos, all of COCO-panoptic format; their weight is how often an epoch has each, rounded.
        long_side: larger photos are shrunk to this.
        root: folder that holds the sets, unless the caller names another.
        validation: the held-out photos.
        start: weights to start from, a detector of ours; None: from scratch.
        learning_rate: at its highest; None: ultralytics chooses.
        mosaic: share of the pictures that are put together of four photos.
        average: share of what was learnt in the result, the rest is ``start``; None: all of it is.
    """

    architecture: str
    name: str
    image_size: int
    epochs: int
    batch: int
    seed: int
    sets: tuple[DataSet, ...]
    long_side: int
    root: Path
    validation: Validation
    start: Path | None = None
    learning_rate: float | None = None
    mosaic: float = 1.0
    average: float | None = None


def is_detector_run(path: Path) -> bool:
    """Whether a training file is about a detector. Raises :class:`UsageError` for what is no YAML file."""
    return "detector" in load_yaml(path)


def read_detector_run(path: Path) -> DetectorRun:
    """Read and check a detector's training file.

    Raises:
        UsageError: an unknown key or a bad value, with its line.
    """
    values = load_yaml(path)
    check_keys(values, _KEYS, path)
    texts = {"detector": values.get("detector"), "name": values.get("name", "object")}
    for key, text in texts.items():
        if not isinstance(text, str) or not text:
            raise config_error(path, (key,), f"expected a text, not {text!r}")
    numbers: dict[str, Any] = {key: _whole(path, key, values.get(key, d)) for key, d in _NUMBERS.items()}
    sets, long_side, root = read_data(path, values)
    validation = read_validation(path, values.get("validation"))
    if validation is None or validation.format != "panoptic":
        raise config_error(path, ("validation",), "expected a mapping with `panoptic`: the held-out photos")
    for one in sets:
        if one.format != "panoptic":
            raise config_error(path, ("data", "sets", one.name), "a detector is trained on `panoptic` sets")
        if round(one.weight) < 1:
            raise config_error(
                path,
                ("data", "sets", one.name, "weight"),
                f"is how often an epoch has each photo, at least 1, not {one.weight!r}",
            )
    check_held_out(path, sets, validation)
    return DetectorRun(
        texts["detector"], texts["name"], **numbers,
        sets=sets, long_side=long_side, root=root, validation=validation, **_choices(path, values),
    )  # fmt: skip


def train(
    run: DetectorRun,
    folder: Path,
    *,
    data: Path,
    packed: Path,
    device: str,
    on_set: Callable[[str, int], None] | None = None,
) -> Path:
    """Train, or go on after the last whole epoch, and write the detector as a file of ours, beside its log.

    Args:
        run: what to train.
        folder: of the run; ultralytics keeps its own files in ``ultralytics/`` there.
        data: folder with the sets.
        packed: folder for the photos as ultralytics reads them.
        device: as torch names it.
        on_set: called with a set's name and its photos, when it has been written.

    Returns:
        The detector, :data:`WEIGHTS` in ``folder``.

    Raises:
        UsageError: the folder is of another run.
        UsageError, BadAnnotation: a set is missing or damaged.
        EnvironmentProblem: no space, or ultralytics cannot be imported.
    """
    from adapters.detector import train as train_detector

    held_out = (run.validation.source, run.validation.limit_images)
    dataset = write_dataset(
        run.sets, held_out, data, ensure_folder(packed), long_side=run.long_side, name=run.name, on_set=on_set
    )
    _keep_record(run, ensure_folder(folder) / RECORD)
    if device == "cpu":
        keep_freed_memory()
    detector = train_detector(
        run.architecture,
        dataset,
        ensure_folder(folder) / "ultralytics",
        image_size=run.image_size,
        epochs=run.epochs,
        batch=run.batch,
        seed=run.seed,
        device=device,
        start=run.start,
        learning_rate=run.learning_rate,
        mosaic=run.mosaic,
    )
    if run.start is not None and run.average is not None:
        detector.average_with(run.start, run.average)
    save_log(folder / "ultralytics" / RESULTS, folder)
    path = folder / WEIGHTS
    detector.save(path, image_size=run.image_size, metadata={"epochs": str(run.epochs)})
    return path


def _keep_record(run: DetectorRun, path: Path) -> None:
    """Say what the folder's run is of, or see that it is of this: ultralytics goes on with what it began."""
    wanted = {"detector": run.architecture, "name": run.name}
    wanted |= {key: getattr(run, key) for key in _NUMBERS}
    for key, default in (("start", None), ("learning_rate", None), ("mosaic", 1.0)):
        if (value := getattr(run, key)) != default:  # a run that is not about them has no word of them
            wanted[key] = value.name if isinstance(value, Path) else value
    if not path.is_file():
        write_json(path, wanted)
        return
    began = json.loads(path.read_text("utf-8"))
    other = [key for key in {**wanted, **began} if began.get(key) != wanted.get(key)]
    if other:
        raise UsageError(
            f"{path.parent} is of another run ({', '.join(f'{key}: {began.get(key)!r}' for key in other)}); "
            "choose another folder (--out)",
            code="run_differs",
            field="out",
        )


def _whole(path: Path, key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < (key != "seed"):
        raise config_error(path, (key,), f"expected a whole number, not {value!r}")
    return value


def _choices(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """How it is taught, where the file says so."""
    chosen: dict[str, Any] = {}
    for key, most, least_too in (
        ("learning_rate", 0.1, False),
        ("mosaic", 1.0, True),
        ("average", 1.0, False),
    ):
        value = values.get(key)
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= most or (value == 0 and not least_too):
            wanted = "from 0" if least_too else "above 0,"
            raise config_error(path, (key,), f"expected a number {wanted} to {most:g}, not {value!r}")
        chosen[key] = float(value)
    start = values.get("start")
    if start is not None:
        if not isinstance(start, str) or not start:
            raise config_error(
                path, ("start",), f"expected a file, from this file's own folder, not {start!r}"
            )
        chosen["start"] = path.parent / start
        if not chosen["start"].is_file():
            raise config_error(path, ("start",), f"no such file: {chosen['start']}")
    elif "average" in chosen:
        raise config_error(path, ("average",), "there is nothing to average with: name a `start`")
    return chosen
