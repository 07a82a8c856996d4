"""How Ray Serve chooses a replica for a request: by image where it is about one, else the less busy of two.

Imported by the processes of Ray only.
"""

from __future__ import annotations

import random
from typing import Any

from ray.serve.request_router import LocalityMixin, MultiplexMixin, RequestRouter

from apps.ray_serve.placing import place_of

CHOICES = 2


class ImageRouter(LocalityMixin, MultiplexMixin, RequestRouter):  # type: ignore[misc]
    """Sends calls about a held image to the replica that holds it, and to no other.

    Ray's own routing by model ids falls back to any replica where that one is busy or not known yet; another
    replica would answer 404. Without Ray's FIFOMixin each request gets the replica that was chosen for it.
    """

    async def choose_replicas(
        self, candidate_replicas: list[Any], pending_request: Any | None = None
    ) -> list[list[Any]]:
        """Candidates for a request; Ray takes the one with the shortest queue that accepts it, or asks again.

        Args:
            candidate_replicas: all that run.
            pending_request: its ``multiplexed_model_id`` is the image's id, or empty.
        """
        if not candidate_replicas:
            return []
        image_id = ""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
            image_id = pending_request.metadata.multiplexed_model_id
        if not image_id:
            return [random.sample(candidate_replicas, min(CHOICES, len(candidate_replicas)))]
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        held = {name: replica.multiplexed_model_ids for name, replica in by_name.items()}
        return [[by_name[place_of(image_id, held)]]]
