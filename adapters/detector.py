"""Detectors of ultralytics: the only module that imports that package (docs/decisions/0006).

It is imported when a detector is first used: it is AGPL-3.0, takes a second, and writes a settings file. Its
telemetry and its habit of installing packages are switched off first.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from adapters.base import Scene
from adapters.detections import Detections
from adapters.own_detectors import OWN_SUFFIX, About, read_about
from sam.checkpoints import load_weights, save_weights
from sam.errors import CheckpointError, EnvironmentProblem, UsageError

CODELESS = ".onnx"
"""The one kind of file of ultralytics' that is read without running code of its author's. Whatever is not
named here needs trust: a pickle may have any suffix, and none."""
DESCRIPTIONS = (".yaml", ".yml")
TASKS = ("detect", "segment", "pose")
"""Kinds of ultralytics models whose answers have upright boxes."""
NAMES_LISTED = 80
TEXT_MODEL_PACKAGES = {"clip": "pip install git+https://github.com/ultralytics/CLIP.git"}
"""What is not on PyPI under the name by which it is imported."""


class UltralyticsDetector:
    """A detector, its vocabulary and the side of the square that it looks at.

    Attributes:
        names: the classes that it knows, in the order of their numbers.
        open_vocabulary: it takes any phrase as a class.
    """

    def __init__(self, model: Any, where: str, image_size: int | None = None) -> None:
        self._model = model
        self._where = where
        self._image_size = image_size
        # Its predictor keeps the image it is at in itself.
        self._lock = threading.Lock()
        self.open_vocabulary = hasattr(model, "set_classes")
        self.names = tuple(dict(model.names).values())
        self._own_names = self.names  # an open vocabulary is changed by what is asked for

    @classmethod
    def load(cls, path: Path, *, trust: bool) -> UltralyticsDetector:
        """Read a detector's file.

        Args:
            path: a file of our own (``.safetensors``), or one of ultralytics. A file that is not there is
                downloaded to this path if its name is that of a published one.
            trust: needed for files that may run code.

        Raises:
            UsageError: such a file, not trusted.
            CheckpointError: missing, damaged, or not a detector.
        """
        if path.suffix.lower() == OWN_SUFFIX:
            return _load_own(path)
        if path.suffix.strip().lower() in DESCRIPTIONS:  # ultralytics would evaluate parts of it as Python
            raise UsageError(
                f"{path}: an architecture, which has no weights; name a file of weights",
                code="detector_invalid",
                field="detector",
            )
        if path.suffix.lower() != CODELESS and not trust:
            raise UsageError(
                f"{path}: reading {f'a {path.suffix} file' if path.suffix else 'it'} runs whatever code its "
                "author put into it; if you know where it comes from, allow it (trust=True, "
                "--trust-detector), or export it to .onnx",
                code="detector_untrusted",
                field="detector",
            )
        ultralytics = _ultralytics()
        try:
            model = ultralytics.YOLO(str(path))
            task = model.task
            dict(model.names)
        except ModuleNotFoundError as error:
            raise EnvironmentProblem(
                f"{path}: reading it needs the package {error.name}: pip install {error.name}",
                code="package_missing",
            ) from error
        except Exception as error:
            # Whatever a foreign file does to a foreign reader: it is no detector that we can use.
            reason = str(error).strip().splitlines()
            raise CheckpointError(
                f"{path}: not a detector that ultralytics can read ({reason[0] if reason else error!r})",
                code="detector_invalid",
                field="detector",
            ) from error
        if task not in TASKS:
            raise CheckpointError(
                f"{path}: an ultralytics model for {task!r}; a detector is for one of {', '.join(TASKS)}",
                code="detector_invalid",
                field="detector",
            )
        return cls(model, str(path))

    def detect(
        self, scene: Scene, *, classes: Sequence[str] | None, conf: float, iou: float, limit: int
    ) -> Detections:
        """See :class:`adapters.detections.Detector`."""
        bgr = np.ascontiguousarray(scene.image[..., ::-1])
        options: dict[str, Any] = {} if self._image_size is None else {"imgsz": self._image_size}
        with self._lock, _threads_kept():
            if classes is not None:
                options["classes"] = self._numbers(classes)
            elif self.open_vocabulary:  # what was asked for before is not what is asked for now
                self._set_classes(self._own_names)
            (answer,) = self._model.predict(
                bgr,
                conf=conf,
                iou=iou,
                max_det=limit,
                device=str(scene.model.device),
                verbose=False,
                save=False,
                **options,
            )
            found = answer.boxes
            labels = tuple(answer.names[int(number)] for number in found.cls.tolist())
            return Detections(found.xyxy.cpu().numpy(), found.conf.cpu().numpy(), labels)

    def save(self, path: Path, *, image_size: int, metadata: Mapping[str, str] | None = None) -> None:
        """Write the detector as a file of our own: tensors, and in words what they belong to.

        Args:
            path: ``.safetensors``.
            image_size: side of the square that it was trained for, pixels.
            metadata: more texts for the file.
        """
        network = self._model.model
        about = About(str(network.yaml["yaml_file"]), self.names, image_size)
        save_weights(network, path, metadata={**(metadata or {}), **about.to_metadata()})

    def average_with(self, path: Path, share: float) -> None:
        """Make every weight the mean of this detector's and another's, of the same architecture.

        Of weights from before and after a training, it often knows what either knows (Wortsman et al., 2022).

        Args:
            path: a detector of our own.
            share: of this detector in the mean; the rest is the other's.

        Raises:
            CheckpointError: it is no detector of ours, or of another architecture.
        """
        network = self._model.model
        other = _load_own(path, str(network.yaml["yaml_file"]))._model.model.state_dict()
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.lerp(other[name].float(), tensor.float(), share))

    def _numbers(self, classes: Sequence[str]) -> list[int]:
        if self.open_vocabulary:
            self._set_classes(classes)
            return list(range(len(classes)))
        for name in classes:
            if name not in self.names:
                near = difflib.get_close_matches(name, self.names, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                more = f" and {len(self.names) - NAMES_LISTED} more" if len(self.names) > NAMES_LISTED else ""
                raise UsageError(
                    f"{self._where}: knows no class {name!r}; {hint}it knows "
                    f"{', '.join(self.names[:NAMES_LISTED])}{more}",
                    code="class_unknown",
                    field="classes",
                )
        return [self.names.index(name) for name in classes]

    def _set_classes(self, classes: Sequence[str]) -> None:
        if tuple(classes) == self.names:
            return
        try:
            self._model.set_classes(list(classes))
        except ModuleNotFoundError as error:
            raise EnvironmentProblem(
                f"{self._where}: its text model, which turns class names into vectors, needs the package "
                f"{error.name}: {TEXT_MODEL_PACKAGES.get(error.name or '', f'pip install {error.name}')}",
                code="package_missing",
            ) from error
        except Exception as error:
            raise EnvironmentProblem(
                f"{self._where}: it cannot be asked for classes of one's own: {error}",
                code="text_model_missing",
            ) from error
        self.names = tuple(classes)


def train(
    architecture: str,
    dataset: Path,
    folder: Path,
    *,
    image_size: int,
    epochs: int,
    batch: int,
    seed: int,
    device: str,
    start: Path | None = None,
    learning_rate: float | None = None,
    mosaic: float = 1.0,
) -> UltralyticsDetector:
    """Train a detector with ultralytics; a run that was broken off goes on after its last epoch.

    Args:
        architecture: such as ``yolo11n.yaml``.
        dataset: YAML file of ultralytics' form.
        folder: of the run; made if it is not there. Its pickles are read again, so it must be your own.
        image_size: side of the square, pixels.
        epochs, batch, seed: of the training.
        device: as torch names it.
        start: a detector of our own and of this architecture to start from; None: from scratch.
        learning_rate: of AdamW, at its highest, with a step after every batch; None: ultralytics chooses,
            with a step after every 64 photos.
        mosaic: share of the pictures that are put together of four photos.

    Raises:
        UsageError: no such architecture.
        CheckpointError: ``start`` is no detector of ours, or of another architecture.
    """
    ultralytics = _ultralytics()
    last = folder / "weights" / "last.pt"
    going_on = last.is_file()
    try:
        model = ultralytics.YOLO(str(last) if going_on else architecture)
    except FileNotFoundError as error:
        raise UsageError(
            f"{architecture!r} is no architecture of ultralytics; expected a name such as yolo11n.yaml",
            field="detector",
        ) from error
    if start is not None and not going_on:
        # Ultralytics copies what fits from a model that says it came from a checkpoint, and skips the rest.
        model.model, model.ckpt = _load_own(start, architecture)._model.model, {"model": str(start)}
    chosen: dict[str, Any] = {}
    if learning_rate is not None:
        chosen = {"optimizer": "AdamW", "lr0": learning_rate, "momentum": 0.9, "nbs": batch}
        chosen |= {"warmup_epochs": min(1.0, epochs / 10), "warmup_bias_lr": 0.0}
    if not (going_on and model.ckpt.get("epoch", -1) == -1):  # which says that the run is over
        threads = torch.get_num_threads()
        model.add_callback("on_train_start", lambda _: torch.set_num_threads(threads))
        model.train(
            data=str(dataset),
            epochs=epochs,
            imgsz=image_size,
            batch=batch,
            seed=seed,
            device=device,
            project=str(folder.parent.resolve()),
            name=folder.name,
            exist_ok=True,
            resume=going_on,
            pretrained=start is not None,
            amp=False,  # whose check downloads a model
            plots=False,
            mosaic=mosaic,
            close_mosaic=max(1, epochs // 10),
            workers=1,
            **chosen,
        )
    best = ultralytics.YOLO(str(folder / "weights" / "best.pt"))
    return UltralyticsDetector(best, str(folder), image_size)


def _load_own(path: Path, expected: str | None = None) -> UltralyticsDetector:
    about = read_about(path)
    if expected not in (None, about.architecture):
        raise CheckpointError(
            f"{path}: a {about.architecture}, where {expected} is wanted",
            code="detector_invalid",
            field="detector",
        )
    ultralytics = _ultralytics()
    description = _packaged(about.architecture)
    if description is None:
        raise CheckpointError(
            f"{path}: ultralytics {ultralytics.__version__} has no architecture {about.architecture!r}",
            code="detector_invalid",
            field="detector",
        )
    model = ultralytics.YOLO(str(description))
    from ultralytics.nn import tasks
    from ultralytics.utils import YAML

    untyped: Any = tasks
    reader: Any = YAML
    shapes = dict(reader.load(description))
    shapes |= {"scale": untyped.guess_model_scale(about.architecture), "yaml_file": about.architecture}
    network = untyped.DetectionModel(shapes, nc=len(about.names), verbose=False)
    load_weights(network, path)
    network.names = dict(enumerate(about.names))
    model.model = network.eval()
    return UltralyticsDetector(model, str(path), about.image_size)


def _packaged(architecture: str) -> Path | None:
    """Ultralytics' own description of an architecture, not a file of that name in the working folder."""
    folder = Path(_ultralytics().__file__ or "").parent / "cfg" / "models"
    family = re.sub(r"(\d+)[nsmlx](.*)$", r"\1\2", architecture)  # yolo11n.yaml is a scale of yolo11.yaml
    return next((path for name in (architecture, family) for path in sorted(folder.rglob(name))), None)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Ultralytics leaves torch one processor less than there are, and at most eight, for good."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _ultralytics() -> ModuleType:
    os.environ.setdefault("YOLO_OFFLINE", "true")  # no telemetry, no look for updates
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    try:
        import ultralytics
    except Exception as error:
        raise EnvironmentProblem(
            f"the package ultralytics, which runs detectors, cannot be imported ({error}); install it again: "
            "pip install --force-reinstall ultralytics",
            code="package_missing",
        ) from error
    logging.getLogger(ultralytics.utils.LOGGING_NAME).setLevel(logging.ERROR)  # it writes to stdout
    found: ModuleType = ultralytics
    return found
