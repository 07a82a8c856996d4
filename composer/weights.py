"""Where a preset's weights are, getting them, and telling that they are the right ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Literal

import sam
from composer.downloads import Progress, check_space, fetch, partial_file, restart
from composer.formats.atomic import ensure_folder, writing
from composer.presets import Part, Preset, WeightsFile
from sam.checkpoints import file_digest
from sam.errors import CheckpointError, EnvironmentProblem, UsageError

PARTIAL_SUFFIX = ".part"
_NAMES: dict[Part, str] = {
    "weights": "weights",
    "clip": "weights of the text-image model",
    "detector": "weights of the detector",
}
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


def expected_path(preset: Preset, part: Part = "weights") -> Path:
    """Where a preset's weights, or those of a companion, belong, whether or not they are there."""
    named = preset.files[part]
    if named.embedded:
        return Path(sam.__file__).resolve().parent / "weights" / named.file
    beside = preset.folder / named.file
    if named.url is None or beside.is_file():
        return beside
    return cache_folder() / Path(named.file).name


def locate(preset: Preset, part: Part = "weights") -> Path:
    """The file of a preset's weights, or of a companion. Its content is not looked at: loading does that.

    Raises:
        CheckpointError: ``weights_missing``, with how to get them.
    """
    path, named = expected_path(preset, part), preset.files[part]
    if path.exists():
        return path
    if named.embedded:
        message = f"{path}: the package's own file is missing; reinstall sam-composer"
    elif named.url is None:
        message = f"{path}: no such file, though preset {preset.name!r} names it in {part}.file"
    else:
        message = (
            f"the {_NAMES[part]} of preset {preset.name!r} are not here: "
            f"run `sam-composer models pull {preset.name}`; or {by_hand(preset, part)}"
        )
    raise CheckpointError(message, code="weights_missing", field="preset" if part == "weights" else part)


def locate_detector(preset: Preset) -> Path:
    """The preset's own detector, its size and SHA-256 checked as far as they are pinned.

    Raises:
        UsageError: it has none.
        CheckpointError: missing, or not the pinned file.
    """
    return _locate_companion(preset, "detector")


def locate_clip(preset: Preset) -> Path:
    """The weights file of the preset's own text-image model; checked and raising as for a detector."""
    return _locate_companion(preset, "clip")


def _locate_companion(preset: Preset, part: Literal["clip", "detector"]) -> Path:
    if part not in preset.files:
        what = "detector" if part == "detector" else "text-image model"
        raise UsageError(
            f"preset {preset.name!r} has no {what} of its own; name one ({part}=, --{part})",
            code=f"{part}_missing",
            field=part,
        )
    return verify(preset, part)


def verify(preset: Preset, part: Part = "weights") -> Path:
    """Check size and SHA-256 of a file that the preset names, as far as it pins them; returns its path.

    Raises:
        CheckpointError: missing, or not the pinned file.
    """
    path, named = locate(preset, part), preset.files[part]
    if named.embedded:
        remedy = "reinstall sam-composer"
    else:
        remedy = f"run `sam-composer models pull {preset.name}`" if named.url else "replace it"
    _check(named, path, remedy)
    return path


def pull(preset: Preset, progress: Progress | None = None, part: Part = "weights") -> Path:
    """Download a file that the preset names into the cache folder, unless the right one is there already.

    What arrives goes to ``<file>.part``; a download that was broken off is continued, and the file takes its
    name only when size and SHA-256 are right.

    Args:
        preset: embedded files, and companions without a URL, are verified instead.
        progress: called with bytes that are here and bytes in all.
        part: its weights, or a companion that it names.

    Returns:
        The path of the file.

    Raises:
        UsageError: the preset names no URL, or pins no SHA-256.
        CheckpointError: the server has no such file or another one, or what arrived is not the pinned file.
        EnvironmentProblem: no network, no space, or the cache folder cannot be written. The message says what
            to do by hand.
    """
    named = preset.files[part]
    if named.embedded or (named.url is None and part != "weights"):
        return verify(preset, part)
    if named.url is None:
        raise UsageError(f"preset {preset.name!r} has no {part}.url to download from", field="preset")
    if named.sha256 is None:
        raise UsageError(
            f"preset {preset.name!r} pins no {part}.sha256, so that a download could not be checked; add it",
            field="preset",
        )
    target = expected_path(preset, part)
    if target.is_file() and _is_right(named, target):
        return target
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    try:
        ensure_folder(target.parent)
        with partial_file(partial) as file:
            _download(named, file, partial, progress or (lambda done, total: None))
            with writing(target):
                os.fsync(file.fileno())
                os.replace(partial, target)
    except (EnvironmentProblem, CheckpointError) as error:
        advice = _ADVICE.get(error.code, "{by_hand}").format(by_hand=by_hand(preset, part), name=preset.name)
        raise type(error)(f"{error}; {advice}", code=error.code) from error
    return target


def by_hand(preset: Preset, part: Part = "weights") -> str:
    """What to do without a network, in one line: the URL, the path and the digest."""
    named = preset.files[part]
    return f"by hand: save {named.url} as {expected_path(preset, part)} (SHA-256 {named.sha256})"


def _download(named: WeightsFile, file: IO[bytes], partial: Path, progress: Progress) -> None:
    url = str(named.url)
    have = os.fstat(file.fileno()).st_size
    if named.bytes is not None:
        check_space(partial.parent, named.bytes - have)
    fetch(url, file, partial, size=named.bytes, progress=progress)
    if have and not _is_right(named, partial):  # continued from something else than this file's beginning
        restart(file, partial)
        fetch(url, file, partial, size=named.bytes, progress=progress)
    try:
        _check(named, partial, "it has been removed")
    except CheckpointError:
        restart(file, partial)
        with writing(partial):
            partial.unlink()
        raise


def _is_right(named: WeightsFile, path: Path) -> bool:
    try:
        _check(named, path, "")
    except CheckpointError:
        return False
    return True


def _check(named: WeightsFile, path: Path, remedy: str) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror})", code="checkpoint_unreadable"
        ) from error
    if named.bytes is not None and found != named.bytes:
        raise CheckpointError(
            f"{path}: {found:,} bytes, expected {named.bytes:,}; {remedy}", code="checkpoint_size"
        )
    if named.sha256 is None:
        return
    digest = file_digest(path)
    if digest != named.sha256.lower():
        raise CheckpointError(
            f"{path}: SHA-256 is {digest}, expected {named.sha256.lower()}; {remedy}",
            code="checkpoint_digest",
        )
