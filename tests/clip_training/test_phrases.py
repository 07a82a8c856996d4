"""Names of data sets become words that people say."""

from __future__ import annotations

import random

from composer.clip_training.phrases import Names, Vocabulary, composed, say
from composer.clip_training.words import corpus


def test_synonyms_wider_words_and_what_is_left_out() -> None:
    words = Vocabulary(
        same={"cellphone": ["cell phone", "phone"]},
        wider={"dog": ["terrier", "pug"], "animal": ["dog"]},
        ignored=["object"],
        held_out=["llama"],
    )
    assert words.names("cellphone") == Names(("cell phone", "phone"))
    assert words.names("Yorkshire terrier") == Names(("yorkshire terrier",), ("terrier", "dog"))
    assert words.names("dog") == Names(("dog",), ("animal",))
    assert words.names("limousine, limo") == Names(("limousine", "limo"))
    assert words.names("object") is None
    assert words.names("llama") is None and words.held_out("llama") == "llama"
    assert words.names("toy llama") is None and words.held_out("toy llama") == "llama"
    assert words.held_out("dog") is None


def test_corpus_has_the_words_of_pictures_first_and_each_phrase_once() -> None:
    phrases, often = corpus(["car", "dog", "car"], ["Dog", "12", "sundial", "'s"], 20, seed=1)
    assert phrases[:often] == ["car", "dog"]
    assert phrases[often] == "sundial" and "12" not in phrases and "'s" not in phrases
    assert len(phrases) == len(set(phrases)) and len(phrases) > 12
    assert corpus(["car", "dog"], ["sundial"], 20, seed=1) == corpus(["car", "dog"], ["sundial"], 20, seed=1)


def test_sentences_hold_the_phrase() -> None:
    chance = random.Random(0)
    assert all("red car" in say("red car", chance) for _ in range(30))
    assert all("{" not in phrase for phrase in composed(["cat", "mat"], 50, chance))
