"""What names become: clean phrases, other words for them, wider words, and sentences around them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from composer.category_names import spoken_name

SENTENCES = (
    "{}", "{}", "{}", "a {}", "the {}", "a photo of a {}.", "a photo of the {}.", "a picture of a {}.",
    "a close-up of a {}.", "a small {}.", "a cropped photo of the {}.", "there is a {} in the photo.",
)  # fmt: skip
"""Drawn alike; the plain phrase counts three times."""
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown", "grey", "orange", "pink", "purple")
QUALITIES = (
    "big", "small", "old", "new", "wooden", "metal", "plastic", "broken", "round", "dirty", "shiny",
    "striped", "open", "empty", "wet", "toy",
)  # fmt: skip
RELATIONS = ("{} and {}", "{} on a {}", "{} next to a {}", "{} with a {}", "{} in front of a {}")


@dataclass(frozen=True)
class Names:
    """The words for one class.

    Attributes:
        words: phrases that mean it, the first being its name in reports.
        wider: phrases for what it is one of.
    """

    words: tuple[str, ...]
    wider: tuple[str, ...] = ()


class Vocabulary:
    """Names of data sets to the words that are taught for them.

    Args:
        same: by clean name, other words for it; the first replaces the name itself.
        wider: by a wider word, the clean names that it covers.
        ignored: clean names that say nothing about what is seen.
        held_out: words that must not be taught; whatever has one of them is left out.
    """

    def __init__(
        self,
        same: Mapping[str, Sequence[str]] | None = None,
        wider: Mapping[str, Sequence[str]] | None = None,
        ignored: Sequence[str] = (),
        held_out: Sequence[str] = (),
    ) -> None:
        self._same = {key: tuple(words) for key, words in (same or {}).items()}
        self._wider: dict[str, list[str]] = {}
        for word, names in (wider or {}).items():
            for name in names:
                self._wider.setdefault(name, []).append(word)
        self._ignored = frozenset(ignored)
        self._held_out = frozenset(held_out)

    def names(self, given: str) -> Names | None:
        """The words for a data set's class; None where it is not to be taught.

        Args:
            given: as the data set has it; commas part synonyms.
        """
        words: list[str] = []
        for part in given.split(","):
            name = spoken_name(part)
            words += self._same.get(name, (name,)) if name else ()
        words = list(dict.fromkeys(words))
        if not words or words[0] in self._ignored or any(self._is_held_out(word) for word in words):
            return None
        # "Yorkshire terrier" is a terrier; names whose last word misleads, such as "hot dog", are in `same`.
        last = [name.rsplit(" ", 1)[1] for name in words if " " in name and name not in self._same]
        wider = [w for name in (*words, *last) for w in (name, *self._wider.get(name, ()))]
        wider = [w for w in dict.fromkeys(wider) if w not in words and w not in self._held_out]
        return Names(tuple(words), tuple(wider))

    def held_out(self, given: str) -> str | None:
        """The word for which a class is held out, or None."""
        words = [
            word
            for part in given.split(",")
            for word in self._same.get(spoken_name(part), (spoken_name(part),))
        ]
        return next(
            (part for word in words for part in (word, *word.split()) if part in self._held_out), None
        )

    def _is_held_out(self, word: str) -> bool:
        return word in self._held_out or not self._held_out.isdisjoint(word.split())


def say(phrase: str, chance: random.Random) -> str:
    """A phrase in one of the sentences."""
    return chance.choice(SENTENCES).format(phrase)


def composed(phrases: Sequence[str], count: int, chance: random.Random) -> list[str]:
    """``count`` longer phrases made of others: coloured, qualified, two together."""
    found = []
    for _ in range(count):
        phrase, kind = chance.choice(phrases), chance.random()
        if kind < 0.4:
            phrase = f"{chance.choice(COLOURS)} {phrase}"
        elif kind < 0.7:
            phrase = f"{chance.choice(QUALITIES)} {phrase}"
        else:
            phrase = chance.choice(RELATIONS).format(phrase, chance.choice(phrases))
        found.append(phrase)
    return found
