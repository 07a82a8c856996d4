"""Square windows of a token map, for attention that looks no farther."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def partition_windows(x: Tensor, size: int, fill: Tensor | None = None) -> Tensor:
    """Cut a (B, h, w, D) map into windows, padded right and bottom: (B * n, size, size, D).

    Args:
        x: the map.
        size: side of a window in tokens.
        fill: (D,) what padding holds; None: zeros. Padding that all layers before treat alike need not go
            through them: give here what they make of it.
    """
    b, h, w, d = x.shape
    rows, cols = -(-h // size), -(-w // size)
    if (rows * size, cols * size) != (h, w):
        if fill is not None:
            whole = x.new_empty(b, rows * size, cols * size, d)
            whole[:, :h, :w] = x
            whole[:, h:] = fill
            whole[:, :h, w:] = fill
            x = whole
        else:
            x = F.pad(x, (0, 0, 0, cols * size - w, 0, rows * size - h))
    cut = x.reshape(b, rows, size, cols, size, d).transpose(2, 3)
    return cut.reshape(b * rows * cols, size, size, d)


def join_windows(windows: Tensor, size: int, shape: tuple[int, int]) -> Tensor:
    """Undo :func:`partition_windows`: (B * n, size, size, D) -> (B, h, w, D), where ``shape`` is (h, w)."""
    h, w = shape
    rows, cols = -(-h // size), -(-w // size)
    x = windows.reshape(-1, rows, cols, size, size, windows.shape[-1]).transpose(2, 3)
    # Contiguous: torch multiplies a view with gaps by one copy of the weights for each of its rows.
    return x.reshape(-1, rows * size, cols * size, windows.shape[-1])[:, :h, :w].contiguous()
