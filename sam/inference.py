"""An image encoder's form for inference: the same answer with less work, derived from its weights.

The encoder itself is left as it is, so that its parameters keep the names of the public checkpoints.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from timm.layers.conv_bn_act import ConvNormAct
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sam.errors import EnvironmentProblem
from sam.image_encoder.tiny_vit import ConvBN


def prepared(encoder: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The form of ``encoder`` that runs faster, for inference alone.

    - Batch normalisations become part of the convolutions before them, with rounding the only difference.
    - Weights of convolutions and linear layers are converted to ``dtype`` now, not at every call by autocast;
      what autocast leaves in float32, norms above all, stays so. The result is the same bit for bit.

    Args:
        encoder: in evaluation mode, its weights loaded. Later changes of them are not followed.
        dtype: of the large products; unless float32, the result must be called under autocast to it.

    Returns:
        ``encoder`` itself where there is nothing to do; else a copy that shares all tensors left alone.

    Raises:
        ValueError: an encoder in training mode, whose batch normalisations follow the batch.
    """
    if encoder.training:
        raise ValueError("an encoder in training mode has no form for inference: call eval() first")
    pairs = list(_normalised_convolutions(encoder))
    if not pairs and dtype is torch.float32:
        return encoder
    fast = _sharing_copy(encoder)
    with torch.no_grad():
        for owner, conv, norm in _normalised_convolutions(fast):
            batch_norm = getattr(owner, norm)
            setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), batch_norm))
            # timm's batch normalisation holds the activation, too.
            setattr(owner, norm, getattr(batch_norm, "act", None) or nn.Identity())
        for module in fast.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and dtype is not torch.float32:
                for name, value in list(module.named_parameters(recurse=False)):
                    setattr(module, name, nn.Parameter(value.to(dtype), requires_grad=False))
    return fast


def _sharing_copy(encoder: nn.Module) -> nn.Module:
    """Modules of its own, and the tensors of ``encoder``."""
    shared: dict[int, Any] = {id(t): t for t in (*encoder.parameters(), *encoder.buffers())}
    return copy.deepcopy(encoder, shared)


def compiled(encoder: nn.Module) -> nn.Module:
    """``encoder`` through torch.compile: made at its first call, and again for each size of a batch.

    Raises:
        EnvironmentProblem: this Python or this build of PyTorch has no torch.compile.
    """
    try:
        fast: Any = torch.compile(_without_fused_attention(encoder), dynamic=False)
    except RuntimeError as error:
        raise no_compiler(error) from error
    result: nn.Module = fast
    return result


def _without_fused_attention(encoder: nn.Module) -> nn.Module:
    """A copy that shares all tensors, where attention layers are of two number formats; else ``encoder``."""
    if not list(_mixed_attention(encoder)):
        return encoder
    twin = _sharing_copy(encoder)
    for layer in _mixed_attention(twin):
        # Its fused kernel takes no mixed formats but in eager code, where autocast sees to it. So
        # the layer is told to have none.
        layer.activation_relu_or_gelu = 0
    return twin


def _mixed_attention(root: nn.Module) -> Iterator[nn.TransformerEncoderLayer]:
    for module in root.modules():
        if not isinstance(module, nn.TransformerEncoderLayer):
            continue
        if module.linear1.weight.dtype is not module.norm1.weight.dtype:
            yield module


def no_compiler(error: Exception) -> EnvironmentProblem:
    """What to raise where torch.compile failed by ``error``."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return EnvironmentProblem(
        f"the encoder could not be compiled ({lines[0] if lines else type(error).__name__}): compiling needs "
        "a C++ compiler (g++ or clang++), on CUDA Triton; install one, or load without compiling",
        code="no_compiler",
        field="compile",
    )


def _normalised_convolutions(root: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Owner and names of each convolution whose output goes to a batch normalisation and nowhere else.

    Only of owners known to call them in this order.
    """
    for owner in list(root.modules()):
        if not isinstance(owner, (ConvBN, ConvNormAct, nn.Sequential)):
            continue
        children = list(owner.named_children())
        for (first, conv), (second, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                yield owner, first, second
