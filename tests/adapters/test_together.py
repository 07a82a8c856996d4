"""Clicks of many at once are answered as each of them alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from adapters import decoding
from adapters.base import Scene
from adapters.points import Points, PointsAdapter
from adapters.together import answer_together
from sam.errors import BadPrompt

MakeScene = Callable[..., Scene]


def asked(scene: Scene) -> list[Points]:
    logits = PointsAdapter()(scene, Points([[20, 20]])).low_res_logits
    return [
        Points([[10, 12]]),
        Points([[10, 12], [30, 20]], labels=[1, 0]),
        Points([[[5, 5]], [[25, 30]], [[1, 2]]], masks="all"),
        Points([[10, 30]], mask_logits=logits),
        Points([[33, 3]]),
    ]


def test_same_as_each_alone(make_scene: MakeScene) -> None:
    sizes = [(40, 60), (64, 64), (90, 50), (40, 60), (200, 130)]
    scenes = [make_scene(*size) for size in sizes]
    requests = asked(scenes[0])
    together = answer_together(scenes, requests)
    for scene, request, found in zip(scenes, requests, together, strict=True):
        alone = PointsAdapter()(scene, request)
        assert found.image_size == scene.size and len(found) == len(alone)
        np.testing.assert_allclose(found.scores, alone.scores, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found.prompt_index, alone.prompt_index)
        np.testing.assert_array_equal(found.ambiguity, alone.ambiguity)
        np.testing.assert_array_equal(found.points, alone.points)
        assert (found.masks == alone.masks).mean() > 0.999
        assert found.low_res_logits is not None and alone.low_res_logits is not None
        assert float((found.low_res_logits - alone.low_res_logits).abs().max()) < 1e-4


def test_logits_are_held_within_the_budget(make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "KEPT_LOGITS_BUDGET", 32 * 32 * 4)
    few, many = answer_together(
        [make_scene(), make_scene()], [Points([[1, 1]]), Points([[[1, 1]], [[2, 2]]])]
    )
    assert few.low_res_logits is not None and many.low_res_logits is None


def test_what_is_wrong_with_one_is_said(make_scene: MakeScene) -> None:
    with pytest.raises(BadPrompt, match="60 px wide"):
        answer_together([make_scene(), make_scene()], [Points([[1, 1]]), Points([[60, 1]])])
    with pytest.raises(ValueError, match="2 requests for 1 scenes"):
        answer_together([make_scene()], [Points([[1, 1]])] * 2)


def test_one_model(make_scene: MakeScene) -> None:
    import copy

    other = make_scene()
    other.model = copy.deepcopy(other.model)
    with pytest.raises(ValueError, match="several models"):
        answer_together([make_scene(), other], [Points([[1, 1]])] * 2)


def test_nothing_asked() -> None:
    assert answer_together([], []) == []
