"""Names of data sets' categories as people say them."""

from __future__ import annotations

import re

SUFFIX = re.compile(r"(-other|-merged|-stuff)+$")
"""What COCO's panoptic names of joined classes end in."""


def spoken_name(category: str) -> str:
    """A category's name as a person would say it: ``wall-other-merged`` is a wall.

    Lower case, without spaces around it; empty where nothing is left.
    """
    return " ".join(re.split(r"[-_\s]+", SUFFIX.sub("", category.strip().lower()))).strip()
