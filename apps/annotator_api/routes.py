"""Everything under ``/annotate``: the page, its files, and what it asks for."""

from __future__ import annotations

import math
import secrets
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, RedirectResponse

from apps.annotator import vendor
from apps.annotator_api.decoder_files import DecoderFiles
from apps.annotator_api.http import AnnotatorRoute, json_response, read_body
from apps.annotator_api.photos import Photos, upright_picture
from composer.composer import Composer
from composer.embedding_file import MEDIA_TYPE, embedding_bytes
from composer.engine.engine import Engine
from composer.projects.coco import write_coco
from composer.projects.document import parse_document
from composer.projects.prefill import confident_masks, proposal_records
from composer.projects.project import NEW, Photo, Project, UnknownItem, find_projects
from sam.errors import UsageError

PREFIX = "/annotate"
MEDIA_TYPES = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
    ".wasm": "application/wasm", ".svg": "image/svg+xml",
}  # fmt: skip


class RevisionMissing(UsageError):
    """A change that does not say what it was made from."""

    http_status, default_code = 428, "revision_missing"


def annotator_routes(
    engine: Engine, projects_root: str | Path, *, decoder_folder: Path | None = None
) -> APIRouter:
    """The annotator as a router that any FastAPI application can include.

    Args:
        engine: started; it encodes photos and proposes masks.
        projects_root: a folder with photos, which is one project, or a folder of such folders.
        decoder_folder: where the exported decoder is kept; by default in the cache folder.

    Raises:
        UsageError: no such folder.
        BadImage: no photo in it.
    """
    projects = {project.name: project for project in find_projects(Path(projects_root))}
    router = APIRouter(prefix=PREFIX, route_class=AnnotatorRoute, tags=["annotator"])
    decoder = DecoderFiles(engine, decoder_folder)
    decoder.prepare()
    _add_page(router)
    _add_model(router, engine.composer, decoder)
    _add_projects(router, projects)
    photos = Photos(engine)
    _add_photos(router, projects, photos)
    _add_documents(router, projects, photos)
    return router


def _add_page(router: APIRouter) -> None:
    @router.get("", include_in_schema=False)
    def without_slash() -> Response:
        return RedirectResponse(f"{PREFIX}/", 308)

    @router.get("/", include_in_schema=False)
    def page() -> Response:
        return _page_file("index.html")

    @router.get("/page/{path:path}", include_in_schema=False)
    def file(path: str) -> Response:
        return _page_file(path)


def _page_file(name: str) -> Response:
    path = (vendor.PAGE / name).resolve()
    known = MEDIA_TYPES.get(path.suffix)
    if not path.is_relative_to(vendor.PAGE) or not path.is_file() or known is None:
        raise UnknownItem(f"no file {name!r} here", field="path")
    # Asked about each time: an upgrade changes the files and not their names. Unchanged ones are not sent.
    return FileResponse(path, media_type=known, headers={"Cache-Control": "no-cache"})


def _add_model(router: APIRouter, composer: Composer, decoder: DecoderFiles) -> None:
    @router.get("/api/model")
    def model() -> Response:
        """The model, and whether what the browser needs to run its decoder is installed."""
        margin = composer.preset.defaults.box_margin
        return json_response(
            {
                "preset": composer.preset.name,
                "image_size": composer.model.image_size,
                "decoder": decoder.digest,
                "detector": composer.preset.detector is not None,
                "box_margin": None if math.isinf(margin) else margin,
                "runtime": None if vendor.present() else vendor.REMEDY,
            }
        )

    @router.get("/api/decoder/{digest}/{name}.onnx")
    def graph(digest: str, name: str) -> Response:
        """One of the decoder's graphs, made now if it has not been made before."""
        if digest != decoder.digest:
            raise UnknownItem("the server has another model now: reload the page", field="digest")
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(decoder.file(name), 200, headers, "application/octet-stream")


