"""Weights files: what loads, and one clear error for each way that a file can be wrong."""

from __future__ import annotations

import hashlib
import os
import pickle
import resource

import pytest
import torch
from torch import nn

from sam.checkpoints import (
    identify,
    load_training_state,
    load_weights,
    read_weights,
    save_training_state,
    save_weights,
)
from sam.errors import CheckpointError, EnvironmentProblem
from sam.image_encoder.vit import ViTConfig
from sam.variants import DecoderConfig, ModelConfig, build_model


class Small(nn.Module):
    """A few parameters, a float buffer and an integer one, and the digest that a segmenter has."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.linear = nn.Linear(4, width)
        self.norm = nn.BatchNorm2d(width)
        self.digest = ""


class RunsCode:
    """Pickles into a call that would leave a file behind."""

    def __init__(self, witness) -> None:
        self.witness = witness

    def __reduce__(self):
        return (os.mkdir, (str(self.witness),))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Small()
    model.norm.running_mean.uniform_()
    return model


def failure(path, model=None, **pinned):
    """The error that loading ``path`` raises, after checking that it is one line and changed nothing."""
    model = Small() if model is None else model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, path, **pinned)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5
    assert model.digest == ""
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return caught.value


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def half_of(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def tiny_vit_like(width, depth=1):
    """A segmenter with ViT names and a given width, otherwise as small as can be."""
    encoder = ViTConfig(width, depth, 1, (), image_size=32, window_size=2, mlp_ratio=0.01, out_chans=8)
    decoder = DecoderConfig(embed_dim=16, depth=1, num_heads=1, mlp_dim=4, iou_head_hidden_dim=4)
    return build_model(ModelConfig("small", encoder, decoder))


# What loads


def test_safetensors_in_full_precision(tmp_path, model):
    path = tmp_path / "weights.safetensors"
    digest = save_weights(model, path, half=False)
    loaded = Small()
    load_weights(loaded, path, sha256=digest.upper(), size=path.stat().st_size)
    assert loaded.digest == digest == sha256(path)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_half_precision_loads_into_float32(tmp_path, model):
    path = tmp_path / "weights.safetensors"
    save_weights(model, path, metadata={"licence": "Apache-2.0"})
    weights = read_weights(path)
    assert weights.tensors["linear.weight"].dtype == torch.float16
    assert weights.metadata["licence"] == "Apache-2.0"
    loaded = Small()
    load_weights(loaded, path)
    assert loaded.linear.weight.dtype == torch.float32
    assert torch.equal(loaded.linear.weight, model.linear.weight.half().float())


def test_equal_weights_have_equal_digests(tmp_path, model):
    metadata = dict.fromkeys("hgfedcba", "ä")
    digests = {save_weights(model, tmp_path / f"{i}.safetensors", metadata=metadata) for i in range(5)}
    assert len(digests) == 1
    assert read_weights(tmp_path / "0.safetensors").metadata == {"format": "pt", **metadata}


def test_half_precision_leaves_buffers_alone(tmp_path, model):
    save_weights(model, tmp_path / "w.safetensors")
    loaded = Small()
    load_weights(loaded, tmp_path / "w.safetensors")
    assert torch.equal(loaded.norm.running_mean, model.norm.running_mean)


def test_half_precision_keeps_what_it_cannot_hold(tmp_path, model):
    with torch.no_grad():
        model.linear.weight[0, 0] = 1e6
    save_weights(model, tmp_path / "w.safetensors")
    loaded = Small()
    load_weights(loaded, tmp_path / "w.safetensors")
    assert loaded.linear.weight[0, 0] == 1e6


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [dict, lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s}])
def test_torch_files(tmp_path, model, zipped, wrap):
    path = tmp_path / "weights.pth"
    torch.save(wrap(model.state_dict()), path, _use_new_zipfile_serialization=zipped)
    loaded = Small()
    load_weights(loaded, path)
    assert torch.equal(loaded.linear.weight, model.linear.weight)
    assert loaded.digest == sha256(path)


def test_prefix_of_distributed_training(tmp_path, model):
    path = tmp_path / "weights.pth"
    torch.save({f"module.{name}": value for name, value in model.state_dict().items()}, path)
    loaded = Small()
    load_weights(loaded, path)
    assert torch.equal(loaded.linear.weight, model.linear.weight)


def test_loading_does_not_depend_on_the_file_afterwards(tmp_path, model):
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    loaded = Small()
    load_weights(loaded, path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(loaded.linear.weight, model.linear.weight)


# What does not


def test_missing(tmp_path):
    error = failure(tmp_path / "nothing.pth")
    assert error.code == "checkpoint_missing"
    assert "nothing.pth" in str(error)


def test_folder(tmp_path):
    assert "folder" in str(failure(tmp_path))


def test_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in str(failure(tmp_path / "pipe"))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_impossible_name(name):
    assert "cannot be read" in str(failure(name))


def test_empty(tmp_path):
    (tmp_path / "empty.pth").touch()
    assert "empty" in str(failure(tmp_path / "empty.pth"))


@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"\x10\0\0\0\0\0\0\0{"])
def test_random_bytes(tmp_path, start):
    path = tmp_path / "noise.pth"
    path.write_bytes(start + torch.Generator().manual_seed(1).get_state().numpy().tobytes()[:4000])
    assert failure(path).code == "checkpoint_corrupt"


@pytest.mark.parametrize("length", [1, 8, 9, 200])
def test_a_beginning_of_a_file(tmp_path, model, length):
    for name, save in (("w.pth", torch_save), ("w.safetensors", save_weights)):
        save(model, tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:length])
        assert failure(tmp_path / name).code == "checkpoint_corrupt"


def torch_save(model, path, zipped=True):
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=zipped)


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_torch_file(tmp_path, model, zipped):
    torch_save(model, tmp_path / "w.pth", zipped)
    assert failure(half_of(tmp_path / "w.pth")).code == "checkpoint_corrupt"


def test_truncated_safetensors(tmp_path, model):
    save_weights(model, tmp_path / "w.safetensors")
    assert failure(half_of(tmp_path / "w.safetensors")).code == "checkpoint_corrupt"


def test_flipped_bit_in_a_torch_file(tmp_path, model):
    """torch.load itself does not notice: the archive's checksum is ours to check."""
    path = tmp_path / "w.pth"
    torch_save(model, path)
    data = bytearray(path.read_bytes())
    where = data.index(model.linear.weight.detach().numpy().tobytes())
    data[where + 3] ^= 0x40
    path.write_bytes(data)
    assert failure(path).code == "checkpoint_corrupt"


