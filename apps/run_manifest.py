"""``sam-composer.json``: which model and requests, or which pipeline, made the results in an output folder.

Results of two configurations in one folder would look like one data set, so the second run is refused. The
check comes after the model is loaded (the digest tells weights apart), the file before the first result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from composer.formats.atomic import write_bytes
from sam.errors import UsageError

NAME = "sam-composer.json"
MAX_BYTES = 16 << 20
_COMPARED = ("preset", "weights_sha256", "requests", "pipeline", "companions")


def check_folder(out: Path, run: Mapping[str, Any], stems: Iterable[str]) -> None:
    """Refuse an output folder whose files this run must not touch.

    Args:
        out: the folder, existing.
        run: the manifest that this run would write.
        stems: names of the results that it would write.

    Raises:
        UsageError: ``output_of_another_run``: results of another configuration, or files of these names that
            no run of ours made.
    """
    path = out / NAME
    if path.exists():
        earlier = _read(path)
        differing = [key for key in _COMPARED if earlier.get(key) != run.get(key)]
        if differing:
            raise _refused(f"{out}: holds results of another run, {_difference(differing[0], earlier, run)}")
        return
    for stem in stems:
        for name in (f"{stem}.json", f"{stem}.overlay.png"):
            if (out / name).exists():
                raise _refused(f"{out / name}: exists, and was not made by sam-composer segment")


def check_photo(out: Path, stem: str, sha256: str) -> None:
    """Refuse to replace the results of another photo, which an earlier run had under the same name.

    Args:
        out: the folder.
        stem: name of the results.
        sha256: of the photo's pixels.

    Raises:
        UsageError: ``output_of_another_photo``.
    """
    path = out / f"{stem}.json"
    try:
        image = json.loads(path.read_bytes())["image"]
        other = image["sha256"] != sha256
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return  # none there, or none that could be lost
    if other:
        raise UsageError(
            f"{path}: has the results of another photo called {image.get('file_name') or stem}; choose "
            "another --out, or --overwrite",
            code="output_of_another_photo",
            field="out",
        )


def write_manifest(out: Path, run: Mapping[str, Any]) -> None:
    """Put the manifest into ``out``. Raises :class:`sam.errors.EnvironmentProblem`."""
    write_bytes(out / NAME, json.dumps(run, indent=1).encode() + b"\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(f"{path}: is no manifest of a run of ours") from error
    if not isinstance(values, dict):
        raise _refused(f"{path}: is no manifest of a run of ours")
    return values


def _difference(key: str, earlier: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    if key in ("requests", "pipeline"):
        return f"which asked for {_asked(earlier)}, and this one asks for {_asked(run)}"
    if key == "preset":
        return f"with preset {earlier.get(key)}, and this one has {run[key]}"
    if key == "companions":
        return f"by {_companions(earlier)}, and this one has {_companions(run)}"
    return f"with other weights of preset {run['preset']} (SHA-256 {str(earlier.get(key))[:12]}…)"


def _companions(run: Mapping[str, Any]) -> str:
    """Text-image models and detectors in a few words."""
    records = run.get("companions")
    if not isinstance(records, list) or not records:
        return "no text-image model and no detector"
    parts = []
    for values in (record if isinstance(record, dict) else {} for record in records):
        digests = [f"{key} {value[:12]}…" for key, value in values.items() if key.endswith("sha256")]
        parts.append(" ".join([str(values.get("name")), *([f"({', '.join(digests)})"] if digests else [])]))
    return ", ".join(parts)


def _asked(run: Mapping[str, Any]) -> str:
    """Requests or a pipeline in a few words."""
    pipeline = run.get("pipeline")
    if isinstance(pipeline, dict):
        steps = pipeline.get("steps")
        return f"the pipeline of {_requests(steps)}"
    return _requests(run.get("requests"))


def _requests(records: Any) -> str:
    if not isinstance(records, list):
        return "something else"
    parts = []
    for record in records:
        values = record if isinstance(record, dict) else {}
        text = json.dumps({key: value for key, value in values.items() if key not in ("kind", "name")})
        parts.append(f"{values.get('kind')} {text if len(text) <= 60 else text[:59] + '…'}")
    return ", ".join(parts)


def _refused(message: str) -> UsageError:
    return UsageError(
        f"{message}; choose another --out, or --overwrite", code="output_of_another_run", field="out"
    )
