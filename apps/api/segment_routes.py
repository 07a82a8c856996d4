"""``POST /v1/segment``: an image and what is asked about it, in one request."""

from __future__ import annotations

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from apps.api.answers import MaskForm, choose_media_type, respond
from apps.api.calls import answered, job_of, read_call, reader_of
from apps.api.documents import ANSWER, SEGMENT_BODY, problems
from apps.api.service import Service

MASKS = Query("rle", description="How JSON holds masks.")


def segment_routes(service: Service) -> APIRouter:
    """The route, for one service."""
    router = APIRouter(tags=["segment"])

    @router.post(
        "/v1/segment",
        summary="Segment an image",
        description=(
            "Send an image, and a list of requests or the name of a pipeline. The image is encoded once, "
            "whatever is asked; the same image again, by whomever, is not encoded at all while it is cached. "
            "`Accept` chooses the answer: JSON, a zip with masks and pictures, or one picture."
        ),
        response_class=Response,
        responses={200: ANSWER, **problems(400, 401, 406, 408, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra={"requestBody": SEGMENT_BODY},
    )
    async def segment(request: Request, masks: MaskForm = MASKS) -> Response:
        media_type = choose_media_type(request.headers.get("accept"))
        call = await read_call(request, service, image=True)
        job = job_of(call, reader_of(call.image or b"", service), request, service)
        found = await answered(request, service, job)
        return await run_in_threadpool(respond, found.outcome, media_type, masks)

    return router
