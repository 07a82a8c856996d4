"""Requests as plain JSON values: what reports, run manifests and overlays say was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from adapters.base import Request
from adapters.results import Instances


def request_record(request: Request) -> dict[str, Any]:
    """``kind`` and the request's fields, arrays as nested lists.

    Fields left at None are left out: None stands for the default of the request or of the preset. So are mask
    logits and instances, which are earlier answers of any size.
    """
    values = {field.name: getattr(request, field.name) for field in fields(request)}
    return {"kind": request.kind} | {
        name: plain(value)
        for name, value in values.items()
        if value is not None and name != "mask_logits" and not isinstance(value, Instances)
    }


def plain(value: Any) -> Any:
    """Numpy values and tuples, at any depth, as the JSON values that they stand for."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
