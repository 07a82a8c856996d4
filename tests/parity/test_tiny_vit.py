"""MobileSAM (TinyViT-5M and the paper's decoder) against ultralytics' build of it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from sam.embedding import resize_longest_side
from sam.variants import build_model

RELATIVE_TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["portrait", "landscape"])
def compared(request, randomise, compared_type, configured):
    from ultralytics.models.sam.build import build_mobile_sam

    image = request.getfixturevalue(request.param)
    reference = randomise(build_mobile_sam(), seed=30)
    # Ultralytics caches the biases when the mode changes; those of the drawn weights are wanted.
    reference.train().eval()
    model = build_model(configured("mobile"))
    model.load_state_dict(reference.state_dict(), strict=True)
    with torch.inference_mode():
        features = reference.image_encoder(model.preprocess([resize_longest_side(image, 1024)]))
    answer = partial(decode_with_ultralytics, reference, features, image.shape[:2])
    return compared_type(model, image, features, answer)


@torch.inference_mode()
def decode_with_ultralytics(reference, features, size, prompts, multimask):
    """IoU predictions, low-resolution logits and full-size logits of ultralytics' modules."""
    height, width = size
    scale = 1024 / max(size)
    input_size = (int(height * scale + 0.5), int(width * scale + 0.5))
    xy = torch.tensor([input_size[1] / width, input_size[0] / height])
    sparse, dense = reference.prompt_encoder(
        points=None if prompts.points is None else (prompts.points * xy, prompts.labels),
        boxes=None if prompts.boxes is None else prompts.boxes * xy.repeat(2),
        masks=None if prompts.mask_logits is None else prompts.mask_logits[:, None],
    )
    low_res, iou = reference.mask_decoder(
        image_embeddings=features,
        image_pe=reference.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
    square = F.interpolate(low_res, (1024, 1024), mode="bilinear", align_corners=False)
    inside = square[..., : input_size[0], : input_size[1]]
    return iou, low_res, F.interpolate(inside, size, mode="bilinear", align_corners=False)


def test_image_embedding(compared):
    assert compared.embedding_error() < RELATIVE_TOLERANCE


def test_decode(compared, prompt_case):
    errors = compared.decode_errors(prompt_case, multimask=True)
    assert max(errors.values()) < RELATIVE_TOLERANCE, errors