def test_pinned_size_and_digest(tmp_path, model):
    path = tmp_path / "w.safetensors"
    digest = save_weights(model, path)
    size = path.stat().st_size
    short = failure(path, size=size + 1, sha256=digest)
    assert short.code == "checkpoint_size"
    assert "incomplete" in str(short)
    assert "not the published file" in str(failure(path, size=size - 1, sha256=digest))
    other = failure(path, size=size, sha256="0" * 64)
    assert other.code == "checkpoint_digest"
    assert digest[:12] in str(other)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_is_not_run(tmp_path, save):
    path, witness = tmp_path / "evil.pth", tmp_path / "witness"
    save({"linear.weight": RunsCode(witness)}, path)
    error = failure(path)
    assert not witness.exists()
    assert error.code in ("checkpoint_unsafe", "checkpoint_corrupt")


def test_a_pickled_module_says_what_is_wrong(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    error = failure(tmp_path / "module.pt")
    assert error.code == "checkpoint_unsafe"
    assert "would run code" in str(error)


@pytest.mark.parametrize("value", [[1, 2], {}, {"epoch": 3}, {"a": torch.zeros(1), "b": 2}, torch.zeros(3)])
def test_no_state_dict(tmp_path, value):
    torch.save(value, tmp_path / "w.pth")
    assert "no state dict" in str(failure(tmp_path / "w.pth"))


def test_names_that_differ(tmp_path, model):
    values = dict(model.state_dict())
    values["head.weight"] = values.pop("linear.weight")
    torch.save(values, tmp_path / "w.pth")
    error = failure(tmp_path / "w.pth")
    assert error.code == "checkpoint_mismatch"
    assert "1 missing: linear.weight" in str(error)
    assert "1 unexpected: head.weight" in str(error)


def segmenter(text_dim=None, embed_dim=8):
    vit = ViTConfig(
        image_size=64, embed_dim=12, depth=1, num_heads=2, out_chans=embed_dim, global_attn_indexes=(0,)
    )
    decoder = DecoderConfig(embed_dim=embed_dim, num_heads=2, text_dim=text_dim)
    return build_model(ModelConfig("small", vit, decoder))


def test_a_text_slot_comes_with_the_weights(tmp_path):
    theirs, ours = segmenter(text_dim=5), segmenter()
    save_weights(theirs, tmp_path / "w.safetensors", half=False)
    load_weights(ours, tmp_path / "w.safetensors")
    assert ours.prompt_encoder.text_projection.in_features == 5
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("change", ["no bias", "another width", "flat"])
def test_half_a_text_slot_does_not(tmp_path, change):
    values = dict(segmenter(text_dim=5).state_dict())
    weight, bias = (f"prompt_encoder.text_projection.{name}" for name in ("weight", "bias"))
    if change == "no bias":
        del values[bias]
    else:
        values[weight] = torch.zeros(9, 5) if change == "another width" else torch.zeros(40)
    torch.save(values, tmp_path / "w.pth")
    model = segmenter()
    assert "text_projection" in str(failure(tmp_path / "w.pth", model))
    assert model.prompt_encoder.text_projection is None


def test_a_text_slot_of_another_width(tmp_path):
    save_weights(segmenter(text_dim=5), tmp_path / "w.safetensors")
    assert "where the model has (8, 6)" in str(failure(tmp_path / "w.safetensors", segmenter(text_dim=6)))


def test_shapes_that_differ(tmp_path):
    save_weights(Small(width=7), tmp_path / "w.safetensors")
    message = str(failure(tmp_path / "w.safetensors"))
    assert "linear.weight is (7, 4) where the model has (6, 4)" in message


def test_many_differences_are_not_all_listed(tmp_path):
    torch.save({f"layer{i}": torch.zeros(1) for i in range(50)}, tmp_path / "w.pth")
    message = str(failure(tmp_path / "w.pth"))
    assert "50 unexpected: layer0, layer1, layer2, …" in message
    assert len(message) < 500


def test_checkpoint_of_another_vit_is_named(tmp_path):
    save_weights(tiny_vit_like(1024), tmp_path / "sam_vit_l.safetensors")
    message = str(failure(tmp_path / "sam_vit_l.safetensors", tiny_vit_like(768)))
    assert "this looks like SAM ViT-L (width 1024); the model asked for is SAM ViT-B (width 768)" in message
    assert "sam_vit_l.safetensors" in message


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("image_encoder.patch_embed.seq.0.c.weight", "MobileSAM"),
        ("image_encoder.backbone.stem.conv.weight", "compact"),
        ("image_encoder.trunk.pos_embed", "SAM 2"),
        ("image_encoder.other", "unknown"),
        ("logit_scale", "CLIP"),
        ("fc.weight", "another kind"),
    ],
)
def test_guesses(name, guess):
    assert guess in identify({name: torch.zeros(1)})


