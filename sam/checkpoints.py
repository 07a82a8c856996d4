"""Weights on disk: the only module that reads or writes them (a test walks the source to prove it).

Nothing here runs code from a file: weights are safetensors or ``torch.load(weights_only=True)``, and a pinned
file is checked by size and SHA-256 before it is parsed. Names and shapes must match the model exactly; only a
text slot may come beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sam.errors import CheckpointError, EnvironmentProblem
from sam.prompt_encoder import PromptEncoder

TEXT_SLOT = "prompt_encoder.text_projection."
ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
HASH_CHUNK = 1 << 20
NAMES_SHOWN = 3
WRAPPERS = ("model", "state_dict")
"""Keys under which trainers nest the state dict."""


@dataclass(frozen=True)
class Weights:
    """What a weights file holds.

    Attributes:
        tensors: by state-dict name, on the CPU, in the file's own dtypes.
        digest: SHA-256 of the file, hexadecimal.
        metadata: the text that safetensors files carry; empty for others.
    """

    tensors: dict[str, Tensor]
    digest: str
    metadata: dict[str, str]


def load_weights(
    model: nn.Module, path: str | os.PathLike[str], *, sha256: str | None = None, size: int | None = None
) -> None:
    """Load a weights file into ``model``, strictly, and set ``model.digest`` to the file's SHA-256.

    Half-precision files load into float32 models. A segmenter without a text slot gets that of weights that
    were trained with one: it changes no other answer. The model is left as it was where this raises.

    Args:
        model: any module; its state-dict names and shapes are what the file must hold.
        path: safetensors or torch file.
        sha256: expected digest, hexadecimal; checked before parsing.
        size: expected length in bytes; checked first.

    Raises:
        CheckpointError: missing, damaged, not the pinned file, holding code, or of another model.
    """
    weights = read_weights(path, sha256=sha256, size=size)
    prompts: Any = getattr(model, "prompt_encoder", None)
    vectors = weights.tensors.get(TEXT_SLOT + "weight")
    slot = prompts.text_slot_for(vectors) if isinstance(prompts, PromptEncoder) else None
    added = {} if slot is None else {TEXT_SLOT + name: value for name, value in slot.state_dict().items()}
    _check_names_and_shapes(Path(path).name, weights.tensors, {**model.state_dict(), **added})
    if slot is not None:
        prompts.text_projection = slot
    model.load_state_dict(weights.tensors, strict=True)
    model.digest = weights.digest  # type: ignore[assignment]  # a plain string, which nn.Module's typing forgets


def read_weights(
    path: str | os.PathLike[str], *, sha256: str | None = None, size: int | None = None
) -> Weights:
    """Read a file of named tensors without running code from it.

    Raises:
        CheckpointError: missing, damaged, not the pinned file, or holding anything but tensors.
    """
    path = Path(path)
    _check_file(path, size)
    digest = file_digest(path)
    if sha256 is not None and digest != sha256.lower():
        raise CheckpointError(
            f"{path}: SHA-256 is {digest[:12]}…, expected {sha256[:12].lower()}…: not the published file; "
            "download it again",
            code="checkpoint_digest",
        )
    with path.open("rb") as file:
        magic = file.read(9)
    if magic.startswith((ZIP_MAGIC, PICKLE_MAGIC)):
        values = _torch_load(path, check_crc=sha256 is None)
        return Weights(_as_state_dict(path, values), digest, {})
    if magic[8:] == b"{":
        return _read_safetensors(path, digest)
    raise CheckpointError(
        f"{path}: neither safetensors nor a torch file; give the weights file itself",
        code="checkpoint_corrupt",
    )


def save_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    half: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Write the model's state dict as safetensors, atomically; returns the file's SHA-256.

    Args:
        model: its ``state_dict`` is written.
        path: the file to make or replace; its folder must exist.
        half: store parameters as float16. Buffers (batch-norm statistics, the positional matrix) keep their
            dtype: they are small, and rounding them moves every output. So does a parameter out of range.
        metadata: text kept in the file's header.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    buffers = {name for name, _ in model.named_buffers()}
    tensors = {
        name: _to_half(value) if half and name not in buffers else value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    data = _with_ordered_header(safetensors.torch.save(tensors, {"format": "pt", **(metadata or {})}))
    _write_atomically(Path(path), lambda file: file.write(data))
    return hashlib.sha256(data).hexdigest()


def _with_ordered_header(data: bytes) -> bytes:
    """The same file with its metadata in alphabetical order.

    safetensors writes it in an order that changes from call to call; equal weights must have equal digests.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[end:]


def save_training_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a trainer's state (tensors and plain Python values in dicts, lists and tuples), atomically.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    _write_atomically(Path(path), lambda file: torch.save(dict(state), file))


