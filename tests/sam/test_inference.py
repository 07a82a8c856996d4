"""The encoder's form for inference answers as the encoder itself does, and leaves that as it is."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from sam import inference
from sam.errors import EnvironmentProblem
from sam.image_encoder.compact import CompactConfig, CompactEncoder
from sam.image_encoder.tiny_vit import TinyViT, TinyViTConfig
from sam.image_encoder.vit import ImageEncoderViT, ViTConfig
from sam.inference import compiled, prepared
from sam.prompts import Prompts
from sam.variants import DecoderConfig, ModelConfig, build_model

COMPACT = CompactConfig("regnetx_002", image_size=64, out_chans=32, neck_chans=16, attention_heads=2)
TINY = TinyViTConfig((8, 16, 16, 24), (1, 1, 2, 1), (1, 2, 2, 3), (3, 3, 2, 3), image_size=64, out_chans=8)
VIT = ViTConfig(16, 2, 2, (1,), image_size=64, patch_size=16, window_size=3, out_chans=8)
FAMILIES = {"compact": (CompactEncoder, COMPACT), "tiny_vit": (TinyViT, TINY), "vit": (ImageEncoderViT, VIT)}
DECODER = DecoderConfig(embed_dim=8, num_heads=2, mlp_dim=16, iou_head_hidden_dim=8, mask_in_chans=4)


def lived_in(encoder: nn.Module) -> nn.Module:
    """As after training: no batch normalisation is the identity, no bias zero."""
    torch.manual_seed(0)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.3, 3)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.5)
    return encoder.eval()


@pytest.fixture(params=FAMILIES)
def encoder(request: pytest.FixtureRequest) -> nn.Module:
    build, config = FAMILIES[request.param]
    torch.manual_seed(0)
    return lived_in(build(config))


def outputs(encoder: nn.Module, pixels: torch.Tensor) -> list[torch.Tensor]:
    out = encoder(pixels)
    return [t for t in (out.image_embedding, *out.high_res_features, out.edge_logits) if t is not None]


@torch.no_grad()
def test_same_answer_without_batch_normalisations(encoder: nn.Module) -> None:
    fast = prepared(encoder, torch.float32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    pixels = torch.randn(2, 3, 64, 64)
    for found, expected in zip(outputs(fast, pixels), outputs(encoder, pixels), strict=True):
        cosine = torch.cosine_similarity(found.flatten(), expected.flatten(), 0)
        assert cosine >= 0.999
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@torch.no_grad()
def test_weights_in_bf16_give_what_autocast_gives(encoder: nn.Module) -> None:
    """Bit for bit, where nothing is folded: what is folded before it is rounded is rounded elsewhere."""
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            pytest.skip("has batch normalisations: the next test is about those")
    fast = prepared(encoder, torch.bfloat16)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        for found, expected in zip(outputs(fast, pixels), outputs(encoder, pixels), strict=True):
            assert torch.equal(found, expected)


@torch.no_grad()
def test_in_bf16_it_is_as_near_to_float32_as_autocast_is(encoder: nn.Module) -> None:
    fast = prepared(encoder, torch.bfloat16)
    pixels = torch.randn(1, 3, 64, 64)
    exact = outputs(encoder, pixels)
    with torch.autocast("cpu", torch.bfloat16):
        pairs = zip(outputs(fast, pixels), outputs(encoder, pixels), exact, strict=True)
    for found, plain, expected in pairs:
        off, plainly_off = ((x.float() - expected).norm() / expected.norm() for x in (found, plain))
        assert 0 < off <= max(1.5 * plainly_off, 0.01)


def test_in_bf16_norms_stay_in_float32_and_weights_are_converted_once(encoder: nn.Module) -> None:
    fast = prepared(encoder, torch.bfloat16)
    for module in fast.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert module.weight.dtype is torch.bfloat16
        elif "Norm" in type(module).__name__:
            assert all(value.dtype is torch.float32 for value in module.parameters(recurse=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_encoder_itself_is_left_as_it_is(encoder: nn.Module, dtype: torch.dtype) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    fast = prepared(encoder, dtype)
    after = encoder.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(value.requires_grad for value in encoder.parameters())
    mine = {value.data_ptr() for value in encoder.parameters()}
    assert any(value.data_ptr() in mine for value in fast.parameters())  # what is not changed is not copied


def test_nothing_to_do_is_no_copy() -> None:
    vit = ImageEncoderViT(VIT).eval()
    assert prepared(vit, torch.float32) is vit


def test_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"eval\(\)"):
        prepared(TinyViT(TINY).train(), torch.float32)


def small_model(encoder: TinyViTConfig | ViTConfig = TINY):
    torch.manual_seed(0)
    model = build_model(ModelConfig("small", encoder, DECODER))
    lived_in(model.image_encoder)
    return model


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)


def test_encode_runs_the_prepared_form(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    names = set(model.state_dict())
    (expected,) = model.encode([image])
    model.prepare()
    assert set(model.state_dict()) == names
    monkeypatch.setattr(model.image_encoder, "forward", None)  # not run any more
    (found,) = model.encode([image])
    torch.testing.assert_close(found.features, expected.features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", ["train", "double"])
def test_what_changes_the_model_drops_the_prepared_form(image: np.ndarray, change: str) -> None:
    model = small_model()
    model.prepare()
    if change == "train":
        model.train()
        with torch.no_grad():
            model.image_encoder.neck[0].weight.mul_(2)
        model.eval()
    else:
        model.double().float()
        with torch.no_grad():
            model.image_encoder.neck[0].weight.mul_(2)
    (found,) = model.encode([image])
    fresh = small_model()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(found.features, fresh.encode([image])[0].features)


def test_a_copy_of_a_model_is_on_its_own(image: np.ndarray) -> None:
    model = small_model()
    model.prepare()
    (expected,) = model.encode([image])
    click = Prompts(points=torch.tensor([[[20.0, 20.0]]]), labels=torch.ones(1, 1, dtype=torch.int64))
    model.decode(expected, click, multimask=True)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    (found,) = twin.encode([image])
    torch.testing.assert_close(found.features, expected.features, rtol=1e-4, atol=1e-5)
    assert len(twin.decode(found, click, multimask=True)) == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++) for torch.compile")
def test_compiled_it_gives_the_same(image: np.ndarray) -> None:
    from torch._inductor import config

    small = ViTConfig(8, 1, 1, (), image_size=32, patch_size=16, window_size=2, out_chans=8, mlp_ratio=1)
    model = small_model(small)
    (expected,) = model.encode([image])
    with config.patch(compile_threads=1):  # starting more processes would take longer than it
        model.prepare(compile=True)
    assert type(model._fast_encoder[0]).__name__ == "OptimizedModule"
    (found,) = model.encode([image])
    torch.testing.assert_close(found.features, expected.features, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++) for torch.compile")
@torch.no_grad()
def test_attention_in_bf16_can_be_compiled() -> None:
    """It used to end in an error: the layer's fused kernel takes no norms in fp32 beside products in bf16."""
    from torch._inductor import config

    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    tokens = torch.randn(1, 4, 16)
    expected = layer(tokens)
    with config.patch(compile_threads=1), torch.autocast("cpu", torch.bfloat16):
        found = compiled(prepared(layer, torch.bfloat16))(tokens)
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch, image: np.ndarray) -> None:
    def fails(*_):
        raise RuntimeError(
            "\nNo working C++ compiler found in config.cpp.cxx: (None, 'g++')\nSet TORCHDYNAMO"
        )

    model = small_model()
    monkeypatch.setattr("sam.model.compiled", lambda encoder: fails)
    with pytest.raises(
        EnvironmentProblem, match=r"No working C\+\+ compiler.*install one, or load"
    ) as caught:
        model.prepare(compile=True)
    assert (caught.value.exit_code, caught.value.code) == (6, "no_compiler")
    assert "\n" not in str(caught.value)
    model.encode([image])  # goes on without


def test_a_torch_that_cannot_compile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_, **__):
        raise RuntimeError("torch.compile is not supported on this Python")

    monkeypatch.setattr(inference.torch, "compile", refuse)
    with pytest.raises(EnvironmentProblem, match="not supported on this Python"):
        compiled(nn.Identity())


def test_another_encoder_takes_the_place_of_one_that_is_prepared_already() -> None:
    model = build_model(ModelConfig("small", COMPACT, DecoderConfig(32, 2, 2, 16, 8, 4)))
    lived_in(model.image_encoder)
    model.eval().prepare()
    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    before = model.encode([photo])[0].features
    other = copy.deepcopy(model.image_encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    model.encode_by(other, keep=False)
    assert not torch.allclose(model.encode([photo])[0].features, before)
