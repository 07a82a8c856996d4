"""The phrase itself as a prompt: its text vector through the weights' learned projection (paper §7.5, D.5).

The published checkpoints have no such projection, so this is for weights that were trained with one.
"""

from __future__ import annotations

import numpy as np

from adapters.decoding import segment
from adapters.results import Instances
from adapters.text_routes.naming import Named, look_at
from adapters.text_routes.sight import Sight, with_route
from adapters.text_routes.vocabulary import Vocabulary
from sam.errors import BadPrompt
from sam.prompts import Prompts


def from_token(sight: Sight, words: Vocabulary) -> Named:
    """The mask that each phrase's vector asks for, scored by its crops. Raises as :func:`prompted`."""
    seen = look_at(sight.scene.image, prompted(sight, words), sight.model)
    named = seen.named(words)
    own = seen.instances.prompt_index[:, None] == np.arange(len(words.phrases))
    return Named(named.instances, (named.relevance * own).astype(np.float32))


def prompted(sight: Sight, words: Vocabulary) -> Instances:
    """The mask that each phrase's vector asks for, best of three by predicted IoU.

    Raises:
        BadPrompt: ``text_slot_missing`` for weights without a text slot, ``text_slot_width`` where they were
            trained with another text-image model.
    """
    check_text_slot(sight)
    # Of several words for one phrase its own comes first.
    first = [int(np.flatnonzero(words.phrase_of == p)[0]) for p in range(len(words.phrases))]
    prompts = Prompts(text=words.vectors[first])
    return with_route(segment(sight.scene, prompts, multimask=True), "token")


def check_text_slot(sight: Sight) -> None:
    """Raises BadPrompt where text vectors of the text-image model are no prompts for the segmenter."""
    projection = sight.scene.model.prompt_encoder.text_projection
    if projection is None:
        raise BadPrompt(
            "the token route needs weights trained with a text slot, and these have none (no published ones "
            "do): use route rank, points or detect",
            code="text_slot_missing",
            field="route",
        )
    if projection.in_features != sight.model.width:
        raise BadPrompt(
            f"these weights take text vectors of width {projection.in_features}, and {sight.model.name} "
            f"gives {sight.model.width}: use the text-image model that they were trained with",
            code="text_slot_width",
            field="clip",
        )