# Writing


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path, model):
    path = tmp_path / "w.safetensors"
    digest = save_weights(model, path)
    big = nn.Linear(512, 512)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(EnvironmentProblem) as weights:
            save_weights(big, path)
        with pytest.raises(EnvironmentProblem) as state:
            save_training_state(path, {"model": big.state_dict()})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "w.safetensors: cannot be written" in str(weights.value)
    assert "\n" not in str(weights.value) + str(state.value)
    assert sha256(path) == digest
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_folder_that_does_not_exist(tmp_path, model):
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        save_weights(model, tmp_path / "nowhere" / "w.safetensors")


def test_training_state_comes_back_equal(tmp_path, model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.linear(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    path = tmp_path / "state.pt"
    saved = {
        "step": 7,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "notes": ("a", 1.5, None),
    }
    save_training_state(path, {"step": 0})
    save_training_state(path, saved)
    loaded = load_training_state(path)
    assert loaded["step"] == 7
    assert loaded["notes"] == ("a", 1.5, None)
    moments, expected = loaded["optimizer"]["state"], saved["optimizer"]["state"]
    assert all(torch.equal(moments[i]["exp_avg"], expected[i]["exp_avg"]) for i in expected)
    assert loaded["optimizer"]["param_groups"] == saved["optimizer"]["param_groups"]


def test_training_state_that_is_damaged(tmp_path):
    save_training_state(tmp_path / "state.pt", {"a": torch.zeros(1000)})
    with pytest.raises(CheckpointError, match="damaged"):
        load_training_state(half_of(tmp_path / "state.pt"))
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="no training state"):
        load_training_state(tmp_path / "list.pt")


def test_a_program_in_torchs_form_is_no_damage(tmp_path):
    """OpenAI's CLIP files are such archives."""
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "w.pt"))
    assert failure(tmp_path / "w.pt").code == "checkpoint_unsafe"
