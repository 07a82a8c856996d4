"""Which replica a held image is at."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping


def place_of(image_id: str, replicas: Mapping[str, Collection[str]]) -> str:
    """The replica for calls about an image.

    It is one that says it holds the image. What replicas say takes a moment to get round, though, and a click
    may follow its image within milliseconds; until then, and for images that are new, the id itself decides,
    by rendezvous hashing (Thaler and Ravishankar, 1998). All fronts come to the same answer without talking
    to each other, and a replica that joins or leaves moves only those images that it wins or had.

    Args:
        image_id: digest of the image.
        replicas: name of each running replica, at least one -> ids of the images that it says it holds.
    """
    holders = [name for name, held in replicas.items() if image_id in held]
    return max(holders or replicas, key=lambda name: hashlib.sha256(f"{image_id} {name}".encode()).digest())
