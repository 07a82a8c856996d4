"""What adapters return: instances with their masks and scores, or an edge map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adapters import rle as run_length
from adapters.records import UNLABELLED, coco_records, detections, sa1b_record
from adapters.rle import RLE, BoolArray, IntArray

if TYPE_CHECKING:
    import supervision

FloatArray = npt.NDArray[np.float32]
_UNSET: Any = None

# Column of Instances -> (shape after n, dtype, value where it was not computed).
_COLUMNS: dict[str, tuple[tuple[int, ...], type[np.generic], float]] = {
    "boxes": ((4,), np.float32, np.nan),
    "scores": ((), np.float32, np.nan),
    "predicted_iou": ((), np.float32, np.nan),
    "stability": ((), np.float32, np.nan),
    "detector_score": ((), np.float32, np.nan),
    "text_score": ((), np.float32, np.nan),
    "ambiguity": ((), np.int64, -1),
    "prompt_index": ((), np.int64, -1),
    "points": ((2,), np.float32, np.nan),
    "crop_boxes": ((4,), np.float32, np.nan),
}

_NAMES = ("labels", "routes")
_SUGGESTED = ("suggested_points", "suggested_prompts")


@dataclass(frozen=True, eq=False)
class Instance:
    """One object; the fields are those of :class:`Instances`, one row."""

    image_size: tuple[int, int]
    rle: RLE
    box: FloatArray
    score: float
    label: str | None
    score_kind: str
    predicted_iou: float
    stability: float
    detector_score: float
    text_score: float
    ambiguity: int
    prompt_index: int
    point: FloatArray
    crop_box: FloatArray
    route: str | None

    @property
    def mask(self) -> BoolArray:
        """(H, W) bool."""
        return run_length.decode_mask(self.rle)

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(run_length.areas([self.rle])[0])


@dataclass(frozen=True, eq=False)
class Instances:
    """n objects of one image. Masks are run-length encoded and become arrays when asked for.

    Attributes:
        image_size: (H, W) of the image, pixels.
        rles: n masks at the image's size.
        boxes: (n, 4) float32 ``x1, y1, x2, y2`` in pixels; x2, y2 one past the last pixel of a mask's tight
            box.
        scores: (n,) float32, the score that ranks; ``score_kind`` says which one it is.
        labels: n class names, None where unknown.
        score_kind: ``predicted_iou``, ``detector_score``, …
        predicted_iou: (n,) float32 the model's estimate of the mask's IoU (unbounded), NaN where not
            computed.
        stability: (n,) float32 in [0, 1], see :func:`adapters.selection.stability_score`; NaN where not
            computed.
        detector_score, text_score: (n,) float32, NaN where there was no detector, no text.
        ambiguity: (n,) int64 which of a prompt's three masks it is (0 to 2), -1 for the single-mask output.
        prompt_index: (n,) int64 which prompt of the request it answers, -1 if none in particular.
        points: (n, 2) float32 the (first) click, NaN where there was none.
        crop_boxes: (n, 4) float32 the window of the image that the model saw; by default the whole image.
        low_res_logits: (n, h, w) float32 logits that can be fed back as ``mask_logits``, or None.
        routes: n names of the way that found it, where a request has several; else None.
        suggested_points: (k, 2) float32 ``x, y`` pixels where a click would settle what the answer is unsure
            about, or None. They belong to the answer as a whole: a selection of its rows keeps them.
        suggested_prompts: (k,) int64 which prompt of the request each of them is about; with them.

    Raises:
        ValueError: columns of different lengths, a mask of another size, a box or score that is not a number.
    """

    image_size: tuple[int, int]
    rles: tuple[RLE, ...]
    boxes: FloatArray
    scores: FloatArray
    labels: tuple[str | None, ...] = _UNSET
    score_kind: str = "predicted_iou"
    predicted_iou: FloatArray = _UNSET
    stability: FloatArray = _UNSET
    detector_score: FloatArray = _UNSET
    text_score: FloatArray = _UNSET
    ambiguity: IntArray = _UNSET
    prompt_index: IntArray = _UNSET
    points: FloatArray = _UNSET
    crop_boxes: FloatArray = _UNSET
    low_res_logits: Tensor | None = None
    routes: tuple[str | None, ...] = _UNSET
    suggested_points: FloatArray | None = None
    suggested_prompts: IntArray | None = None

    def __post_init__(self) -> None:
        count = len(self.rles)
        height, width = self.image_size
        self._set("rles", tuple(self.rles))
        for name in _NAMES:
            names = getattr(self, name)
            self._set(name, (None,) * count if names is None else tuple(names))
        if self.crop_boxes is None:
            self._set("crop_boxes", np.tile(np.array([0, 0, width, height], np.float32), (count, 1)))
        for name, (shape, dtype, fill) in _COLUMNS.items():
            self._set(name, _column(name, getattr(self, name), (count, *shape), dtype, fill))
        if self.suggested_points is not None:
            self._set("suggested_points", np.asarray(self.suggested_points, np.float32).reshape(-1, 2))
            self._set("suggested_prompts", np.asarray(self.suggested_prompts, np.int64))
        self._check()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        if min(self.image_size) < 1:
            raise ValueError(
                f"image_size must be (height, width) of at least one pixel, not {self.image_size}"
            )
        for name in _NAMES:
            if len(getattr(self, name)) != len(self):
                raise ValueError(f"{len(getattr(self, name))} {name} for {len(self)} masks")
        points, prompts = self.suggested_points, self.suggested_prompts
        if (points is None) != (prompts is None) or (
            points is not None and prompts is not None and prompts.shape != points.shape[:1]
        ):
            raise ValueError("suggested_points (k, 2) and suggested_prompts (k,) go together")
        for rle in self.rles:
            if tuple(rle["size"]) != tuple(self.image_size):
                raise ValueError(f"a mask of size {tuple(rle['size'])} in an image of size {self.image_size}")
        if not np.isfinite(self.boxes).all() or (self.boxes[:, 2:] < self.boxes[:, :2]).any():
            raise ValueError("boxes must be finite x1, y1, x2, y2 with x1 <= x2 and y1 <= y2")
        if np.isnan(self.scores).any():
            raise ValueError("scores must be numbers, not NaN")
        if self.low_res_logits is not None and len(self.low_res_logits) != len(self):
            raise ValueError(f"{len(self.low_res_logits)} low-resolution logits for {len(self)} masks")

    @classmethod
    def empty(cls, image_size: tuple[int, int], score_kind: str = "predicted_iou") -> Instances:
        """No object in an image of ``image_size`` (H, W)."""
        return cls(
            image_size, (), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), score_kind=score_kind
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Instances]) -> Instances:
        """All instances of ``parts``, in order; low-resolution logits only if every part has them.

        Raises:
            ValueError: nothing to join, or parts of different images or score kinds.
        """
        if not parts:
            raise ValueError("nothing to concatenate: use Instances.empty")
        if len({(p.image_size, p.score_kind) for p in parts}) != 1:
            raise ValueError("only instances of one image size and one score kind can be concatenated")
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(p, name) for p in parts]) for name in _COLUMNS
        }
        columns |= {name: tuple(one for p in parts for one in getattr(p, name)) for name in _NAMES}
        columns |= {name: _suggested([getattr(p, name) for p in parts]) for name in _SUGGESTED}
        return cls(
            image_size=parts[0].image_size,
            score_kind=parts[0].score_kind,
            rles=tuple(rle for p in parts for rle in p.rles),
            low_res_logits=_joined([p.low_res_logits for p in parts]),
            **columns,
        )

    def __len__(self) -> int:
        return len(self.rles)

    def __iter__(self) -> Iterator[Instance]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Instance: ...
    @overload
    def __getitem__(self, index: slice | npt.NDArray[Any] | Sequence[int]) -> Instances: ...
    def __getitem__(self, index: int | slice | npt.NDArray[Any] | Sequence[int]) -> Instance | Instances:
        """An int gives one :class:`Instance`; a slice, indices or (n,) bool give :class:`Instances`."""
        if isinstance(index, int | np.integer):
            return self._row(int(index))
        if isinstance(index, tuple):
            index = list(index)  # to numpy, a tuple is an index for each axis
        chosen = np.arange(len(self))[np.asarray(index, np.int64) if _is_empty(index) else index]
        columns: dict[str, Any] = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        columns |= {name: tuple(getattr(self, name)[i] for i in chosen) for name in _NAMES}
        columns |= {name: getattr(self, name) for name in _SUGGESTED}
        logits = self.low_res_logits
        return Instances(
            image_size=self.image_size,
            score_kind=self.score_kind,
            rles=tuple(self.rles[i] for i in chosen),
            low_res_logits=None if logits is None else logits[chosen],
            **columns,
        )

    def _row(self, index: int) -> Instance:
        return Instance(
            image_size=self.image_size,
            rle=self.rles[index],
            box=self.boxes[index],
            score=float(self.scores[index]),
            label=self.labels[index],
            score_kind=self.score_kind,
            predicted_iou=float(self.predicted_iou[index]),
            stability=float(self.stability[index]),
            detector_score=float(self.detector_score[index]),
            text_score=float(self.text_score[index]),
            ambiguity=int(self.ambiguity[index]),
            prompt_index=int(self.prompt_index[index]),
            point=self.points[index],
            crop_box=self.crop_boxes[index],
            route=self.routes[index],
        )

    def replace(self, **changes: Any) -> Instances:
        """The same instances with some columns changed, checked anew."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Instances(**{**values, **changes})

    def with_suggestions(self, points: FloatArray, prompts: IntArray) -> Instances:
        """The same instances with places to click, (k, 2) ``x, y`` pixels of prompts (k,); k = 0 for none."""
        given = len(points) > 0
        return self.replace(
            suggested_points=points if given else None, suggested_prompts=prompts if given else None
        )

    @property
    def masks(self) -> BoolArray:
        """(n, H, W) bool, decoded anew at each call: one byte a pixel a mask."""
        return run_length.decode_masks(self.rles, self.image_size)

    @property
    def areas(self) -> IntArray:
        """(n,) int64 pixels of each mask."""
        return run_length.areas(self.rles)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The distinct labels, sorted; ``object`` stands for None. Exports number classes in this order."""
        return tuple(sorted({label or UNLABELLED for label in self.labels}))

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """COCO annotation (and result) records; category 1 is the first of :attr:`class_names`."""
        return coco_records(self, image_id)

    def to_sa1b(self, file_name: str, image_id: int = 1) -> dict[str, Any]:
        """The content of one SA-1B file: the image and its annotations."""
        return sa1b_record(self, file_name, image_id)

    def to_supervision(self) -> supervision.Detections:
        """``supervision.Detections`` with masks, scores, class ids and ``data["class_name"]``."""
        return detections(self)


@dataclass(frozen=True, eq=False)
class EdgeMap:
    """How likely each pixel is an edge.

    Attributes:
        values: (H, W) float32 in [0, 1].

    Raises:
        ValueError: another shape, or values outside [0, 1].
    """

    values: FloatArray

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, np.float32)
        if values.ndim != 2 or values.size == 0:
            raise ValueError(f"an edge map is (H, W), not {values.shape}")
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("edge values must lie in [0, 1]")
        object.__setattr__(self, "values", values)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W), pixels."""
        return self.values.shape[0], self.values.shape[1]

    def thin(self) -> EdgeMap:
        """The same edges, a pixel or two wide: values that are not the highest across their edge become 0.

        In the outermost five pixels edges fade, to 0 at the border: half of their surroundings are missing.
        """
        from adapters.edge_thinning import thin_edges

        return EdgeMap(thin_edges(self.values))


Result = Instances | EdgeMap


def _column(
    name: str, value: Any, shape: tuple[int, ...], dtype: type[np.generic], fill: float
) -> npt.NDArray[Any]:
    if value is None:
        return np.full(shape, fill, dtype)
    array = np.asarray(value, dtype)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
    return array


def _joined(logits: list[Tensor | None]) -> Tensor | None:
    present = [part for part in logits if part is not None]
    if len(present) != len(logits) or len({part.shape[1:] for part in present}) != 1:
        return None
    return torch.cat(present)


def _suggested(parts: list[npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


def _is_empty(index: object) -> bool:
    return isinstance(index, list | tuple) and not index
