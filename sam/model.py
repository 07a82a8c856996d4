"""Segment Anything: one image encoded once, any number of prompts decoded against it (paper §3, Fig. 4)."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sam.embedding import Embedding, resize_longest_side, upsample_logits
from sam.image_encoder import EncoderOutput
from sam.inference import compiled, no_compiler, prepared
from sam.mask_decoder import NUM_MASK_TOKENS, Attended, MaskDecoder
from sam.precision import decoder_dtype
from sam.prompt_encoder import PromptEncoder
from sam.prompts import Prompts
from sam.shared_image import SharedImage

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
MASK_THRESHOLD = 0.0
"""A pixel belongs to a mask where its logit exceeds this."""
EDGE_STRIDE = 32
"""Sides of the padded squares of encoders with an edge head are multiples of this, pixels."""
SHARED_IMAGES = 4
"""Images of which a model keeps what their prompts share (32 MB each with the published decoder)."""


class Candidates:
    """The decoder's answer to N prompts: predicted IoU first, masks only when asked for.

    Attributes:
        iou_predictions: (N, M) float32; M = 3 for a multimask decode, else 1. Unbounded: can exceed 1.
    """

    def __init__(
        self,
        decoder: MaskDecoder,
        attended: Attended,
        skips: tuple[Tensor, ...],
        first_token: int,
        last_token: int,
        context: AbstractContextManager[object],
    ) -> None:
        self.iou_predictions = attended.iou_predictions[:, first_token:last_token]
        self._decoder = decoder
        self._attended = attended
        self._skips = skips
        self._first_token = first_token
        self._context = context

    def __len__(self) -> int:
        return len(self.iou_predictions)

    @torch.inference_mode()
    def low_res_logits(self, index: Tensor | None = None, *, window: tuple[int, int] | None = None) -> Tensor:
        """Low-resolution logits of chosen candidates.

        Args:
            index: (n, 2) int64 rows of (prompt, column of ``iou_predictions``); None: all N * M, row-major.
            window: draw the upper left (rows, columns) of the embedding's cells alone: what lies beyond the
                image is as much work as what lies in it.

        Returns:
            (n, 4h, 4w) float32; of a window, its (n, 4 rows, 4 columns).
        """
        device = self.iou_predictions.device
        if index is None:
            n, m = self.iou_predictions.shape
            index = torch.cartesian_prod(torch.arange(n), torch.arange(m)).reshape(-1, 2)
        index = index.to(device)
        if len(index) == 0:
            h, w = window or self._attended.size
            return torch.zeros(0, 4 * h, 4 * w, device=device)
        with self._context:
            return self._decoder.render(
                self._attended, self._skips, index[:, 0], index[:, 1] + self._first_token, window
            )


class SegmentAnything(nn.Module):
    """A promptable segmenter: image encoder, prompt encoder, mask decoder.

    Build one with :func:`sam.variants.build_model`. Parameter names are those of the public checkpoints.

    Attributes:
        digest: SHA-256 of the loaded weights file; empty while the weights are random.
        compute_dtype: dtype of the large products in ``encode`` and ``decode``; logits are always float32.
        decode_dtype: that of ``decode``, where it is to be another one; None: ``compute_dtype``.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, image_encoder: nn.Module, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoder
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.image_size = prompt_encoder.image_size
        self.digest = ""
        self.compute_dtype = torch.float32
        self.decode_dtype: torch.dtype | None = None
        # In a tuple, so that its parameters do not become the model's own.
        self._fast_encoder: tuple[nn.Module, ...] = ()
        self._any_size_encoder: tuple[nn.Module, ...] = ()
        self._kept_encoder: tuple[nn.Module, ...] = ()
        self._shared: list[tuple[weakref.ref[Tensor], torch.dtype, SharedImage]] = []
        self._shared_lock = threading.Lock()
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.pixel_mean.device

    @property
    def running_encoder(self) -> nn.Module:
        """What ``encode`` calls: the image encoder, or its form for inference."""
        return self._fast_encoder[0] if self._fast_encoder else self.image_encoder

    def compute_in(self, dtype: torch.dtype) -> None:
        """Set ``compute_dtype``, and the ``decode_dtype`` that goes with it on the device of now.

        To be called after the model has been moved there.
        """
        self.compute_dtype, self.decode_dtype = dtype, decoder_dtype(self.device, dtype)

    def prepare(self, *, compile: bool = False) -> None:
        """Derive the encoder's form for inference (:mod:`sam.inference`), which ``encode`` runs from now on.

        To be called last: it is of the weights, the device and the ``compute_dtype`` of now. Moving or
        converting the model drops it, training mode too. Without it ``encode`` gives the same, slower.

        Args:
            compile: through torch.compile, which takes its minutes here and again for each size of a batch.

        Raises:
            EnvironmentProblem: to be compiled, and there is no compiler.
        """
        fast = prepared(self.image_encoder, self.compute_dtype)
        self._fast_encoder = (compiled(fast) if compile else fast,)
        self._any_size_encoder = (fast,)
        if not compile:
            return
        try:
            self.encode([np.zeros((self.image_size, self.image_size, 3), np.uint8)])
        except RuntimeError as error:
            self._fast_encoder = ()
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise no_compiler(error) from error

    def encode_by(self, encoder: nn.Module, *, keep: bool) -> None:
        """Have ``encode`` call ``encoder`` from now on, which gives the same and takes one size alone.

        Args:
            encoder: on the device of the model, which is not moved afterwards.
            keep: keep the present one too, for ``edges_at``.
        """
        self._kept_encoder = (prepared(self.image_encoder, self.compute_dtype),) if keep else ()
        self._fast_encoder = self._any_size_encoder = ()  # of the one before
        self.image_encoder = encoder

    def train(self, mode: bool = True) -> SegmentAnything:
        """Set training or evaluation mode, as any module."""
        if mode:
            self._fast_encoder = self._any_size_encoder = ()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SegmentAnything:
        self._fast_encoder = self._any_size_encoder = ()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Without what is derived from the weights and images: a copy makes its own."""
        derived: dict[str, Any] = {
            "_fast_encoder": (),
            "_any_size_encoder": (),
            "_shared": [],
            "_shared_lock": None,
        }
        return self.__dict__ | derived

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._shared_lock = threading.Lock()

    @torch.inference_mode()
    def encode(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Embedding]:
        """Encode RGB images, each (H, W, 3) uint8, in one batch."""
        resized = [resize_longest_side(image, self.image_size) for image in images]
        encoder = self.running_encoder
        with self._autocast(self.compute_dtype):
            out: EncoderOutput = encoder(self.preprocess(resized))
        return [
            Embedding(
                features=out.image_embedding[i : i + 1].float(),
                high_res_features=tuple(f[i : i + 1].float() for f in out.high_res_features),
                edge_logits=None if out.edge_logits is None else out.edge_logits[i : i + 1].float(),
                input_size=(small.shape[0], small.shape[1]),
                original_size=(image.shape[0], image.shape[1]),
                model_digest=self.digest,
            )
            for i, (image, small) in enumerate(zip(images, resized, strict=True))
        ]

    @torch.inference_mode()
    def edges_at(self, image: npt.NDArray[np.uint8], side: int) -> tuple[Tensor, int, tuple[int, int]]:
        """What the edge head says of an image at another size than ``encode``'s.

        Args:
            image: RGB, (H, W, 3) uint8.
            side: of the image's longer side, pixels.

        Returns:
            (1, S / 4, S / 4) float32 logits over the padded square, its side S in pixels, and the (height,
            width) of the image in it.

        Raises:
            ValueError: an encoder without such a head.
        """
        encoder = (*self._kept_encoder, *self._any_size_encoder, self.image_encoder)[0]
        if not hasattr(encoder, "edge_head"):
            raise ValueError("this encoder has no edge head")
        resized = resize_longest_side(image, side)
        square = -(-side // EDGE_STRIDE) * EDGE_STRIDE
        with self._autocast(self.compute_dtype):
            out: EncoderOutput = encoder(self.preprocess([resized], square))
        assert out.edge_logits is not None
        return out.edge_logits[:, 0].float(), square, (resized.shape[0], resized.shape[1])

    def preprocess(self, resized: Sequence[npt.NDArray[np.uint8]], side: int | None = None) -> Tensor:
        """Normalise and pad right and bottom with zeros.

        Args:
            resized: RGB images, each (h, w, 3) uint8, of at most S pixels a side.
            side: S; None: the model's own.

        Returns:
            (B, 3, S, S) float32, its channels last in memory, as the pixels' are.
        """
        side = side or self.image_size
        batch = torch.zeros(len(resized), side, side, 3, device=self.device)
        mean, std = self.pixel_mean.flatten(), self.pixel_std.flatten()
        for image, square in zip(resized, batch, strict=True):
            pixels = torch.from_numpy(np.ascontiguousarray(image))
            if batch.is_cuda:
                # From pinned memory a copy is queued like any kernel, and the host goes on to the next image.
                pixels = pixels.pin_memory().to(self.device, non_blocking=True)
            else:
                pixels = pixels.to(self.device)
            square[: image.shape[0], : image.shape[1]] = (pixels.float() - mean) / std
        return batch.permute(0, 3, 1, 2)

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: Prompts, *, multimask: bool) -> Candidates:
        """Decode N prompts against one image.

        Args:
            embedding: of this model's ``encode``.
            prompts: in pixels of the original image.
            multimask: True gives the three masks of an ambiguous prompt, False the single-mask token.
        """
        prompts = prompts.to(self.device)
        scale = embedding.scale(self.device)
        points = None if prompts.points is None else prompts.points.float() * scale
        boxes = None if prompts.boxes is None else (prompts.boxes.float().view(-1, 2, 2) * scale).view(-1, 4)
        with self.decoding():
            sparse = self.prompt_encoder.sparse(points, prompts.labels, boxes, prompts.text)
            attended = self._attend(embedding, sparse, prompts.mask_logits, len(prompts))
        first, last = (1, NUM_MASK_TOKENS) if multimask else (0, 1)
        return Candidates(
            self.mask_decoder, attended, embedding.high_res_features, first, last, self.decoding()
        )

    def _attend(
        self, embedding: Embedding, sparse: Tensor | None, mask_logits: Tensor | None, count: int
    ) -> Attended:
        height, width = embedding.features.shape[-2:]
        given = None if mask_logits is None else self.prompt_encoder.mask_mixture(mask_logits)
        if self.mask_decoder.shares(sparse, 0 if given is None else given.shape[1]):
            shared = self.share(embedding)
            return self.mask_decoder.attend_shared(shared, (height, width), sparse, given, count)
        dense = self.prompt_encoder.dense(mask_logits)
        position = self.image_pe(embedding.features)
        return self.mask_decoder.attend(embedding.features, position, sparse, dense, count)

    def await_prompts(self, embedding: Embedding) -> None:
        """Do now what the first prompt of an image would otherwise wait for; the answers are the same."""
        if self.mask_decoder.shares(None):
            self.share(embedding)

    @torch.inference_mode()
    def share(self, embedding: Embedding) -> SharedImage:
        """What all prompts of ``embedding`` share; made at the first call, kept for the last few images."""
        dtype = self.decodes_in
        with self._shared_lock:
            for kept in self._shared:
                if kept[0]() is embedding.features and kept[1] is dtype:
                    return kept[2]
        features, encoder = embedding.features, self.prompt_encoder
        with self._autocast(dtype):
            shared = self.mask_decoder.share(
                features, self.image_pe(features), encoder.dense(None), encoder.mask_rows()
            )
        with self._shared_lock:
            alive = [kept for kept in self._shared if kept[0]() is not None]
            made = (weakref.ref(embedding.features), dtype, shared)
            self._shared = [*alive, made][-SHARED_IMAGES:]
        return shared

    def image_pe(self, features: Tensor) -> Tensor:
        """(1, h * w, C) positions of the cells of ``features`` (1, C, h, w)."""
        return self.prompt_encoder.pe_layer.grid(features.shape[-2], features.shape[-1])

    def upsample(self, low_res_logits: Tensor, embedding: Embedding) -> Tensor:
        """(n, 4h, 4w) low-resolution logits -> (n, H, W) float32 logits at the original size."""
        return upsample_logits(low_res_logits, self.image_size, embedding.input_size, embedding.original_size)

    @property
    def decodes_in(self) -> torch.dtype:
        """The dtype of the large products in ``decode``."""
        return self.decode_dtype or self.compute_dtype

    def decoding(self) -> AbstractContextManager[object]:
        """The context to run the prompt encoder and the mask decoder in."""
        return self._autocast(self.decodes_in)

    def _autocast(self, dtype: torch.dtype) -> AbstractContextManager[object]:
        return nullcontext() if dtype is torch.float32 else torch.autocast(self.device.type, dtype)
