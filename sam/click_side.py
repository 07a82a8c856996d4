"""The image side of :mod:`sam.low_rank` for one prompt, laid out for an exported graph.

The same form, x[l] = scale[l] * S[l] + sum over r of w[r, l] * R[r] + shift, with positions last everywhere,
so that every product has thousands of columns. One thing more is saved, which in bfloat16 would cost
accuracy: the weights that a head gives the tokens sum to 1 at each position, so the last token's part is the
same at all of them, and it stands as one row for all heads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sam.shared_image import SharedBlock, SharedScores, centred


class PromptSide:
    """What one prompt makes of the image; see the module.

    Args:
        given: (k, L) how much of each of ``rows`` (k, C) the prompt adds at each position before the first
            block.
    """

    def __init__(self, given: Tensor, rows: Tensor) -> None:
        self._scale: Tensor | None = None  # (1, L); None: 1
        self._weights, self._rows, self._given = given, rows, given.shape[0]  # len() would fix it
        self._said: list[tuple[Tensor, Tensor]] = []  # of each block, as `add` has them

    def scores(self, vectors: Tensor, weight: Tensor, shared: SharedScores) -> Tensor:
        """(H, T, d) vectors times the image projected by ``weight`` (H * d, C): (H, T, L)."""
        heads = vectors.shape[0]
        projected = F.linear(self._rows, weight).unflatten(1, (heads, -1)).permute(1, 2, 0)
        small = (vectors @ projected).flatten(0, 1) @ self._weights
        content = vectors @ shared.content
        if self._scale is not None and shared.place is not None:
            content = content * self._scale + vectors @ shared.place
        out: Tensor = small.unflatten(0, (heads, -1)) + content
        return out

    def mean(self, weights: Tensor, values: Tensor, projection: Tensor) -> Tensor:
        """Means, weighted by (H, T, L), of the image by ``projection`` (H * d, C): (H, T, d)."""
        heads = weights.shape[0]
        small = (weights.flatten(0, 1) @ self._weights.transpose(0, 1)).unflatten(0, (heads, -1))
        projected = F.linear(self._rows, projection).unflatten(1, (heads, -1)).transpose(0, 1)
        scaled = weights if self._scale is None else weights * self._scale
        out: Tensor = scaled @ values + small @ projected
        return out

    def add(self, weights: Tensor, values: Tensor, block: SharedBlock, norm: torch.nn.LayerNorm) -> None:
        """Add what the tokens say at each position, and normalise.

        Args:
            weights: (H, T, L) how much of each token; over the tokens they sum to 1.
            values: (H, T, d) what they say, before it is projected.
            block: where it stands. norm: the block's.
        """
        last = values[:, -1:]
        self._said.append((values[:, :-1] - last, last))
        said = [_projected(part, block.rows) for part in self._said[-1]]
        everywhere = said[1].sum(0, keepdim=True)
        if len(block.constants[0]):  # what the norm before this block added, the same in all prompts
            everywhere = everywhere + block.constants[0][-1:]
        self._rows = torch.cat([centred(self._rows), everywhere, said[0]])
        self._weights = torch.cat(
            [self._weights, torch.ones_like(self._weights[:1]), weights[:, :-1].flatten(0, 1)]
        )
        # |x|^2 = scale^2 |S|^2 + sum over r of w_r (2 scale S.R_r + sum over q of R_r.R_q w_q)
        products = (self._rows @ self._rows.transpose(0, 1)) @ self._weights
        with_image = 2 * self._with_image(block)
        if self._scale is None:
            squares = block.squares
        else:
            with_image, squares = with_image * self._scale, block.squares * self._scale.square()
        squares = squares + ((products + with_image) * self._weights).sum(0, keepdim=True)
        scale = torch.rsqrt(squares.clamp(min=0) / self._rows.shape[1] + norm.eps)
        self._weights = self._weights * scale
        self._scale = scale if self._scale is None else self._scale * scale
        self._rows = self._rows * norm.weight

    def _with_image(self, block: SharedBlock) -> Tensor:
        """(r, L) products of the rows with S."""
        found = [block.given[: self._given]]
        constants = list(block.constants[1])
        for number, ((others, last), crossed) in enumerate(zip(self._said, block.crossed, strict=True)):
            everywhere = (last @ crossed).sum(0)
            if number:
                everywhere = everywhere + constants[number - 1]
            found += [everywhere, (others @ crossed).flatten(0, 1)]
        return torch.cat(found)

    def upscaled(self, shared: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
        """The image by ``weight``, without what is added everywhere: (D, rows * columns).

        Args:
            shared: (D, rows, columns) S by it, of the upper left cells.
            weight: (D, C).
            size: (h, w) of all cells.
        """
        assert self._scale is not None
        window = (shared.shape[1], shared.shape[2])
        rows = (weight @ self._rows.transpose(0, 1)) @ upper_left(self._weights, size, window)
        return shared.flatten(1) * upper_left(self._scale, size, window) + rows


def upper_left(x: Tensor, size: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """(…, h * w) of all cells -> (…, rows * columns) of a window's."""
    cells: Tensor = x.unflatten(-1, size)[..., : window[0], : window[1]]
    return cells.flatten(-2)


def _projected(values: Tensor, rows: Tensor) -> Tensor:
    """(H, T, d) by (H, d, C): (H * T, C)."""
    out: Tensor = (values @ rows).flatten(0, 1)
    return out