def load_training_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`save_training_state` wrote, tensors on the CPU.

    Raises:
        CheckpointError: missing, damaged, or holding anything but tensors and plain values.
    """
    path = Path(path)
    try:
        _check_file(path, None)
        state = _torch_load(path, check_crc=True)
    except CheckpointError as error:
        if error.code != "checkpoint_corrupt":
            raise
        state = None
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path}: damaged or no training state; delete it to start anew", code="checkpoint_corrupt"
        )
    return state


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal, read in chunks.

    Raises:
        CheckpointError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(HASH_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror})", code="checkpoint_unreadable"
        ) from error
    return digest.hexdigest()


def identify(tensors: Mapping[str, Tensor]) -> str:
    """A short guess, for messages, of which model these state-dict names belong to."""
    names = tensors.keys()
    position = tensors.get("image_encoder.pos_embed")
    if position is not None:
        width = position.shape[-1]
        name = {768: "SAM ViT-B", 1024: "SAM ViT-L", 1280: "SAM ViT-H"}.get(width, "a SAM ViT")
        return f"{name} (width {width})"
    if "image_encoder.patch_embed.seq.0.c.weight" in names:
        return "MobileSAM (TinyViT)"
    if any(name.startswith("image_encoder.backbone.") for name in names):
        return "a compact model of sam-composer"
    if any(name.startswith(("image_encoder.trunk.", "memory_attention.")) for name in names):
        return "SAM 2"
    if any(name.startswith("image_encoder.") for name in names):
        return "a SAM of an unknown kind"
    if "logit_scale" in names:
        return "a CLIP model"
    return "another kind of model"


def _check_file(path: Path, size: int | None) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such weights file", code="checkpoint_missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})", code="checkpoint_unreadable") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise CheckpointError(f"{path}: {kind}, expected a weights file", code="checkpoint_unreadable")
    found = status.st_size
    if found == 0:
        raise CheckpointError(f"{path}: the file is empty; download it again", code="checkpoint_corrupt")
    if size is not None and found != size:
        problem = "the download is incomplete" if found < size else "not the published file"
        raise CheckpointError(
            f"{path}: {found:,} bytes, expected {size:,}: {problem}; download it again",
            code="checkpoint_size",
        )


def _read_safetensors(path: Path, digest: str) -> Weights:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return Weights(tensors, digest, dict(file.metadata() or {}))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(path) from error


def _torch_load(path: Path, *, check_crc: bool) -> Any:
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped and check_crc:
            # torch does not look at the archive's checksums, so a flipped bit would become a weight.
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise _damaged(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about foreign pickles, which we refuse anyway
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except CheckpointError:
        raise
    except Exception as error:  # torch raises whatever its parsers trip over: a damaged file is any of them
        if any(sign in str(error).lower() for sign in ("global", "torchscript")):
            raise CheckpointError(
                f"{path}: loading it would run code stored in it, which sam-composer never does; "
                "expected a plain state dict or safetensors",
                code="checkpoint_unsafe",
            ) from error
        raise _damaged(path) from error


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: damaged or not a weights file; download it again", code="checkpoint_corrupt"
    )


def _as_state_dict(path: Path, values: Any) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(values, dict) and isinstance(values.get(wrapper), dict):
            values = values[wrapper]
    if not isinstance(values, dict) or not values or not all(isinstance(v, Tensor) for v in values.values()):
        raise CheckpointError(
            f"{path}: no state dict in it; expected named tensors", code="checkpoint_invalid"
        )
    tensors = {str(name): value for name, value in values.items()}
    if all(name.startswith("module.") for name in tensors):  # saved from a DistributedDataParallel wrapper
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _check_names_and_shapes(
    file_name: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    mismatched = [
        f"{name} is {tuple(found[name].shape)} where the model has {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    problems = [("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched)]
    if any(names for _, names in problems):
        listed = "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in problems if names)
        theirs, ours = identify(found), identify(wanted)
        guess = "same family, other shapes or extra parts" if theirs == ours else f"this looks like {theirs}"
        raise CheckpointError(
            f"{file_name} does not fit the model: {guess}; the model asked for is {ours}. Tensors {listed}",
            code="checkpoint_mismatch",
        )


def _first(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{shown}, …" if len(names) > NAMES_SHOWN else shown


def _to_half(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    if not value.is_floating_point():
        return value
    halved = value.half()
    return halved if bool(halved.isfinite().all()) else value


def _write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write beside ``path``, flush to the disk, rename: a reader sees the old file or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        raise EnvironmentProblem(
            f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}); "
            "check that the folder exists, is writable and has space"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
