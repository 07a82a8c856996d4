"""What an adapter is: a request comes in with a scene, prompts go to the decoder, a result comes out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from adapters.companions import Companions
from adapters.results import Result
from sam.embedding import Embedding
from sam.errors import BadPrompt
from sam.model import Candidates, SegmentAnything
from sam.prompts import Prompts

Pixels = npt.NDArray[np.uint8]
EdgeSource = Literal["masks", "head", "both"]
"""``masks``: how sharply masks end (the paper's); ``head``: the encoder's own edge map, of models that have
one; ``both``: their geometric mean."""
TextRoute = Literal["auto", "token", "rank", "points", "detect"]
"""See :class:`adapters.text.Text`."""
Encode = Callable[[Pixels], Embedding]
EdgesAt = Callable[[Pixels, int], tuple[Tensor, int, tuple[int, int]]]
"""See :meth:`sam.model.SegmentAnything.edges_at`."""
EncodeMany = Callable[[Sequence[Pixels]], Sequence[Embedding]]
CROPS_AT_ONCE = 4
"""Windows encoded in one pass of the encoder: they, their embeddings and its memory are there at a time."""


@dataclass(frozen=True)
class Request:
    """Base of what a person can ask of a scene. Subclasses are frozen dataclasses.

    Attributes:
        kind: the request's name in configs, over HTTP and in JSON reports.
    """

    kind: ClassVar[str]


@dataclass(frozen=True)
class Defaults:
    """Thresholds that belong to a set of weights; a request's own value, where given, wins.

    Attributes:
        pred_iou_thresh: automatic masks below this predicted IoU are dropped.
        stability_score_thresh: automatic masks below this stability in [0, 1] are dropped.
        box_margin: how far a box's mask may leave it, as a share of its sides; see
            :class:`adapters.boxes.Boxes`.
        edge_source: where :class:`adapters.edges.Edges` takes edges from: ``masks``, ``head`` or ``both``.
        edge_sizes: longer sides, in pixels, at which an edge head looks at an image, one after the other; its
            edges are the mean. Empty: the model's own.
        detector_conf: least score of what :class:`adapters.detect.Detect` takes from the preset's own
            detector; as it stands here, ultralytics' usual one.
        text_threshold: least score of what :class:`adapters.text.Text` finds with the preset's own text-image
            model; None: what suits its kind.
        text_route: how it looks for phrases unless a request says.
    """

    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    box_margin: float = math.inf
    edge_source: EdgeSource = "masks"
    edge_sizes: tuple[int, ...] = ()
    detector_conf: float = 0.25
    text_threshold: float | None = None
    text_route: TextRoute = "auto"


class Scene:
    """One image, ready to be asked about: encoded once, at the first decode. Safe to share between threads.

    Args:
        image: (H, W, 3) uint8 RGB.
        model: decodes the prompts.
        encode: gives the embedding of an image; the caller decides whether it caches.
        defaults: thresholds of the model's weights.
        companions: other models that adapters may ask for; None: there are none.
        encode_many: as ``encode`` for several images in one pass; None: they are encoded one by one.
        edges_at: what the edge head says of an image at a given size; None: the model is asked.
        embedding: of the image, where it is there already.
    """

    def __init__(
        self,
        image: Pixels,
        model: SegmentAnything,
        encode: Encode,
        defaults: Defaults,
        companions: Companions | None = None,
        *,
        encode_many: EncodeMany | None = None,
        edges_at: EdgesAt | None = None,
        embedding: Embedding | None = None,
    ) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"a scene's image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        self.image = image
        self.model = model
        self.defaults = defaults
        self.companions = companions
        self._encode = encode
        self._encode_many = encode_many or (lambda images: [encode(image) for image in images])
        self._edges_at = edges_at or model.edges_at
        self._embedding = embedding
        self._lock = threading.Lock()

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image, pixels."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def embedding(self) -> Embedding:
        """The encoded image, computed at the first use."""
        with self._lock:
            if self._embedding is None:
                self._embedding = self._encode(self.image)
            return self._embedding

    def edges_at(self, side: int) -> tuple[Tensor, int, tuple[int, int]]:
        """What the edge head says of the image: see :meth:`sam.model.SegmentAnything.edges_at`."""
        return self._edges_at(self.image, side)

    def decode(self, prompts: Prompts, *, multimask: bool = True) -> Candidates:
        """Decode N prompts in one go: see :meth:`sam.model.SegmentAnything.decode`."""
        return self.model.decode(self.embedding, prompts, multimask=multimask)

    def upsample(self, low_res_logits: Tensor) -> Tensor:
        """(n, h, w) low-resolution logits -> (n, H, W) float32 logits; 4 * H * W bytes for each mask."""
        return self.model.upsample(low_res_logits, self.embedding)

    def crop(self, box: tuple[int, int, int, int]) -> Scene:
        """A window of the image, seen by the model at its full resolution, with an embedding of its own.

        Args:
            box: ``x1, y1, x2, y2`` whole pixels, x2 and y2 exclusive, inside the image.

        Raises:
            BadPrompt: an empty window, or one that leaves the image.
        """
        x1, y1, x2, y2 = box
        height, width = self.size
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            raise BadPrompt(
                f"window {tuple(box)} must be x1, y1, x2, y2 inside the image of {width} x {height} px",
                field="box",
            )
        return self._window(np.ascontiguousarray(self.image[y1:y2, x1:x2]))

    def crops(self, boxes: Sequence[tuple[int, int, int, int]]) -> Iterator[Scene]:
        """Windows as :meth:`crop` gives them, in order, encoded :data:`CROPS_AT_ONCE` at a time.

        Raises:
            BadPrompt: an empty window, or one that leaves the image.
        """
        for start in range(0, len(boxes), CROPS_AT_ONCE):
            images = [self.crop(box).image for box in boxes[start : start + CROPS_AT_ONCE]]
            for image, embedding in zip(images, self._encode_many(images), strict=True):
                yield self._window(image, embedding)

    def _window(self, image: Pixels, embedding: Embedding | None = None) -> Scene:
        return Scene(
            image,
            self.model,
            self._encode,
            self.defaults,
            self.companions,
            encode_many=self._encode_many,
            edges_at=self._edges_at,
            embedding=embedding,
        )


class Adapter(Protocol):
    """Answers one kind of request. Stateless: everything it needs is in the scene and the request.

    Attributes:
        request: the frozen dataclass that this adapter answers.
    """

    request: type[Request]

    def __call__(self, scene: Scene, request: Any) -> Result:
        """Answer ``request``, an instance of :attr:`request`.

        Raises:
            BadPrompt: the request does not fit this scene's image.
        """
        ...
