"""The second part: pictures of named things, and the words for them, learn to point the same way."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer.clip_training.phrases import Names, Vocabulary, say
from composer.clip_training.regions import PackedRegions, drawn
from composer.clip_training.schedule import Optimiser
from composer.clip_training.words import Phrases, distillation_loss, tokenized, vectors_of

OTHER_WORDS = 48
"""Words of no picture in the batch, as further wrong answers."""
REHEARSED = 64
"""Phrases a step still learnt from the teacher, lest what has no pictures be forgotten."""
AHEAD = 3
HIGHEST_SCALE = 100.0


class Sampler:
    """Draws named pictures: a set by its weight, a name by the root of its number, a picture of that name.

    Args:
        sets: packed pictures.
        weights: of each set.
        vocabulary: what names mean; those that mean nothing, and what is held out, are not drawn.
    """

    def __init__(
        self, sets: Mapping[str, PackedRegions], weights: Mapping[str, float], vocabulary: Vocabulary
    ) -> None:
        self._sets = sets
        self._names: dict[str, list[Names]] = {}
        self._members: dict[str, list[list[int]]] = {}
        self._shares: dict[str, list[float]] = {}
        for key, packed in sets.items():
            members: dict[str, tuple[Names, list[int]]] = {}
            for number, given in enumerate(packed.names):
                names = None if packed.held_out[number] else vocabulary.names(given)
                if names is not None:
                    members.setdefault(names.words[0], (names, []))[1].append(number)
            if members:
                self._names[key] = [names for names, _ in members.values()]
                self._members[key] = [numbers for _, numbers in members.values()]
                self._shares[key] = [len(numbers) ** 0.5 for numbers in self._members[key]]
        self._keys = list(self._names)
        self._weights = [weights[key] for key in self._keys]
        every = [word for names in self._names.values() for n in names for word in (*n.words, *n.wider)]
        self.words = list(dict.fromkeys(every))

    def draw(self, count: int, side: int, chance: random.Random) -> tuple[npt.NDArray[np.uint8], list[Names]]:
        """``count`` pictures (n, side, side, 3) uint8 and their names."""
        pictures, found = [], []
        for key in chance.choices(self._keys, self._weights, k=count):
            (which,) = chance.choices(range(len(self._shares[key])), self._shares[key])
            number = chance.choice(self._members[key][which])
            pictures.append(drawn(self._sets[key][number], side, chance))
            found.append(self._names[key][which])
        return np.stack(pictures), found


@dataclass(frozen=True)
class Batch:
    """B pictures and P phrases.

    Attributes:
        pictures: (B, 3, S, S) float32, normalised.
        tokens: (P, L) int64.
        right: (B, P) bool: the phrase is true of the picture.
    """

    pictures: Tensor
    tokens: Tensor
    right: Tensor


def make_batch(
    sampler: Sampler, tokenizer: Any, count: int, side: int, normalise: Callable[[Tensor], Tensor], key: str
) -> Batch:
    """One batch, the same for the same ``key``."""
    chance = random.Random(key)
    pixels, names = sampler.draw(count, side, chance)
    words: dict[str, None] = {}
    for one in names:
        wide = bool(one.wider) and chance.random() < 0.2
        words[chance.choice(one.wider) if wide else _one_of(one.words, chance)] = None
    for other in chance.sample(sampler.words, min(OTHER_WORDS, len(sampler.words))):
        words[other] = None
    true = [{*one.words, *one.wider} for one in names]
    right = torch.tensor([[word in mine for word in words] for mine in true])
    pictures = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    tokens = tokenized(tokenizer, [say(word, chance) for word in words])
    return Batch(pictures.contiguous(memory_format=torch.channels_last), tokens, right)


def _one_of(words: Sequence[str], chance: random.Random) -> str:
    return words[0] if chance.random() < 0.5 else chance.choice(words)


def contrastive_loss(pictures: Tensor, phrases: Tensor, right: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Each picture finds its phrases among all, each phrase its pictures, and each pair is true or not.

    Args:
        pictures: (B, d) unit vectors.
        phrases: (P, d) unit vectors.
        right: (B, P) bool.
        scale, bias: of the cosines; the bias counts for the last part alone (SigLIP's), a softmax ignores it.
    """
    logits = scale * pictures @ phrases.T
    to_phrases = torch.logsumexp(logits, 1) - torch.logsumexp(logits.masked_fill(~right, -torch.inf), 1)
    used = right.any(0)
    spread = torch.log_softmax(logits.T[used], 1)
    to_pictures = -(spread * right.T[used]).sum(1) / right.T[used].sum(1)
    pairs = F.softplus(torch.where(right, -1.0, 1.0) * (logits + bias)).sum(1)
    return to_phrases.mean() + 0.5 * to_pictures.mean() + 0.5 * pairs.mean()


def batches(make: Callable[[int], Batch], first: int, last: int) -> Iterator[Batch]:
    """Batches of the steps ``first`` to ``last`` (exclusive), a few made ahead in a thread of their own."""
    with ThreadPoolExecutor(1) as pool:
        steps = iter(range(first, last))
        waiting = [pool.submit(make, step) for step in itertools.islice(steps, AHEAD)]
        try:
            while waiting:
                batch = waiting.pop(0).result()
                waiting.extend(pool.submit(make, step) for step in itertools.islice(steps, 1))
                yield batch
        finally:
            for one in waiting:
                one.cancel()


def train_pictures(
    model: nn.Module,
    make: Callable[[int], Batch],
    rehearsed: Phrases,
    optimiser: Optimiser,
    on_step: Callable[[int, dict[str, float]], bool],
) -> None:
    """Take the steps that are left, until all are taken or ``on_step`` says to stop.

    Args:
        model: of open_clip, with a bias.
        make: gives the batch of a step.
        rehearsed: phrases and their teacher's vectors.
        optimiser: of the model; knows the step.
        on_step: called with the step and its figures; True to stop.
    """
    towers: Any = model
    model.train()
    for batch in batches(make, optimiser.step, optimiser.total):
        chance = random.Random(f"rehearsed {optimiser.seed} {optimiser.step}")
        tokens, targets = rehearsed.draw(REHEARSED, chance)
        pictures = F.normalize(towers.visual(batch.pictures), dim=-1)
        phrases = F.normalize(vectors_of(towers.text, batch.tokens), dim=-1)
        loss = contrastive_loss(pictures, phrases, batch.right, towers.logit_scale.exp(), towers.logit_bias)
        again, cosine = distillation_loss(vectors_of(towers.text, tokens), targets)
        optimiser.take(loss + again)
        with torch.no_grad():
            towers.logit_scale.clamp_(max=float(np.log(HIGHEST_SCALE)))
            top = (pictures @ phrases.T).argmax(1, keepdim=True)
            named = float(batch.right.gather(1, top).float().mean())
        if on_step(optimiser.step, {"loss": float(loss.detach()), "named": named, "cosine": float(cosine)}):
            return
