"""How well a pair names pictures that are held out, and things of whose words it has seen no picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.clip import new_model
from adapters.visual_prompts import LOOKS
from composer.clip_training.phrases import Vocabulary
from composer.clip_training.regions import Named, PackedRegions, shown
from composer.clip_training.words import tokenized, vectors_of

MOST = 600
"""Pictures of each kind that are looked at."""
BATCH = 100


class Check:
    """Names held-out pictures by the nearest word.

    Args:
        sets: packed sets; of class folders some pictures are held out, and some classes by their word.
        held: regions of the held-out photos.
        vocabulary: what names mean.
        tokenizer: of open_clip.
        normalise: pictures (n, 3, h, w) in [0, 1] to the tower's input.
        config: of the model.
    """

    def __init__(
        self,
        sets: Mapping[str, PackedRegions],
        held: PackedRegions,
        vocabulary: Vocabulary,
        tokenizer: Any,
        normalise: Callable[[Tensor], Tensor],
        config: Mapping[str, Any],
    ) -> None:
        self._tokenizer, self._normalise, self._config = tokenizer, normalise, config
        self._side = int(config["model_cfg"]["vision_cfg"]["image_size"])
        self._kinds: dict[str, tuple[list[Named], list[str]]] = {}
        unseen: list[tuple[PackedRegions, int, str]] = []
        for key, packed in sets.items():
            rows = [i for i in np.flatnonzero(packed.held_out) if vocabulary.names(packed.names[i])]
            self._add(key, [(packed, int(i), vocabulary.names(packed.names[i]).words[0]) for i in rows])  # type: ignore[union-attr]
            words = [(i, vocabulary.held_out(name)) for i, name in enumerate(packed.names)]
            unseen += [(packed, i, word) for i, word in words if word]
        self._add("unseen words", unseen)
        known = [(i, vocabulary.names(name)) for i, name in enumerate(held.names)]
        self._add("regions", [(held, i, names.words[0]) for i, names in known if names])

    def _add(self, kind: str, rows: Sequence[tuple[PackedRegions, int, str]]) -> None:
        if not rows:
            return
        chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int)]
        self._kinds[kind] = ([packed[i] for packed, i, _ in chosen], [word for _, _, word in chosen])

    def __call__(self, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Share of pictures whose own word is the nearest, among the words of their kind."""
        model, _ = new_model(self._config)
        model.load_state_dict(dict(tensors))
        model.eval()
        figures = {}
        with torch.inference_mode():
            for kind, (pictures, words) in self._kinds.items():
                known = sorted(set(words))
                phrases = self._text(model, known)
                vectors = self._pictures(model, pictures)
                best = (vectors @ phrases.T).argmax(1).tolist()
                right = [known[i] == word for i, word in zip(best, words, strict=True)]
                figures[f"{kind} ({len(known)} words)"] = float(np.mean(right))
        return figures

    def _text(self, model: Any, words: Sequence[str]) -> Tensor:
        parts = ["{}", "a photo of a {}."]
        texts = [tokenized(self._tokenizer, [part.format(word) for word in words]) for part in parts]
        vectors = [F.normalize(vectors_of(model.text, tokens), dim=-1) for tokens in texts]
        return F.normalize(sum(vectors, torch.zeros(1)), dim=-1)

    def _pictures(self, model: Any, pictures: Sequence[Named]) -> Tensor:
        total = torch.zeros(1)
        for look in LOOKS:
            views = [shown(one, self._side, look.context, look.style) for one in pictures]
            found = []
            for start in range(0, len(views), BATCH):
                pixels = torch.from_numpy(np.stack(views[start : start + BATCH]))
                found.append(model.visual(self._normalise(pixels.permute(0, 3, 1, 2).float() / 255)))
            total = total + F.normalize(torch.cat(found), dim=-1)
        return F.normalize(total, dim=-1)
