"""The first part: the text tower learns a teacher's vectors, so that unseen nouns land near seen ones."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer.clip_training.phrases import composed, say
from composer.clip_training.schedule import Optimiser

TEMPERATURE = 0.05
WORDLIKE = re.compile(r"[a-z]{2}")


class Phrases:
    """n phrases and their (n, d) target vectors, drawn in sentences.

    Args:
        phrases: any texts.
        targets: unit vectors.
        often: the first so many are drawn in a quarter of all cases: the words that pictures will have.
        tokenizer: of open_clip.
    """

    def __init__(self, phrases: Sequence[str], targets: Tensor, often: int, tokenizer: Any) -> None:
        self.phrases, self.targets, self.often = phrases, targets, often
        self._tokenizer = tokenizer

    def draw(self, count: int, chance: random.Random) -> tuple[Tensor, Tensor]:
        """``count`` tokenized sentences, no longer than they must be, and their targets."""
        rows = [
            chance.randrange(self.often if chance.random() < 0.25 else len(self.phrases))
            for _ in range(count)
        ]
        return tokenized(self._tokenizer, [say(self.phrases[i], chance) for i in rows]), self.targets[rows]


def corpus(words: Sequence[str], nouns: Sequence[str], made: int, seed: int) -> tuple[list[str], int]:
    """All phrases to learn, and how many of them, the first, are words of pictures.

    Args:
        words: what pictures will be called.
        nouns: a dictionary's noun phrases.
        made: how many longer phrases to make of both.
        seed: of these.
    """
    first = list(dict.fromkeys(words))
    known = set(first)
    others = [
        n for n in dict.fromkeys(n.strip().lower() for n in nouns) if WORDLIKE.search(n) and n not in known
    ]
    chance = random.Random(seed)
    plain = [n for n in others if n.isalpha() and len(n) < 12]  # things more often than Latin names
    longer = composed(first, made // 2, chance) + composed(first + plain, made - made // 2, chance)
    return [*first, *others, *dict.fromkeys(longer)], len(first)


def tokenized(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """(n, l) int64 tokens, cut after the longest text: a tower's cost is in its length."""
    tokens: Tensor = tokenizer(list(texts))
    length = int((tokens != 0).sum(1).max())
    return tokens[:, :length]


def vectors_of(text: Any, tokens: Tensor) -> Tensor:
    """(n, d) vectors of (n, l) tokens; open_clip's causal mask has to be as long as they are."""
    whole, length = text.attn_mask, tokens.shape[1]
    text.attn_mask = whole[:length, :length]
    try:
        found: Tensor = text(tokens)
    finally:
        text.attn_mask = whole
    return found


def distillation_loss(vectors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How far (n, d) vectors are from their targets, and the mean cosine.

    Beside the cosine to its own target each vector is asked to tell that from the batch's others, without
    which a small tower gives the mean of its neighbourhood.
    """
    vectors = F.normalize(vectors, dim=-1)
    cosine = (vectors * targets).sum(-1).mean()
    # Phrases drawn twice, and their like, are no mistakes.
    alike = targets @ targets.T > 0.98
    logits = (vectors @ targets.T / TEMPERATURE).masked_fill(alike, -torch.inf)
    own = (vectors * targets).sum(-1, keepdim=True) / TEMPERATURE
    told_apart = (torch.logsumexp(torch.cat([own, logits], 1), 1) - own[:, 0]).mean()
    return 1 - cosine + 0.1 * told_apart, cosine.detach()


def train_words(
    text: nn.Module,
    phrases: Phrases,
    optimiser: Optimiser,
    batch: int,
    on_step: Callable[[int, dict[str, float]], bool],
) -> None:
    """Take the steps that are left, until all are taken or ``on_step`` says to stop.

    Args:
        text: the text tower, tokens to vectors.
        phrases: what to learn.
        optimiser: of the tower; knows the step.
        batch: phrases a step.
        on_step: called with the step and its figures; True to stop.
    """
    text.train()
    while optimiser.step < optimiser.total:
        chance = random.Random(f"words {optimiser.seed} {optimiser.step}")
        tokens, targets = phrases.draw(batch, chance)
        loss, cosine = distillation_loss(vectors_of(text, tokens), targets)
        optimiser.take(loss)
        if on_step(optimiser.step, {"loss": float(loss.detach()), "cosine": float(cosine)}):
            return
