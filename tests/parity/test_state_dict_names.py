"""The shipped model configurations have exactly the names and shapes of the published checkpoints."""

from __future__ import annotations

import pytest
import torch

from sam.variants import build_model


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_segment_anything(name, configured):
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        assert shapes(build_model(configured(name))) == shapes(sam_model_registry[name]())


def test_mobile_sam(configured):
    from ultralytics.models.sam.build import build_mobile_sam

    assert shapes(build_model(configured("mobile"))) == shapes(build_mobile_sam())


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h", "mobile"])
def test_size_of_the_published_file(name, configured, preset):
    """The pinned file is these tensors in float32 and a little packaging."""
    with torch.device("meta"):
        tensors = build_model(configured(name)).state_dict().values()
    packaging = preset(name)["weights"]["bytes"] - sum(value.nbytes for value in tensors)
    assert 0 < packaging < 1024 * len(tensors)


def epsilons(model):
    """Epsilon of every normalisation by module name: too small to show in outputs of random weights."""
    return {name: module.eps for name, module in model.named_modules() if hasattr(module, "eps")}


def test_epsilons_of_normalisation(configured):
    from segment_anything import sam_model_registry
    from ultralytics.models.sam.build import build_mobile_sam

    for name, reference in (("vit_b", sam_model_registry["vit_b"]), ("mobile", build_mobile_sam)):
        ours, theirs = epsilons(build_model(configured(name))), epsilons(reference())
        assert len(theirs) > 20
        assert ours == theirs
