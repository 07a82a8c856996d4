"""Captured calls: shapes, padding, eviction on the CPU; the real thing where there is a GPU."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sam.cuda_graphs import CapturedCalls, Recorded, all_masks, padded
from sam.image_encoder.vit import ViTConfig
from sam.prompts import Prompts
from sam.variants import DecoderConfig, ModelConfig, build_model

CONFIGS = {
    "shared": DecoderConfig(embed_dim=256, num_heads=8, mlp_dim=64, iou_head_hidden_dim=16),
    "apart": DecoderConfig(embed_dim=32, num_heads=4, mlp_dim=64, iou_head_hidden_dim=16),
}


class OnCPU:
    """Records as CUDA does: outputs are memory that each replay overwrites."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.replays = 0

    def __call__(self, function, inputs):
        self.shapes.append(tuple(inputs[0].shape))
        outputs = function(*inputs)

        def replay():
            self.replays += 1
            for kept, made in zip(outputs, function(*inputs), strict=True):
                kept.copy_(made)

        return Recorded(replay, outputs)


def twice_and_sum(rows, of_image):
    return rows * of_image, rows.sum(1)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (64, 64), (65, 128)])
def test_padded_to_powers_of_two(count, size):
    assert padded(count) == size


def test_one_capture_serves_all_counts_of_its_size():
    record = OnCPU()
    calls = CapturedCalls(twice_and_sum, record=record)
    for count in (5, 8, 6, 7):
        rows = torch.randn(count, 3)
        found = calls(rows, torch.full((3,), 2.0))
        assert torch.equal(found[0], 2 * rows)
        assert torch.equal(found[1], rows.sum(1))
    assert (record.shapes, record.replays, len(calls)) == ([(8, 3)], 4, 1)


def test_shapes_and_dtypes_are_captured_apart():
    record = OnCPU()
    calls = CapturedCalls(twice_and_sum, record=record)
    for rows in (torch.ones(4, 3), torch.ones(4, 5), torch.ones(4, 3, dtype=torch.float64), torch.ones(9, 3)):
        calls(rows, torch.ones(rows.shape[1]))
    assert record.shapes == [(4, 3), (4, 5), (4, 3), (16, 3)]


def test_an_answer_is_not_overwritten_by_the_next():
    calls = CapturedCalls(twice_and_sum, record=OnCPU())
    first = calls(torch.ones(2, 3), torch.ones(3))[0]
    calls(torch.zeros(2, 3), torch.ones(3))
    assert torch.equal(first, torch.ones(2, 3))


def test_the_one_not_used_for_longest_is_dropped():
    record = OnCPU()
    calls = CapturedCalls(twice_and_sum, most=2, record=record)
    for count in (1, 2, 1, 4, 1, 2):
        calls(torch.ones(count, 3), torch.ones(3))
        assert len(calls) <= 2
    assert [shape[0] for shape in record.shapes] == [1, 2, 4, 2]


def test_threads_do_not_mix():
    calls = CapturedCalls(twice_and_sum, record=OnCPU())
    wrong = []

    def work(value):
        for _ in range(50):
            found = calls(torch.full((3, 4), value), torch.ones(4))[0]
            if not torch.equal(found, torch.full((3, 4), value)):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("inputs", "batched"),
    [((torch.ones(2, 3), torch.ones(3, 3)), (0, 1)), ((torch.ones(0, 3), torch.ones(3)), (0,))],
    ids=["different", "none"],
)
def test_rows_that_cannot_be(inputs, batched):
    with pytest.raises(ValueError, match="rows: expected one number"):
        CapturedCalls(twice_and_sum, batched, record=OnCPU())(*inputs)


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="at least one"):
        CapturedCalls(twice_and_sum, most=0)


def decoded(device, name, count):
    torch.manual_seed(0)
    decoder = CONFIGS[name]
    encoder = ViTConfig(16, 1, 1, (), image_size=64, window_size=2, out_chans=decoder.embed_dim)
    model = build_model(ModelConfig("small", encoder, decoder)).to(device)
    (embedding,) = model.encode([np.random.default_rng(0).integers(0, 256, (50, 64, 3), np.uint8)])
    points = torch.rand(count, 1, 2) * 50
    labels = torch.ones(count, 1, dtype=torch.int64)
    candidates = model.decode(embedding, Prompts(points=points, labels=labels), multimask=True)
    sparse = model.prompt_encoder.sparse(points.to(device), labels.to(device), None, None)
    assert sparse is not None
    return model, embedding, sparse.detach(), candidates


@pytest.mark.parametrize("name", CONFIGS)
def test_all_masks_are_those_of_decode(name):
    model, embedding, sparse, candidates = decoded("cpu", name, 5)
    assert model.mask_decoder.shares(sparse) == (name == "shared")
    iou, logits = CapturedCalls(all_masks(model), record=OnCPU())(sparse, embedding.features)
    torch.testing.assert_close(iou[:, 1:], candidates.iou_predictions, rtol=1e-4, atol=1e-5)
    expected = candidates.low_res_logits().unflatten(0, (5, 3))
    torch.testing.assert_close(logits[:, 1:], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("name", CONFIGS)
def test_on_a_gpu_a_replay_gives_what_the_decoder_gives(name):
    for count in (5, 7, 3):
        model, embedding, sparse, candidates = decoded("cuda", name, count)
        iou, logits = CapturedCalls(all_masks(model))(sparse, embedding.features)
        torch.testing.assert_close(iou[:, 1:], candidates.iou_predictions, rtol=1e-3, atol=1e-4)
        expected = candidates.low_res_logits().unflatten(0, (count, 3))
        torch.testing.assert_close(logits[:, 1:], expected, rtol=1e-3, atol=1e-4)
