"""``/v1/images``: images that are sent once and asked about many times."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter, Path
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from apps.api.answers import MaskForm, choose_media_type, respond
from apps.api.calls import answered, job_of, read_call, reader_of
from apps.api.documents import ANSWER, ASK_BODY, IMAGE_BODY, problems
from apps.api.envelope import CLIENT
from apps.api.problems import Problem
from apps.api.schemas import Held
from apps.api.segment_routes import MASKS
from apps.api.service import Service
from composer.embedding_file import MEDIA_TYPE, embedding_bytes, metadata
from composer.engine.held_images import HeldImage

ID = Path(description="As `POST /v1/images` gave it.", pattern="^[0-9a-f]{64}$")
EMBEDDING: dict[str, Any] = {
    "description": (
        "The embedding in the safetensors layout: `image_embeddings` (1, C, h, w) and, of encoders that have "
        "them, `high_res_2`, `high_res_4` and `edge_logits`, all float32. The exported decoder takes them "
        "under these names."
    ),
    "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    "headers": {
        "X-Original-Size": {"description": "height,width of the image", "schema": {"type": "string"}},
        "X-Input-Size": {
            "description": "height,width within the padded square",
            "schema": {"type": "string"},
        },
        "X-Model-Digest": {"description": "SHA-256 of the weights", "schema": {"type": "string"}},
    },
}


def image_routes(service: Service) -> APIRouter:
    """The routes, for one service."""
    router = APIRouter(tags=["images"])

    @router.post(
        "/v1/images",
        status_code=201,
        summary="Hold an image",
        description=(
            "Encode an image and hold it with its embedding. The id is a digest of the pixels: the same "
            "image has the same id. It is forgotten some time after its last use, or earlier where room is "
            "needed; then send it again."
        ),
        response_class=JSONResponse,
        responses={
            201: {"model": Held, "description": "It is held."},
            **problems(400, 401, 408, 413, 415, 422, 429, 500, 503, 504),
        },
        openapi_extra={"requestBody": IMAGE_BODY},
    )
    async def hold(request: Request) -> Response:
        call = await read_call(request, service, image=True, asks=False)
        job = job_of(call, reader_of(call.image or b"", service), request, service)
        found = await answered(request, service, job)
        held = service.held.put(found.outcome.image, found.embedding, request.scope[CLIENT])
        return JSONResponse(_about(held), 201, headers={"Location": f"/v1/images/{held.image.sha256}"})

    @router.get(
        "/v1/images/{image_id}",
        summary="Look whether an image is held",
        response_class=JSONResponse,
        responses={200: {"model": Held, "description": "It is."}, **problems(401, 404, 422)},
    )
    async def look(request: Request, image_id: str = ID) -> Response:
        return JSONResponse(_about(_held(request, service, image_id)))

    @router.post(
        "/v1/images/{image_id}/segment",
        summary="Ask about a held image",
        description="As `POST /v1/segment`, without the image.",
        response_class=Response,
        responses={200: ANSWER, **problems(400, 401, 404, 406, 408, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra={"requestBody": ASK_BODY},
    )
    async def ask(request: Request, image_id: str = ID, masks: MaskForm = MASKS) -> Response:
        media_type = choose_media_type(request.headers.get("accept"))
        held = _held(request, service, image_id)
        call = await read_call(request, service, image=False)
        job = job_of(call, lambda: held.image, request, service, embedding=held.embedding)
        found = await answered(request, service, job)
        return await run_in_threadpool(respond, found.outcome, media_type, masks)

    @router.get(
        "/v1/images/{image_id}/embedding",
        summary="The embedding, to decode elsewhere",
        response_class=Response,
        responses={200: EMBEDDING, **problems(401, 404, 422)},
    )
    async def embedding(request: Request, image_id: str = ID) -> Response:
        held = _held(request, service, image_id)
        content = await run_in_threadpool(embedding_bytes, held.embedding)
        about = metadata(held.embedding)
        headers = {f"X-{name.replace('_', '-').title()}": value for name, value in about.items()}
        return Response(content, media_type=MEDIA_TYPE, headers=headers)

    @router.delete(
        "/v1/images/{image_id}",
        status_code=204,
        summary="Forget a held image",
        response_class=Response,
        responses={204: {"description": "It is forgotten."}, **problems(401, 404, 422)},
    )
    async def forget(request: Request, image_id: str = ID) -> Response:
        if not service.held.drop(image_id, request.scope[CLIENT]):
            raise _missing()
        return Response(status_code=204)

    return router


def _held(request: Request, service: Service, image_id: str) -> HeldImage:
    held = service.held.get(image_id, request.scope[CLIENT])
    if held is None:
        raise _missing()
    return held


def _missing() -> Problem:
    return Problem(
        404,
        "image_unknown",
        "no such image is held, or not any more; send it to /v1/images again",
        field="image_id",
    )


def _about(held: HeldImage) -> dict[str, Any]:
    height, width = held.image.size
    expires = datetime.fromtimestamp(held.expires, timezone.utc).isoformat(timespec="seconds")
    return {"id": held.image.sha256, "width": width, "height": height, "expires": expires}
