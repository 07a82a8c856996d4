"""Where a preset's weights are, getting them, and telling that they are the right ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import IO

import sam
from composer.downloads import Progress, check_space, fetch, partial_file, restart
from composer.formats.atomic import ensure_folder, writing
from composer.presets import Preset, WeightsFile, load_preset, preset_names
from sam.checkpoints import file_digest
from sam.errors import CheckpointError, EnvironmentProblem, UsageError

PARTIAL_SUFFIX = ".part"
_ADVICE = {
    "download_failed": "run `sam-composer models pull {name}` again to continue, or {by_hand}",
    "download_running": "then run this again",
    "disk_full": "or set SAM_COMPOSER_CACHE to a folder with more of it",
    "output_unwritable": "set SAM_COMPOSER_CACHE to a folder that you may write to",
}
"""What to do about each way in which a download fails; by hand, for the others."""


def cache_folder() -> Path:
    """Where downloaded weights are kept.

    ``$SAM_COMPOSER_CACHE``, else ``sam-composer`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``.
    """
    own = os.environ.get("SAM_COMPOSER_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path there is to be ignored.
    root = Path(shared) if os.path.isabs(shared) else Path("~/.cache").expanduser()
    return root / "sam-composer"


def expected_path(preset: Preset) -> Path:
    """Where the preset's weights belong, whether or not they are there."""
    weights = preset.weights
    if preset.embedded:
        return Path(sam.__file__).resolve().parent / "weights" / weights.file
    beside = preset.folder / weights.file
    if weights.url is None or beside.is_file():
        return beside
    return cache_folder() / Path(weights.file).name


def locate(preset: Preset) -> Path:
    """The preset's weights file. Its content is not looked at: loading does that, and :func:`verify`.

    Raises:
        CheckpointError: ``weights_missing``, with how to get them.
    """
    path = expected_path(preset)
    if path.exists():
        return path
    if preset.embedded:
        message = f"{path}: the package's own weights are missing; reinstall sam-composer"
    elif preset.weights.url is None:
        message = f"{path}: no such file, though preset {preset.name!r} names it in {preset.part}.file"
    else:
        message = (
            f"the {preset.part} file of preset {preset.name!r} is not here: "
            f"run `sam-composer models pull {preset.name}`; or {by_hand(preset)}"
        )
    raise CheckpointError(message, code="weights_missing", field="preset")


def locate_detector(preset: Preset) -> Path:
    """The preset's own detector, its size and SHA-256 checked as far as they are pinned.

    Raises:
        UsageError: it has none.
        CheckpointError: missing, or not the pinned file.
    """
    return _locate_companion(preset, preset.detector, "detector", "name one (detector=, --detector)")


def locate_clip(preset: Preset) -> Path:
    """The weights file of the preset's own text-image model; checked and raising as for a detector."""
    return _locate_companion(preset, preset.clip, "text-image model", "name one (clip=, --clip)")


def _locate_companion(preset: Preset, file: WeightsFile | None, what: str, remedy: str) -> Path:
    if file is None:
        field = "detector" if what == "detector" else "clip"
        raise UsageError(
            f"preset {preset.name!r} has no {what} of its own; {remedy}", code=f"{field}_missing", field=field
        )
    return verify(replace(preset, weights=file, part="detector" if what == "detector" else "clip"))


def verify(preset: Preset) -> Path:
    """Check size and SHA-256 of the preset's weights, as far as it pins them; returns their path.

    Raises:
        CheckpointError: missing, or not the pinned file.
    """
    path = locate(preset)
    remedy = f"run `sam-composer models pull {preset.name}`" if preset.weights.url else "replace it"
    _check(preset, path, "reinstall sam-composer" if preset.embedded else remedy)
    return path


def pull(preset: Preset, progress: Progress | None = None) -> Path:
    """Download the preset's weights into the cache folder, unless the right file is there already.

    What arrives goes to ``<file>.part``; a download that was broken off is continued, and the file takes its
    name only when size and SHA-256 are right.

    Args:
        preset: embedded weights are verified instead.
        progress: called with bytes that are here and bytes in all.

    Returns:
        The path of the weights.

    Raises:
        UsageError: the preset names no URL, or pins no SHA-256.
        CheckpointError: the server has no such file or another one, or what arrived is not the pinned file.
        EnvironmentProblem: no network, no space, or the cache folder cannot be written. The message says what
            to do by hand.
    """
    weights = preset.weights
    if preset.embedded:
        return verify(preset)
    if weights.url is None:
        raise UsageError(f"preset {preset.name!r} has no {preset.part}.url to download from", field="preset")
    if weights.sha256 is None:
        raise UsageError(
            f"preset {preset.name!r} pins no {preset.part}.sha256, so that a download could not be checked; "
            "add it",
            field="preset",
        )
    target = expected_path(preset)
    if target.is_file() and _is_right(preset, target):
        return target
    part = target.with_name(target.name + PARTIAL_SUFFIX)
    try:
        ensure_folder(target.parent)
        with partial_file(part) as file:
            _download(preset, file, part, progress or (lambda done, total: None))
            with writing(target):
                os.fsync(file.fileno())
                os.replace(part, target)
    except (EnvironmentProblem, CheckpointError) as error:
        advice = _ADVICE.get(error.code, "{by_hand}").format(by_hand=by_hand(preset), name=preset.name)
        raise type(error)(f"{error}; {advice}", code=error.code) from error
    return target


def by_hand(preset: Preset) -> str:
    """What to do without a network, in one line: the URL, the path and the digest."""
    weights = preset.weights
    return f"by hand: save {weights.url} as {expected_path(preset)} (SHA-256 {weights.sha256})"


def _download(preset: Preset, file: IO[bytes], part: Path, progress: Progress) -> None:
    weights = preset.weights
    url = str(weights.url)
    have = os.fstat(file.fileno()).st_size
    if weights.bytes is not None:
        check_space(part.parent, weights.bytes - have)
    fetch(url, file, part, size=weights.bytes, progress=progress)
    if have and not _is_right(preset, part):  # continued from something else than the beginning of this file
        restart(file, part)
        fetch(url, file, part, size=weights.bytes, progress=progress)
    try:
        _check(preset, part, "it has been removed")
    except CheckpointError:
        restart(file, part)
        with writing(part):
            part.unlink()
        raise


def _is_right(preset: Preset, path: Path) -> bool:
    try:
        _check(preset, path, "")
    except CheckpointError:
        return False
    return True


def _check(preset: Preset, path: Path, remedy: str) -> None:
    weights = preset.weights
    try:
        found = path.stat().st_size
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror})", code="checkpoint_unreadable"
        ) from error
    if weights.bytes is not None and found != weights.bytes:
        raise CheckpointError(
            f"{path}: {found:,} bytes, expected {weights.bytes:,}; {remedy}", code="checkpoint_size"
        )
    if weights.sha256 is None:
        return
    digest = file_digest(path)
    if digest != weights.sha256.lower():
        raise CheckpointError(
            f"{path}: SHA-256 is {digest}, expected {weights.sha256.lower()}; {remedy}",
            code="checkpoint_digest",
        )


def owner_of(path: Path) -> str | None:
    """Name of the packaged preset whose weights are in this file, by size and digest; None: nobody's."""
    pinned = {
        (preset.weights.bytes, preset.weights.sha256): name
        for name in preset_names()
        if (preset := load_preset(name)).weights.sha256
    }
    try:
        size = path.stat().st_size
        if size not in {found for found, _ in pinned}:
            return None
        return pinned.get((size, file_digest(path)))
    except OSError:
        return None
