"""From an HTTP request to a job of the engine, and from its answer back."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from apps.api.envelope import ARRIVED, CLIENT
from apps.api.forms import read_form
from apps.api.problems import CLIENT_GONE, Problem
from apps.api.service import Service
from composer.engine.jobs import Answered, Asked, Job, late
from composer.images import HTTP_FORMATS, Image, open_image
from composer.pipeline import Pipeline
from composer.remote_requests import read_pipeline, read_requests
from composer.request_limits import check_mask_budget
from sam.errors import Cancelled

MAX_INTEGER_DIGITS = 18
IMAGE_NAME = "the image"
"""What errors call it: file names that clients send are not used at all."""


@dataclass(frozen=True)
class Call:
    """What a request asks for.

    Attributes:
        image: bytes of its image file; None: it had none.
        asked: its requests.
        pipeline: what it asks instead of requests.
    """

    image: bytes | None = None
    asked: tuple[Asked, ...] = ()
    pipeline: Pipeline | None = None


@dataclass
class Fields:
    """The values of a body by name, as JSON values, the image apart.

    Attributes:
        image: bytes of the image file; None: there is none.
        values: everything else; a form's texts, or parsed JSON.
    """

    image: bytes | None = None
    values: dict[str, Any] = field(default_factory=dict)


async def read_call(request: Request, service: Service, *, image: bool, asks: bool = True) -> Call:
    """Read and check a request's body.

    Args:
        request: its headers are read, its body is not.
        service: whose limits and models apply.
        image: whether it must bring an image; else it must not.
        asks: whether it must ask something about it; else it must not.

    Raises:
        Problem: no body or one that cannot be read; an unknown, missing or doubled field; the engine takes no
            jobs at the moment, in which case the body is read over.
        SamComposerError: what :mod:`composer.remote_requests` raises.
    """
    refusal = service.engine.refusal(request.scope[CLIENT])
    try:
        if refusal is not None:
            await _read_over(request)
            raise refusal
        fields = await read_fields(request)
    except ClientDisconnect:
        raise Problem(CLIENT_GONE, "client_gone", "the client went away") from None
    _check_names(fields, image=image, asks=asks)
    if not asks:
        return Call(fields.image)
    return await run_in_threadpool(_understood, fields, service)


def job_of(call: Call, read: Callable[[], Image], request: Request, service: Service, **more: Any) -> Job:
    """The job of a call, due when the request is. ``more`` goes to :class:`composer.engine.jobs.Job`."""
    limits = service.limits
    requests = [asked.request for asked in call.asked]
    if call.pipeline is not None:
        requests = [step.request for step in call.pipeline if not step.references]

    def check(image: Image) -> None:
        for one in requests:
            check_mask_budget(one, image.size, limits)

    return Job(
        read,
        call.asked,
        call.pipeline,
        client=request.scope[CLIENT],
        deadline=request.scope[ARRIVED] + limits.deadline_seconds,
        check=check,
        **more,
    )


def reader_of(data: bytes, service: Service) -> Callable[[], Image]:
    """Reads an image that came over the network: fewer formats than from disk, and no name."""
    return lambda: open_image(data, limits=service.limits, formats=HTTP_FORMATS, file_name=IMAGE_NAME)


async def answered(request: Request, service: Service, job: Job) -> Answered:
    """Hand the job to the engine and wait, as long as the client does and until the answer is due.

    Raises:
        Unavailable, DeadlineExceeded, Cancelled: as they say.
        SamComposerError: what the job itself raises.
    """
    service.engine.submit(job)
    over = asyncio.ensure_future(_over(job))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        wait = max(0.0, job.deadline - time.monotonic())
        await asyncio.wait({over, gone}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        if not job.future.done():
            service.engine.cancel(job, Cancelled("the client went away") if gone.done() else late())
        return job.take()
    finally:
        over.cancel()
        gone.cancel()
        if not job.future.done():  # this task itself was cancelled
            service.engine.cancel(job)


async def _over(job: Job) -> None:
    """Returns when the job is over. After :func:`asyncio.wrap_future` its future would hold itself."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def tell(_: object) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(event.set)

    job.future.add_done_callback(tell)
    await event.wait()


