"""CUDA graphs: a fixed sequence of kernels, started by one call instead of hundreds.

The decoder's kernels are so short on a GPU that starting them takes the host longer than running them takes
the card. A graph is captured once for each shape and then replayed on the same memory, so batches of prompts
are padded to a few sizes and their tensors copied in and out.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sam.model import SegmentAnything

Function = Callable[..., tuple[Tensor, ...]]
WARM_UPS = 3
"""Runs before a capture: libraries choose their kernels and take their workspaces then."""


class Recorded(NamedTuple):
    """A function bound to the memory of its inputs and outputs.

    Attributes:
        replay: compute ``outputs`` from what the inputs hold now.
        outputs: overwritten by each replay.
    """

    replay: Callable[[], None]
    outputs: tuple[Tensor, ...]


Recorder = Callable[[Function, Sequence[Tensor]], Recorded]


class _Captured(NamedTuple):
    inputs: tuple[Tensor, ...]
    recorded: Recorded


class CapturedCalls:
    """``function`` captured for each size of a batch that it is called with, and replayed from then on.

    Args:
        function: of tensors on one CUDA device, without a step that the host has to wait for; tuples of
            tensors out, each with a row for each prompt. Rows must not depend on other rows.
        batched: positions of the inputs that have a row for each prompt; the others are of one image.
        most: captures kept, the latest used; each holds the memory of one call.
        record: how to capture; for tests.
    """

    def __init__(
        self,
        function: Function,
        batched: Sequence[int] = (0,),
        *,
        most: int = 8,
        record: Recorder | None = None,
    ) -> None:
        if most < 1 or not batched:
            raise ValueError("at least one capture must be kept, and one input have a row for each prompt")
        self._function, self._batched, self._most = function, frozenset(batched), most
        self._record: Recorder = record or record_cuda
        self._captured: OrderedDict[tuple[object, ...], _Captured] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._captured)

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What ``function`` gives for these inputs, in memory of its own.

        Raises:
            ValueError: batched inputs of different lengths, or of none.
        """
        counts = {len(inputs[i]) for i in self._batched}
        if len(counts) != 1 or 0 in counts:
            raise ValueError(
                f"inputs {sorted(self._batched)} have {sorted(counts)} rows: expected one number"
            )
        (count,) = counts
        # The memory is one for all callers: nobody may fill it before the answer is copied out. Both are
        # queued on the device in this order, so that the host waits for neither.
        with self._lock:
            captured = self._of_shape(inputs, padded(count))
            for i, (static, given) in enumerate(zip(captured.inputs, inputs, strict=True)):
                (static[:count] if i in self._batched else static).copy_(given, non_blocking=True)
            captured.recorded.replay()
            return tuple(output[:count].clone() for output in captured.recorded.outputs)

    def _of_shape(self, inputs: Sequence[Tensor], rows: int) -> _Captured:
        shapes = [
            (rows, *x.shape[1:]) if i in self._batched else tuple(x.shape) for i, x in enumerate(inputs)
        ]
        key = tuple((shape, x.dtype, x.device) for shape, x in zip(shapes, inputs, strict=True))
        captured = self._captured.pop(key, None)
        if captured is None:
            while len(self._captured) >= self._most:
                self._captured.popitem(last=False)
            statics = tuple(x.new_zeros(shape) for x, shape in zip(inputs, shapes, strict=True))
            captured = _Captured(statics, self._record(self._function, statics))
        self._captured[key] = captured
        return captured


def padded(count: int) -> int:
    """The next power of two: a handful of captures serve all sizes, with at most twice the work."""
    return 1 << (count - 1).bit_length()


def record_cuda(function: Function, inputs: Sequence[Tensor]) -> Recorded:
    """Capture ``function`` on the memory of ``inputs`` as a CUDA graph."""
    device = inputs[0].device
    with torch.cuda.device(device):
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):  # a capture may not run on the default stream, nor may these
            for _ in range(WARM_UPS):
                function(*inputs)
        torch.cuda.current_stream(device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = function(*inputs)
    return Recorded(graph.replay, outputs)


def all_masks(model: SegmentAnything) -> Function:
    """Every mask of every prompt as one function that the host never has to wait for.

    Unlike :meth:`SegmentAnything.decode` it draws also what a caller may drop: which is dropped only the
    device knows, and to ask it would take longer.

    Returns:
        A function of (N, T, C) prompt tokens, the (1, C, h, w) embedding and its skips, if it has any; it
        returns (N, 4) predicted IoU and (N, 4, 4h, 4w) logits, both float32.
    """
    decoder, encoder = model.mask_decoder, model.prompt_encoder

    def draw(sparse: Tensor, features: Tensor, *skips: Tensor) -> tuple[Tensor, ...]:
        position, size = model.image_pe(features), (features.shape[-2], features.shape[-1])
        reduced = model.decodes_in is not torch.float32
        # Autocast keeps converted weights for its next products; in a graph that memory would be another's.
        with torch.autocast(
            features.device.type, model.decodes_in if reduced else None, reduced, cache_enabled=False
        ):
            if decoder.shares(sparse):
                shared = decoder.share(features, position, encoder.dense(None), encoder.mask_rows())
                attended = decoder.attend_shared(shared, size, sparse, None, len(sparse))
            else:
                attended = decoder.attend(features, position, sparse, encoder.dense(None), len(sparse))
            return attended.iou_predictions, decoder.render_all(attended, skips)

    return draw
