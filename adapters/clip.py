"""Models that compare pictures with words, by open_clip: the only module that imports it.

Any architecture of open_clip with any of its published weights, a local weights file, or a folder in its own
form (``open_clip_config.json`` beside ``open_clip_model.safetensors``), which is how ours is kept.
"""

from __future__ import annotations

import copy
import difflib
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as pictures

from adapters.clip_dense import dense_features
from adapters.quiet import quiet_root_logger
from adapters.text_routes.wording import cut_off, shortened
from sam.checkpoints import read_weights
from sam.errors import BadPrompt, CheckpointError, EnvironmentProblem, UsageError

Pixels = npt.NDArray[np.uint8]

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "a close-up photo of a {}.",
    "{}",
)
"""Sentences that a phrase is put into; the mean of their vectors stands for it."""
BATCH = 64
PHRASES_CACHED = 20_000


class TextImageModel:
    """Vectors of pictures and of phrases in one space, and how their cosines become scores.

    Attributes:
        name: for reports.
        scale: factor of a cosine before a softmax or sigmoid.
        bias: added before a sigmoid (SigLIP and its kind); None: the model was trained with a softmax.
        size: (H, W) of the pictures that it looks at, pixels.
        context_length: most tokens of a phrase, with its start and end.
        width: d, of the vectors.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        device: torch.device,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        self.model: Any = model
        model.eval().requires_grad_(False).to(device)
        self.name = name
        self.device = device
        self._tokenizer = tokenizer
        self._phrases: OrderedDict[tuple[str, tuple[str, ...]], Tensor] = OrderedDict()
        self._lock = threading.Lock()
        about = preprocessing or open_clip.get_model_preprocess_cfg(model)
        size = about["size"]
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        self._mean, self._std = (
            torch.tensor(about[key], device=device)[:, None, None] for key in ("mean", "std")
        )
        self.scale = math.exp(float(self.model.state_dict()["logit_scale"]))
        bias = getattr(self.model, "logit_bias", None)
        self.bias = None if bias is None else float(bias)
        self.context_length = int(getattr(self.model, "context_length", None) or tokenizer.context_length)
        with torch.inference_mode():
            self.width = int(self.model.encode_text(self._tokenizer([""]).to(device)).shape[-1])

    @classmethod
    def load(
        cls, name: str | Path, pretrained: str | Path | None = None, *, device: str | torch.device = "cpu"
    ) -> TextImageModel:
        """Load a model.

        Args:
            name: of an architecture of open_clip (``ViT-B-32``), or a folder in its form.
            pretrained: a tag of open_clip (downloaded at the first use) or a weights file; None only for a
                folder, which holds its own.
            device: where it runs.

        Raises:
            UsageError: an unknown architecture or tag (near ones are listed), or no weights named.
            CheckpointError: a file or folder that is missing, damaged, or of another architecture.
            EnvironmentProblem: weights that cannot be downloaded.
        """
        where = torch.device(device)
        folder = Path(name)
        if folder.is_dir() or folder.name == WEIGHTS:
            if pretrained is not None:
                raise UsageError(
                    f"{name} holds its own weights; leave {str(pretrained)!r} out, or name an architecture",
                    code="clip_unknown",
                    field="pretrained",
                )
            return cls._of_folder(folder if folder.is_dir() else folder.parent, where)
        name = _known_architecture(str(name))
        if pretrained is None:
            raise UsageError(
                f"{name}: name its weights too, a tag ({_tags(name)}) or a file",
                code="clip_unknown",
                field="pretrained",
            )
        source = str(pretrained)
        file = Path(source)
        preprocessing: Mapping[str, Any] | None = None
        if open_clip.is_pretrained_cfg(name, source):
            # Weights trained with QuickGELU give other answers without it, and open_clip only warns.
            quick = bool(open_clip.get_pretrained_cfg(name, source).get("quick_gelu"))
            model = _create(name, source, quick, f"{name}/{source}")
        elif file.is_file():
            model = _create(name, None, False, source)
            _load_file(model, file)
            preprocessing = _usual_preprocessing(name, model)
        else:
            raise UsageError(
                f"{source!r} is neither a file nor a tag of {name}; its tags: {_tags(name)}",
                code="clip_unknown",
                field="pretrained",
            )
        return cls(model, _tokenizer(name), f"{name}/{file.name}", where, preprocessing)

    @classmethod
    def _of_folder(cls, folder: Path, device: torch.device) -> TextImageModel:
        for part in (CONFIG, WEIGHTS):
            if not (folder / part).is_file():
                raise CheckpointError(
                    f"{folder}: not a folder of open_clip, {part} is missing",
                    code="clip_invalid",
                    field="clip",
                )
        # Random first: our own reader puts the tensors in, and runs no code for it.
        source = f"local-dir:{folder}"
        try:
            with quiet_root_logger():
                model = open_clip.create_model(source, load_weights=False, pretrained_text=False)
                tokenizer = open_clip.get_tokenizer(source)
        except Exception as error:  # whatever a foreign description does to open_clip
            raise CheckpointError(
                f"{folder / CONFIG}: not a description that open_clip can build ({_first_line(error)})",
                code="clip_invalid",
                field="clip",
            ) from error
        _load_file(model, folder / WEIGHTS)
        return cls(model, tokenizer, folder.name, device)

    def encode_phrases(self, phrases: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
        """(n, d) float32 unit vectors: of each phrase the mean over templates. Kept for the next call.

        Args:
            phrases: any texts.
            templates: sentences with ``{}``.

        Raises:
            BadPrompt: a phrase of more tokens than the model reads.
        """
        key = tuple(templates)
        with self._lock:
            missing = [p for p in dict.fromkeys(phrases) if (p, key) not in self._phrases]
            for start in range(0, len(missing), BATCH):
                part = missing[start : start + BATCH]
                for phrase, vector in zip(part, self._encode_texts(part, key), strict=True):
                    self._phrases[phrase, key] = vector
            found = [self._phrases[p, key] for p in phrases]
            for phrase in dict.fromkeys(phrases):
                self._phrases.move_to_end((phrase, key))
            while len(self._phrases) > PHRASES_CACHED:
                self._phrases.popitem(last=False)
        return torch.stack(found) if found else torch.zeros(0, self.width)

    def encode_pictures(self, shown: Sequence[Pixels]) -> Tensor:
        """(n, d) float32 unit vectors of (h, w, 3) uint8 RGB pictures, squeezed to :attr:`size`."""
        parts = []
        with self._lock, torch.inference_mode():
            for start in range(0, len(shown), BATCH):
                batch = torch.stack([self.prepare(one) for one in shown[start : start + BATCH]])
                parts.append(self.model.encode_image(batch, normalize=True).float().cpu())
        return torch.cat(parts) if parts else torch.zeros(0, self.width)

    def encode_dense(self, image: Pixels) -> Tensor:
        """(h, w, d) float32 unit vectors of the places of an image (H, W, 3), a grid over all of it.

        See :func:`adapters.clip_dense.dense_features`.
        """
        with self._lock, torch.inference_mode():
            return dense_features(self.model, self.prepare, image, self.size).float().cpu()

    def prepare(self, picture: Pixels, size: tuple[int, int] | None = None) -> Tensor:
        """(3, h, w) float32 input of a picture (H, W, 3), squeezed to ``size`` (by default :attr:`size`)."""
        writable = np.require(picture, requirements=["C", "W"])  # torch warns of arrays that are read-only
        pixels = torch.from_numpy(writable).permute(2, 0, 1).to(self.device)
        wanted = list(size or self.size)
        if list(pixels.shape[1:]) != wanted:
            pixels = pictures.resize(
                pixels, wanted, interpolation=pictures.InterpolationMode.BICUBIC, antialias=True
            )
        return (pixels.float() / 255 - self._mean) / self._std

    def _encode_texts(self, phrases: Sequence[str], templates: tuple[str, ...]) -> Tensor:
        texts = [template.format(phrase) for phrase in phrases for template in templates]
        tokens = self._tokenizer(texts)
        self._check_lengths(phrases, templates)
        with torch.inference_mode():
            vectors = torch.cat(
                [
                    self.model.encode_text(part.to(self.device), normalize=True).float().cpu()
                    for part in tokens.split(4 * BATCH)
                ]
            )
        mean = vectors.reshape(len(phrases), len(templates), -1).mean(1)
        return F.normalize(mean, dim=-1)

    def _check_lengths(self, phrases: Sequence[str], templates: tuple[str, ...]) -> None:
        """Tokenizers cut long texts off without a word; what a person asked would be read in half."""
        longest = max(templates, key=len)
        texts = [longest.format(phrase) for phrase in phrases]
        too_long_for = cut_off(self._tokenizer, texts, self.context_length)
        for phrase, too_long in zip(phrases, too_long_for, strict=True):
            if too_long:
                raise BadPrompt(
                    f"phrase {shortened(phrase)!r} has too many words: {self.name} reads "
                    f"{self.context_length} tokens with those around it; make it shorter",
                    code="phrase_too_long",
                    field="phrases",
                )


def new_model(config: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """A model with random weights, and its tokenizer, for training.

    Args:
        config: what :data:`CONFIG` holds; its tokenizer is CLIP's.
    """
    described = copy.deepcopy(dict(config["model_cfg"]))
    custom = described.pop("custom_text", False)
    model: nn.Module = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**described)
    length = config["model_cfg"]["text_cfg"].get("context_length", 77)
    return model, open_clip.SimpleTokenizer(context_length=length)


def _known_architecture(name: str) -> str:
    known = open_clip.list_models()
    wanted = name.replace("/", "-")
    if wanted in known:
        return wanted
    near = ", ".join(difflib.get_close_matches(wanted, known, n=4, cutoff=0.5))
    raise UsageError(
        f"{name!r} is neither a folder nor an architecture of open_clip"
        + (f"; near: {near}" if near else f"; known: {', '.join(known[:12])} …"),
        code="clip_unknown",
        field="clip",
    )


def _tags(name: str) -> str:
    return ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "it has none"


def _create(name: str, tag: str | None, quick_gelu: bool, where: str) -> nn.Module:
    try:
        with quiet_root_logger():
            return open_clip.create_model(  # type: ignore[no-any-return]
                name, pretrained=tag, force_quick_gelu=quick_gelu, pretrained_text=False
            )
    except Exception as error:  # a download, or a tokenizer that has to be downloaded
        raise EnvironmentProblem(
            f"{where}: cannot be loaded by open_clip ({_first_line(error)}); without a network, name a file "
            "or a folder that is here",
            code="download_failed",
        ) from error


def _usual_preprocessing(name: str, model: nn.Module) -> Mapping[str, Any]:
    """How a model of a weights file takes its pictures: as all published weights of its architecture do.

    Where they differ, or there are none, it is open_clip's default.
    """
    about: Mapping[str, Any] = open_clip.get_model_preprocess_cfg(model)
    known = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    usual = {(tuple(c.get("mean", about["mean"])), tuple(c.get("std", about["std"]))) for c in known}
    if len(usual) != 1:
        return about
    mean, std = usual.pop()
    return {**about, "mean": mean, "std": std}


def _tokenizer(name: str) -> Any:
    try:
        return open_clip.get_tokenizer(name)
    except Exception as error:
        raise EnvironmentProblem(
            f"the tokenizer of {name} cannot be loaded ({_first_line(error)}); it is downloaded by open_clip "
            "at the first use",
            code="download_failed",
        ) from error


def _load_file(model: nn.Module, path: Path) -> None:
    """Any weights of an open_clip model: names as in its state dict, or as OpenAI and others wrote them."""
    from open_clip.convert import convert_state_dict

    tensors = read_weights(path).tensors
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    try:
        tensors = convert_state_dict(model, tensors)
        model.load_state_dict(tensors, strict=True)
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{path}: weights of another architecture ({_first_line(error)})",
            code="checkpoint_mismatch",
            field="pretrained",
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__
