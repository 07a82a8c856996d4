"""The image side that prompts share gives what the two-way transformer as published gives."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn

from sam.low_rank import LowRankSide, attend_shared, rank
from sam.mask_decoder import MaskDecoder
from sam.model import SHARED_IMAGES, SegmentAnything
from sam.prompts import Prompts
from sam.shared_image import share_image
from sam.transformer import TwoWayTransformer
from sam.variants import ModelConfig, build_model

SIZE = (9, 7)
SMALL = {
    "encoder": {
        "family": "compact", "backbone": "regnetx_002", "image_size": 128, "out_chans": 64, "neck_chans": 16,
    },
    "decoder": {"embed_dim": 64, "num_heads": 2, "mlp_dim": 64},
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    torch.manual_seed(0)
    return build_model(ModelConfig.from_mapping("small", SMALL))


def spread(module: nn.Module) -> None:
    """Weights that make every part count: norms that scale, biases that are not zero."""
    for name, parameter in module.named_parameters():
        mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        nn.init.normal_(parameter, mean=mean, std=0.3)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("prompts", "tokens"), [(1, 6), (5, 7), (3, 11)])
@pytest.mark.parametrize(("width", "heads"), [(64, 4), (32, 2)])
@pytest.mark.parametrize("masks", [False, True])
def test_tokens_and_image_are_the_transformers(
    depth: int, prompts: int, tokens: int, width: int, heads: int, masks: bool
) -> None:
    # In float64, but for the softmax of the plain way: what is left is far less than a wrong formula makes.
    generator = torch.Generator().manual_seed(depth)
    torch.manual_seed(depth)
    transformer = TwoWayTransformer(depth, width, heads, 48).double()
    spread(transformer)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    cells = SIZE[0] * SIZE[1]
    image, image_pe, asked = some(1, cells, width), some(1, cells, width), some(prompts, tokens, width)
    weight, bias, rows, mixture = some(24, width), some(24), some(5, width), some(prompts, 5, cells)
    with torch.inference_mode():
        given = image + mixture.transpose(1, 2) @ rows if masks else image
        plain_tokens, plain_image = transformer(given, image_pe, asked)
        shared = share_image(transformer, image[0], image_pe[0], rows, weight, bias)
        found, side = attend_shared(transformer, shared, SIZE, asked, mixture if masks else None)
        torch.testing.assert_close(found, plain_tokens, rtol=1e-3, atol=1e-3)
        read, _ = attend_shared(transformer, shared, SIZE, asked, mixture if masks else None, read=2)
        torch.testing.assert_close(read, plain_tokens[:, :2], rtol=1e-3, atol=1e-3)
        plain = plain_image @ weight.T + bias
        torch.testing.assert_close(side.upscaled(None, SIZE), plain, rtol=1e-3, atol=1e-3)
        chosen = torch.tensor([prompts - 1, 0])
        window = plain.unflatten(1, SIZE)[chosen, :4, :5].flatten(1, 2)
        found = side.upscaled(chosen, (4, 5))
        torch.testing.assert_close(found, window, rtol=1e-3, atol=1e-3)
        assert found.is_contiguous(), "a bfloat16 product into columns is a hundred times as slow on a CPU"


def decoders(width: int = 64) -> MaskDecoder:
    torch.manual_seed(3)
    decoder = MaskDecoder(width, num_heads=4, mlp_dim=64)
    spread(decoder)
    return decoder


def test_many_tokens_are_answered_without_it() -> None:
    decoder = decoders()
    assert decoder.shares(None) and decoder.shares(torch.zeros(2, 2, 64))
    # Eight tokens in four heads and two blocks are more rows than an image of 64 channels has.
    assert rank(decoder.transformer, 5 + 3) > 64 and not decoder.shares(torch.zeros(2, 3, 64))
    assert decoder.shares(torch.zeros(2, 2, 64), 7) and not decoder.shares(torch.zeros(2, 2, 64), 8)


@pytest.mark.parametrize("skipped", [False, True])
def test_masks_are_those_of_a_written_out_image(skipped: bool) -> None:
    decoder = decoders()
    image, pe = torch.randn(1, 64, *SIZE), torch.randn(1, SIZE[0] * SIZE[1], 64)
    dense, sparse = torch.randn(1, 64, 1, 1), torch.randn(4, 2, 64)
    skips: tuple[Tensor, ...] = (torch.randn(1, 16, 18, 14), torch.randn(1, 8, 36, 28)) if skipped else ()
    prompts, tokens = torch.tensor([3, 0, 3, 1]), torch.tensor([1, 0, 2, 3])
    with torch.inference_mode():
        plain = decoder.attend(image, pe, sparse, dense, 4)
        ours = decoder.attend_shared(
            decoder.share(image, pe, dense, torch.zeros(1, 64)), SIZE, sparse, None, 4
        )
        assert isinstance(ours.image, LowRankSide) and len(ours.image) == 4
        torch.testing.assert_close(ours.iou_predictions, plain.iou_predictions, rtol=1e-4, atol=1e-4)
        for window in (None, (5, 7)):
            a, b = (decoder.render(x, skips, prompts, tokens, window) for x in (ours, plain))
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(
            decoder.render_all(ours, skips), decoder.render_all(plain, skips), rtol=1e-4, atol=1e-3
        )


@pytest.mark.parametrize("kind", ["click", "clicks", "box", "box and click", "mask", "clicks and mask"])
def test_every_kind_of_prompt(model: SegmentAnything, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = model.encode([torch.randint(0, 255, (60, 90, 3), dtype=torch.uint8).numpy()])[0]
    points, labels = torch.tensor([[[30.0, 20.0]], [[60.0, 40.0]]]), torch.ones(2, 1, dtype=torch.int64)
    if "clicks" in kind:
        points, labels = points.repeat(1, 3, 1) + torch.arange(3)[:, None] * 4.0, labels.repeat(1, 3)
    side = 4 * embedding.features.shape[-1]
    prompts = Prompts(
        points=points if "click" in kind else None,
        labels=labels if "click" in kind else None,
        boxes=torch.tensor([[5.0, 5, 40, 50], [20, 10, 80, 55]]) if "box" in kind else None,
        mask_logits=torch.randn(2, side, side) if "mask" in kind else None,
    )
    ours = model.decode(embedding, prompts, multimask=True)
    monkeypatch.setattr(model.mask_decoder, "shares", lambda sparse, given: False)
    plain = model.decode(embedding, prompts, multimask=True)
    torch.testing.assert_close(ours.iou_predictions, plain.iou_predictions, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.low_res_logits(), plain.low_res_logits(), rtol=1e-4, atol=1e-4)


def test_the_last_few_images_are_kept_while_their_embeddings_live(model: SegmentAnything) -> None:
    pixels = torch.randint(0, 255, (SHARED_IMAGES + 1, 40, 40, 3), dtype=torch.uint8).numpy()
    embeddings = model.encode(list(pixels))
    made = [model.share(embedding) for embedding in embeddings]
    assert all(model.share(e) is m for e, m in zip(embeddings[1:], made[1:], strict=True))
    assert model.share(embeddings[0]) is not made[0]  # the oldest had to go
    del embeddings, made
    gc.collect()
    model.share(model.encode([pixels[0]])[0])
    assert len(model._shared) == 1


def test_an_opened_image_does_not_let_its_first_prompt_wait(model: SegmentAnything) -> None:
    embedding = model.encode([torch.randint(0, 255, (40, 40, 3), dtype=torch.uint8).numpy()])[0]
    model.await_prompts(embedding)
    (kept,) = (shared for of, _, shared in model._shared if of() is embedding.features)
    click = Prompts(points=torch.tensor([[[5.0, 5.0]]]), labels=torch.tensor([[1]]))
    model.decode(embedding, click, multimask=True)
    assert model.share(embedding) is kept