async def _disconnected(request: Request) -> None:
    """Returns when the client has gone; the body has been read by then, so that nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read_over(request: Request) -> None:
    """Let the body pass, and keep nothing of it.

    A connection that is closed on bytes which nobody has read is reset, and the client may never see why.
    """
    async for _ in request.stream():
        pass


async def read_fields(request: Request) -> Fields:
    """The body of a request, a form or JSON; which fields it has is not checked. Raises :class:`Problem`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request)
    if kind == "application/json":
        data = await _body(request)
        return await run_in_threadpool(_read_json, data)
    await _read_over(request)
    raise Problem(
        415,
        "media_type",
        f"the body is {kind[:80] or 'of no stated type'}; send multipart/form-data or application/json",
        field="Content-Type",
        allowed=["multipart/form-data", "application/json"],
        headers={"Accept": "multipart/form-data, application/json"},
    )


async def _body(request: Request) -> bytes:
    data = await request.body()
    if not data:
        raise Problem(400, "body_empty", "the request has no body")
    return data


async def _read_form(request: Request) -> Fields:
    fields = Fields()
    parts = await read_form(request.headers["content-type"], request.stream())
    if not parts:
        raise Problem(400, "body_empty", "the form has no fields; send `image` and `requests`")
    for part in parts:
        name = part.name
        if name in fields.values or (name == "image" and fields.image is not None):
            raise _field_problem("field_doubled", name, "is given twice")
        if part.is_file != (name == "image"):
            should = "a file, with a filename" if name == "image" else "a text, without a filename"
            raise _field_problem("field_type", name, f"must be {should}")
        if name == "image":
            fields.image = bytes(part.data)
        elif name == "requests":
            fields.values[name] = await run_in_threadpool(parse_json, bytes(part.data), "requests")
        else:
            fields.values[name] = part.data.decode("utf-8", "replace")
    return fields


def _read_json(data: bytes) -> Fields:
    values = parse_json(data, None)
    if not isinstance(values, dict):
        raise Problem(
            422, "request_invalid", 'expected an object such as {"image": "...", "requests": [...]}'
        )
    fields = Fields(values={name: value for name, value in values.items() if name != "image"})
    if "image" in values:
        fields.image = _decoded(values["image"])
    return fields


def _decoded(text: Any) -> bytes:
    """Base64, with or without ``data:image/...;base64,`` before it."""
    if isinstance(text, str):
        head, _, tail = text.partition(",")
        content = tail if head.startswith("data:") else text
        try:
            return base64.b64decode(content.encode("ascii"), validate=True)
        except (binascii.Error, ValueError):
            pass
    raise Problem(422, "image_encoding", "image must be the image file in base64", field="image")


def parse_json(data: bytes, field: str | None) -> Any:
    """JSON to values, without what JSON does not have.

    Raises:
        Problem: 400 for what is no JSON or is nested too deep; 422 for NaN, infinities, integers that no
            number of ours can be, and keys given twice.
    """

    def refuse(what: str) -> Any:
        raise Problem(422, "number_invalid", f"{what} is no number that is accepted here", field=field)

    def integer(text: str) -> int:
        return int(text) if len(text) <= MAX_INTEGER_DIGITS else refuse(f"an integer of {len(text)} digits")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            raise Problem(422, "field_doubled", "an object has the same key twice", field=field)
        return made

    try:
        return json.loads(
            data.decode("utf-8"), parse_constant=refuse, parse_int=integer, object_pairs_hook=unique
        )
    except RecursionError:
        reason = "it is nested too deep"
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except ValueError as error:
        reason = str(error)[:120]
    raise Problem(400, "json_invalid", f"{field or 'the body'} is not JSON: {reason}", field=field)


def _check_names(fields: Fields, *, image: bool, asks: bool) -> None:
    known = (["image"] if image else []) + (["requests", "pipeline"] if asks else [])
    for name in [*fields.values, *(["image"] if fields.image is not None else [])]:
        if name not in known:
            shown = ascii(name[:80])
            raise Problem(
                422,
                "field_unknown",
                f"unknown field {shown}; known: {', '.join(known) or 'none'}",
                field=name[:80],
                allowed=known,
            )
    if image and fields.image is None:
        raise _field_problem("field_missing", "image", "is missing: send the image file")
    given = [name for name in ("requests", "pipeline") if fields.values.get(name) is not None]
    if asks and len(given) != 1:
        how = "both are given" if given else "neither is given"
        raise _field_problem("field_missing", "requests", f"or pipeline, one of the two: {how}")


def _understood(fields: Fields, service: Service) -> Call:
    if fields.values.get("pipeline") is not None:
        return Call(fields.image, pipeline=read_pipeline(fields.values["pipeline"], service.limits))
    asked = read_requests(fields.values["requests"], service.limits, service.settings.allowed)
    return Call(fields.image, asked)


def _field_problem(code: str, name: str, what: str) -> Problem:
    return Problem(422, code, f"{name[:80]!a} {what}", field=name[:80])