def _add_projects(router: APIRouter, projects: dict[str, Project]) -> None:
    @router.get("/api/projects")
    def listed() -> Response:
        """All projects, with how far they are."""
        return json_response([{"name": name} | _progress(project) for name, project in projects.items()])

    @router.get("/api/projects/{name}")
    def one(name: str) -> Response:
        """A project's photos and names, and the photo that was worked on last."""
        project = _project(projects, name)
        photos = project.photos()
        summaries = [project.summary(photo) for photo in photos]
        counts: dict[str, int] = {}
        for summary in summaries:
            for label, count in summary.labels:
                counts[label] = counts.get(label, 0) + count
        rows = [
            {"key": photo.key, "name": photo.name, "state": s.state, "masks": s.masks, "proposed": s.proposed}
            for photo, s in zip(photos, summaries, strict=True)
        ]
        labels = sorted(counts, key=lambda label: (-counts[label], label))
        return json_response({"name": name, "photos": rows, "labels": labels, "last": project.last})

    @router.post("/api/projects/{name}/coco")
    def coco(name: str) -> Response:
        """Write the project's COCO file."""
        project = _project(projects, name)
        written = write_coco(project)
        path = written.path.relative_to(project.folder).as_posix()
        return json_response({"file": path, "images": written.images, "annotations": written.annotations})


def _add_photos(router: APIRouter, projects: dict[str, Project], photos: Photos) -> None:
    @router.get("/api/projects/{name}/photos/{key}/picture")
    def picture(name: str, key: str) -> Response:
        """The upright picture."""
        data, kind = upright_picture(photos.open(_photo(projects, name, key)[1].path))
        return Response(data, 200, {"Cache-Control": "no-store"}, kind)

    @router.get("/api/projects/{name}/photos/{key}/embedding")
    def embedding(name: str, key: str) -> Response:
        """What the encoder gives for the photo; it runs at the first call."""
        path = _photo(projects, name, key)[1].path
        data = photos.ask(path, lambda scene: embedding_bytes(scene.embedding))
        return Response(data, 200, {"Cache-Control": "no-store"}, MEDIA_TYPE)

    @router.post("/api/projects/{name}/photos/{key}/prefill")
    def prefill(
        name: str,
        key: str,
        detect: Annotated[bool, Query()] = True,
        everything: Annotated[bool, Query()] = True,
    ) -> Response:
        """Confident masks that the photo's document does not have yet; nothing is saved."""
        project, photo = _photo(projects, name, key)
        document, _ = project.read(photo, photos.open(photo.path).size)
        present = document.rles()
        detector = detect and photos.composer.preset.detector is not None
        found = photos.ask(
            photo.path,
            lambda scene: confident_masks(scene, present, detect=detector, everything=everything),
        )
        records = [
            {"uid": secrets.token_hex(8)} | record
            for kind, instances in found
            for record in proposal_records(kind, instances)
        ]
        return json_response(records)


def _add_documents(router: APIRouter, projects: dict[str, Project], photos: Photos) -> None:
    @router.get("/api/projects/{name}/photos/{key}/document")
    def read(name: str, key: str) -> Response:
        """The photo's masks; the ETag is their revision."""
        project, photo = _photo(projects, name, key)
        image = photos.open(photo.path)
        document, revision = project.read(photo, image.size)
        height, width = image.size
        content = {"width": width, "height": height} | document.model_dump(mode="json")
        return json_response(content, headers={"ETag": f'"{revision}"'})

    @router.put("/api/projects/{name}/photos/{key}/document")
    async def save(
        name: str, key: str, request: Request, if_match: Annotated[str | None, Header()] = None
    ) -> Response:
        """Replace the photo's masks, if they are still of the revision that If-Match names."""
        if if_match is None:
            raise RevisionMissing("say in If-Match which revision this was made from", field="If-Match")
        data = await read_body(request, photos.composer.limits.max_body_bytes)

        def write() -> str:
            project, photo = _photo(projects, name, key)
            image = photos.open(photo.path)
            document = parse_document(data, image.size)
            return project.save(photo, image, document, if_match.strip().removeprefix("W/").strip('"'))

        revision = await run_in_threadpool(write)
        return Response(None, 204, {"ETag": f'"{revision}"'})

    @router.put("/api/projects/{name}/last/{key}")
    def remember(name: str, key: str) -> Response:
        """Note which photo is worked on, to open it next time."""
        project, photo = _photo(projects, name, key)
        project.remember(photo)
        return Response(None, 204)


def _progress(project: Project) -> dict[str, Any]:
    states = [project.summary(photo).state for photo in project.photos()]
    finished = sum(state in ("done", "rejected") for state in states)
    return {"photos": len(states), "finished": finished, "begun": sum(s not in (NEW,) for s in states)}


def _project(projects: dict[str, Project], name: str) -> Project:
    if name not in projects:
        known = ", ".join(list(projects)[:10])
        raise UnknownItem(f"no project {name!r}; there are: {known}", field="name")
    return projects[name]


def _photo(projects: dict[str, Project], name: str, key: str) -> tuple[Project, Photo]:
    project = _project(projects, name)
    return project, project.photo(key)
