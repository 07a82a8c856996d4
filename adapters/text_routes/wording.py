"""Checks of phrases, their synonyms and thresholds: one clear line for each way to be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapters.checks import real_number
from sam.errors import BadPrompt

MAX_PHRASES = 100
MAX_CHARACTERS = 1000
MAX_SYNONYMS = 100


def shortened(phrase: str, length: int = 40) -> str:
    """A phrase as messages show it."""
    return phrase if len(phrase) <= length else phrase[: length - 1] + "…"


def checked_phrases(values: Any, field: str, *, least: int = 1, most: int = MAX_PHRASES) -> tuple[str, ...]:
    """Phrases without the spaces around them.

    Raises:
        BadPrompt: none or too many, one that is empty, too long or no text, or the same twice.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise BadPrompt(
            f'{field} must be a list of phrases such as ["a red car"], not {values!r}', field=field
        )
    phrases = tuple(_checked(value, field) for value in values)
    if not least <= len(phrases) <= most:
        raise BadPrompt(f"{len(phrases)} {field}: give {least} to {most}", field=field)
    for number, phrase in enumerate(phrases):
        if phrase in phrases[:number]:
            raise BadPrompt(f"{field}: {shortened(phrase)!r} is given twice", field=field)
    return phrases


def checked_synonyms(values: Any, phrases: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Synonyms by phrase. Raises BadPrompt as :func:`checked_phrases`, and of a phrase not asked for."""
    found = {}
    for phrase, words in _by_phrase(values, phrases, "synonyms").items():
        found[phrase] = checked_phrases(words, "synonyms", most=MAX_SYNONYMS)
        if phrase in found[phrase]:
            raise BadPrompt(f"synonyms: {shortened(phrase)!r} is given as its own", field="synonyms")
    return found


def checked_thresholds(values: Any, phrases: tuple[str, ...]) -> dict[str, float]:
    """Thresholds in [0, 1] by phrase; raises BadPrompt."""
    found = _by_phrase(values, phrases, "thresholds")
    for value in found.values():
        real_number(value, "thresholds", 0, 1)
    return {phrase: float(value) for phrase, value in found.items()}


def cut_off(tokenizer: Any, texts: Sequence[str], context_length: int) -> list[bool]:
    """Which texts a tokenizer of open_clip would cut to ``context_length`` tokens.

    With room for one token more a text that fits is the same, and does not get there. Either alone may hide a
    cut: SigLIP's tokenizer fills up with what ends a text, and others put no end.
    """
    wide = tokenizer(["", *texts], context_length=context_length + 1)
    changed = (tokenizer(["", *texts], context_length=context_length) != wide[:, :-1]).any(1)
    found: list[bool] = (changed | (wide[:, -1] != wide[0, -1]))[1:].tolist()
    return found


def _checked(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise BadPrompt(f"{field}: a phrase is text, not {value!r}", field=field)
    phrase = value.strip()
    if not phrase:
        raise BadPrompt(f"{field}: a phrase is empty; say what to look for", field=field)
    if len(phrase) > MAX_CHARACTERS:
        raise BadPrompt(
            f"{field}: {shortened(phrase)!r} has {len(phrase):,} characters; give at most {MAX_CHARACTERS:,}",
            code="phrase_too_long",
            field=field,
        )
    return phrase


def _by_phrase(values: Any, phrases: tuple[str, ...], field: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise BadPrompt(f"{field} must say for which phrase, as {{phrase: …}}, not {values!r}", field=field)
    found = {_checked(phrase, field): value for phrase, value in values.items()}
    for phrase in found:
        if phrase not in phrases:
            raise BadPrompt(
                f"{field}: {shortened(phrase)!r} is none of the phrases {', '.join(map(repr, phrases[:5]))}",
                field=field,
            )
    return found
