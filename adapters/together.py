"""Clicks on several images answered by one decode: what a server does with the users of one moment."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.base import Scene
from adapters.decoding import answer_of, drawer_of, held_logits
from adapters.points import Points, prompts_of
from adapters.results import Instances
from sam.batched_decode import decode_many


def answer_together(scenes: Sequence[Scene], requests: Sequence[Points]) -> list[Instances]:
    """As :class:`adapters.points.PointsAdapter` answers each request about its scene, in fewer decodes.

    Meant for few clicks on each of many images; many on one image share more within a request of their own.

    Args:
        scenes: images, encoded or not, by one model.
        requests: as many, each about its scene.

    Raises:
        BadPrompt: a point outside its image, or mask logits of another shape, of any of them.
        ValueError: scenes of several models, or not one for each request.
    """
    if len(scenes) != len(requests):
        raise ValueError(f"{len(requests)} requests for {len(scenes)} scenes")
    if len({id(scene.model) for scene in scenes}) > 1:
        raise ValueError("scenes of several models cannot be decoded together")
    asked = [prompts_of(scene, request) for scene, request in zip(scenes, requests, strict=True)]
    found: dict[int, Instances] = {}
    for multimask in (False, True):
        places = [i for i, (_, wanted) in enumerate(asked) if wanted is multimask]
        if not places:
            continue
        candidates = decode_many(
            scenes[places[0]].model,
            [scenes[i].embedding for i in places],
            [asked[i][0] for i in places],
            multimask=multimask,
        )
        for i, one in zip(places, candidates, strict=True):
            scene, request, (prompts, _) = scenes[i], requests[i], asked[i]
            drawer = drawer_of(scene)
            answer = answer_of(scene, drawer, one, prompts, multimask=multimask, masks=request.masks)
            keep = held_logits(drawer, len(prompts), request.masks)
            found[i] = answer if keep else answer.replace(low_res_logits=None)
    return [found[i] for i in range(len(requests))]
