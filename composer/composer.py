"""The facade: load a model once, open images, run requests; each image is encoded once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adapters.base import Request
from adapters.base import Scene as AdapterScene
from adapters.results import Result
from composer.cache import CacheKey, EmbeddingCache
from composer.companions import Companions
from composer.images import Image, Source, digest, open_image
from composer.limits import DEFAULT_LIMITS, Limits
from composer.many import IMAGES_AT_ONCE, answer, open_many, run_many
from composer.onnx_encoders import onnx_encoder
from composer.pipeline import Pipeline, PipelineResult, check_length, run_pipeline
from composer.presets import Preset, WeightsFile, load_preset
from composer.registry import adapter_of
from composer.weights import locate, owner_of
from sam.allocation import keep_freed_memory
from sam.checkpoints import load_weights
from sam.embedding import Embedding
from sam.errors import CheckpointError, SamComposerError, UsageError
from sam.model import SegmentAnything
from sam.onnx_files import OnnxEncoder
from sam.precision import PrecisionChoice, choose_device, choose_precision
from sam.variants import build_model

RUNTIMES = ("torch", "onnx")
PREPROCESSING = "resize-longest-bilinear-1"
"""Version of what happens to pixels before the encoder: part of the cache key."""


class Composer:
    """A loaded segmenter that answers requests about images. Safe to share between threads.

    Args:
        model: the segmenter, its weights loaded.
        preset: what it was loaded from.
        precision: number format of its encoder's products; see :meth:`load`.
        limits: what is accepted.

    Attributes:
        cache: embeddings of images seen lately, bounded in bytes.
        companions: detectors and text-image models, loaded when they are asked for.
        encoder_lock: held while the encoder runs: two passes at once on the same cores or card take as long
            as one after the other, and need twice the memory.
    """

    def __init__(
        self,
        model: SegmentAnything,
        preset: Preset,
        precision: PrecisionChoice,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.model = model
        self.preset = preset
        self.precision = precision
        self.limits = limits
        self.companions = Companions(preset, model.device)
        self.cache: EmbeddingCache[Embedding] = EmbeddingCache(limits.embedding_cache_bytes)
        model.compute_in(precision.dtype)
        self.encoder_lock = threading.Lock()
        # Random weights share the empty digest, so the cache must tell two such models apart itself.
        self._weights_id = model.digest or f"random-{id(model)}"

    @classmethod
    def load(
        cls,
        preset: str | Path | Preset = "tiny",
        *,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        limits: Limits = DEFAULT_LIMITS,
        compile: bool = False,
        runtime: str = "torch",
    ) -> Composer:
        """Load a preset.

        Args:
            preset: a name (``tiny``, ``tiny-v1``, ``mobile``, ``vit_b``, ``vit_l``, ``vit_h``), the path of a
                YAML preset, or a preset already read.
            checkpoint: a weights file to use instead of the preset's own; neither its size nor its digest is
                pinned then.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``, of the encoder; a CPU decodes prompts in fp32
                (docs/decisions/0024).
            limits: what to accept.
            compile: put the encoder through torch.compile, which takes a while here and needs a compiler;
                never needed.
            runtime: what encodes images: ``torch``, or ``onnx`` for onnxruntime, on the CPU and in float32.
                That is faster for ``tiny`` and slower for ViTs; the first time it exports the encoder into
                the cache (docs/decisions/0018-onnx-runtime.md).

        Raises:
            UsageError: an unknown preset, device, precision or runtime, or ``onnx`` beside a GPU.
            CheckpointError: weights that are missing, damaged or of another model.
            EnvironmentProblem: the device or a package of the extra ``onnx`` is not there, or no compiler is
                where one is asked for.
        """
        if runtime not in RUNTIMES:
            raise UsageError(f"unknown runtime {runtime!r}: known: {', '.join(RUNTIMES)}", field="runtime")
        chosen = preset if isinstance(preset, Preset) else load_preset(preset)
        where = choose_device("cpu" if runtime == "onnx" and device == "auto" else device)
        if runtime == "onnx" and where.type != "cpu":
            raise UsageError(f"runtime onnx is for the CPU, not for device {where}", field="runtime")
        if runtime == "onnx" and compile:
            raise UsageError("runtime onnx runs no torch.compile: leave one of the two out", field="compile")
        # onnxruntime encodes in float32, and a CPU decodes in it.
        how = choose_precision(where, "fp32" if runtime == "onnx" and precision == "auto" else precision)
        if where.type == "cpu":
            keep_freed_memory()
        if checkpoint is not None:
            chosen = replace(chosen, weights=WeightsFile(str(checkpoint)))
            path = Path(checkpoint)
        else:
            path = locate(chosen)
        model = build_model(chosen.model)
        try:
            load_weights(model, path, sha256=chosen.weights.sha256, size=chosen.weights.bytes)
        except CheckpointError as error:
            if checkpoint is None or (owner := owner_of(path)) in (None, chosen.name):
                raise
            raise CheckpointError(
                f"{path}: these are the weights of preset {owner!r}, not of {chosen.name!r}: "
                f"load preset {owner!r} instead",
                code="checkpoint_of_another_preset",
            ) from error
        composer = cls(model.to(where), chosen, how, limits)
        if runtime == "onnx":
            model.encode_by(onnx_encoder(model), keep=bool(chosen.defaults.edge_sizes))
        else:
            model.prepare(compile=compile)
        return composer

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    def open(self, source: Source, *, file_name: str | None = None) -> Scene:
        """Read an image and encode it, or take its embedding from the cache.

        Args:
            source: a path, the bytes of an image file, a PIL image or an (H, W, 3) uint8 RGB array.
            file_name: name for reports; by default that of the path.

        Raises:
            UsageError: no such file.
            BadImage: not an image that the limits accept.
        """
        scene = Scene(self, open_image(source, limits=self.limits, file_name=file_name))
        self.model.await_prompts(scene.embedding)  # encoded now: opening is where the wait belongs
        return scene

    @overload
    def run(self, source: Source, requests: Pipeline) -> PipelineResult: ...
    @overload
    def run(self, source: Source, requests: Sequence[Request]) -> list[Result]: ...
    def run(self, source: Source, requests: Sequence[Request] | Pipeline) -> list[Result] | PipelineResult:
        """Answer several requests about one image, or a pipeline of them, with one encoder pass.

        Returns:
            The results in the order of the requests; of a pipeline, by the names of its steps.

        Raises:
            UsageError: no request, too many, or one that no adapter answers.
            BadImage, BadPrompt: see :meth:`open` and :meth:`Scene.run`.
        """
        checked = self._checked(requests)
        return answer(self.open(source), checked)

    def open_many(
        self, sources: Iterable[Source], *, at_once: int = IMAGES_AT_ONCE
    ) -> Iterator[Scene | SamComposerError]:
        """Read and encode many images, several in one pass of the encoder.

        Args:
            sources: as :meth:`open` takes them; taken from the iterable as they are needed.
            at_once: images read and encoded together: as many are in memory at a time.

        Yields:
            For each source in turn its scene, or the error of the one that could not be opened.

        Raises:
            UsageError: ``at_once`` is less than 1.
        """
        return open_many(self, sources, at_once)

    def run_many(
        self,
        sources: Iterable[Source],
        requests: Sequence[Request] | Pipeline,
        *,
        at_once: int = IMAGES_AT_ONCE,
    ) -> Iterator[list[Result] | PipelineResult | SamComposerError]:
        """Answer the same requests, or pipeline, about many images, encoded as by :meth:`open_many`.

        Yields:
            For each source in turn what :meth:`run` returns, or the error of that image.

        Raises:
            UsageError: no request, too many, or one that no adapter answers; ``at_once`` is less than 1.
        """
        checked = self._checked(requests)
        return run_many(self.open_many(sources, at_once=at_once), checked)

    def encode(self, pixels: npt.NDArray[np.uint8], image_sha256: str | None = None) -> Embedding:
        """The embedding of (H, W, 3) uint8 RGB pixels, from the cache if it is there.

        Args:
            pixels: the image.
            image_sha256: its :func:`composer.images.digest`, where that is known already.
        """
        return self.cache.get_or_encode(
            self.key_of(image_sha256 or digest(pixels)), lambda: self._encode(pixels)
        )

    def key_of(self, image_sha256: str) -> CacheKey:
        """What the embedding of the image with this digest is kept under."""
        return CacheKey(image_sha256, self._weights_id, PREPROCESSING, self.precision.name)

    def encode_many(
        self, images: Sequence[npt.NDArray[np.uint8]], digests: Sequence[str] | None = None
    ) -> list[Embedding]:
        """The embeddings of several images, those that the cache has not in one pass of the encoder.

        Args:
            images: (H, W, 3) uint8 RGB each, of any sizes.
            digests: their :func:`composer.images.digest`, where they are known already.
        """
        keys = [self.key_of(one) for one in digests or [digest(pixels) for pixels in images]]

        def encode(missing: list[int]) -> list[Embedding]:
            with self.encoder_lock:
                return self.model.encode([images[place] for place in missing])

        return self.cache.get_or_encode_many(keys, encode)

    def describe(self) -> dict[str, Any]:
        """The model as reports name it: preset, weights digest, device, precision.

        ``companions`` are the text-image models and detectors that have answered so far, if any have.
        """
        companions = self.companions.describe()
        about = {
            "preset": self.preset.name,
            "weights": self.preset.weights.file
            if self.preset.weights.embedded
            else Path(self.preset.weights.file).name,
            "weights_sha256": self.model.digest or None,
            "device": str(self.device),
            "precision": self.precision.name,
        }
        if isinstance(self.model.image_encoder, OnnxEncoder):
            about["encoder_runtime"] = "onnx"
        return about | ({"companions": companions} if companions else {})

    def _checked(self, requests: Sequence[Request] | Pipeline) -> Sequence[Request] | Pipeline:
        """The requests, refused before an image is opened for them in vain."""
        if isinstance(requests, Pipeline):
            check_length(requests, self.limits)
            return requests
        if isinstance(requests, Request):
            requests = [requests]
        if not 0 < len(requests) <= self.limits.max_requests:
            raise UsageError(
                f"{len(requests)} requests: give 1 to {self.limits.max_requests}", field="requests"
            )
        for request in requests:
            adapter_of(request)
        return requests

    def edges_at(self, pixels: npt.NDArray[np.uint8], side: int) -> tuple[Tensor, int, tuple[int, int]]:
        """What the edge head says of (H, W, 3) uint8 RGB pixels at another size; nothing of it is kept.

        See :meth:`sam.model.SegmentAnything.edges_at`.
        """
        with self.encoder_lock:
            return self.model.edges_at(pixels, side)

    def _encode(self, pixels: npt.NDArray[np.uint8]) -> Embedding:
        with self.encoder_lock:
            return self.model.encode([pixels])[0]


class Scene(AdapterScene):
    """One opened image: encoded once, asked any number of times.

    Attributes:
        source: the image with its digest and file name.
        limits: those of its composer.
    """

    def __init__(self, composer: Composer, source: Image, embedding: Embedding | None = None) -> None:
        super().__init__(
            source.pixels,
            composer.model,
            # A window of the image has a digest of its own; the image's was computed when it was read.
            lambda pixels: composer.encode(pixels, source.sha256 if pixels is source.pixels else None),
            composer.preset.defaults,
            composer.companions,
            encode_many=composer.encode_many,
            edges_at=composer.edges_at,
            embedding=embedding,
        )
        self.source = source
        self.limits = composer.limits

    @overload
    def run(self, request: Pipeline) -> PipelineResult: ...
    @overload
    def run(self, request: Request) -> Result: ...
    def run(self, request: Request | Pipeline) -> Result | PipelineResult:
        """Answer one request, or all steps of a pipeline.

        Raises:
            UsageError: no adapter answers this kind of request, or more steps than the limits allow.
            BadPrompt: it does not fit this image.
        """
        if isinstance(request, Pipeline):
            check_length(request, self.limits)
            return run_pipeline(self, request)
        return adapter_of(request)(self, request)
