"""Unlabelled photos as a training set: the masks of which the present model is sure (paper §4, in small).

A mask is kept where three things say so: the model's own estimate of its IoU, its stability under another
threshold, and a second look at the mirrored photo, in which the mask's box has to give the same mask again.
What is written has SA-1B's layout: ``{sa1b: FOLDER, weight: …}`` among the ``sets`` of a training file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from adapters.boxes import Boxes
from adapters.everything import Everything
from adapters.results import Instances
from adapters.rle import decode_mask
from composer.composer import Composer, Scene
from composer.formats.atomic import atomic_file, ensure_folder, write_json
from composer.formats.names import unique_stems
from sam.errors import BadImage, UsageError

JPEG_QUALITY = 95


@dataclass(frozen=True)
class Trust:
    """Which masks become labels.

    Attributes:
        points_per_side: of the grid of clicks.
        pred_iou: only masks whose predicted IoU exceeds it; None: the preset's own threshold.
        stability: only masks at least as stable, in [0, 1]; None: the preset's own threshold.
        agreement: only masks whose box gives, in the mirrored photo, a mask of at least this IoU; 0: unasked.
        min_area: only masks of at least this share of the photo.
        min_masks: photos with fewer masks are left out.
        max_masks: of each photo, the surest so many.
    """

    points_per_side: int = 32
    pred_iou: float | None = None
    stability: float | None = None
    agreement: float = 0.8
    min_area: float = 0.001
    min_masks: int = 2
    max_masks: int = 100


@dataclass(frozen=True)
class Labelled:
    """What became of the photos: how many were labelled (now or before), and with how many masks now."""

    photos: int
    masks: int
    unlabelled: int
    broken: int


def label_photos(
    composer: Composer,
    photos: Sequence[Path],
    folder: Path,
    trust: Trust,
    on_photo: Callable[[Path, str], None] | None = None,
) -> Labelled:
    """Label photos into ``folder``; those that it has already are left as they are.

    Args:
        composer: the present model.
        photos: files.
        folder: of the training set: ``NAME.jpg`` as displayed, and ``NAME.json``.
        trust: which masks are kept.
        on_photo: called with each photo and what became of it.

    Raises:
        UsageError: none of the photos can be read, or one lies in ``folder`` itself, where the set has
            its own of that name.
        EnvironmentProblem: the folder cannot be written.
    """
    inside = [path for path in photos if os.path.realpath(path.parent) == os.path.realpath(folder)]
    if inside:
        raise UsageError(
            f"{folder}: holds the photo {inside[0].name}; give the set a folder of its own", field="out"
        )
    ensure_folder(folder)
    done = masks = unlabelled = broken = 0
    for path, stem in zip(photos, unique_stems(photos), strict=True):
        target = folder / f"{stem}.json"
        if target.is_file():
            done += 1
            continue
        try:
            scene = composer.open(path)
        except (BadImage, UsageError) as error:  # damaged, or gone meanwhile
            broken += 1
            told = f"left out: {error}"
        else:
            found = sure_masks(composer, scene, trust)
            if len(found) < trust.min_masks:
                unlabelled += 1
                told = f"{len(found)} masks, left out"
            else:
                _write(scene, found, folder, stem)
                done, masks = done + 1, masks + len(found)
                told = f"{len(found)} masks"
        if on_photo:
            on_photo(path, told)
    if broken and broken == len(photos):
        raise UsageError(f"none of the {broken} photos can be read", field="photos")
    return Labelled(done, masks, unlabelled, broken)


def sure_masks(composer: Composer, scene: Scene, trust: Trust) -> Instances:
    """The masks of an opened photo that are trusted, the surest first."""
    request = Everything(
        points_per_side=trust.points_per_side,
        pred_iou_thresh=trust.pred_iou,
        stability_score_thresh=trust.stability,
        min_mask_area=trust.min_area * scene.size[0] * scene.size[1],
    )
    found = scene.run(request)
    assert isinstance(found, Instances)
    if trust.agreement > 0 and len(found):
        found = found[: trust.max_masks * 2]
        found = found[agreement(composer, scene, found) >= trust.agreement]
    return found[: trust.max_masks]


def agreement(composer: Composer, scene: Scene, found: Instances) -> npt.NDArray[np.float64]:
    """(n,) IoU of each mask with that which its box gives in the mirrored photo."""
    width = scene.size[1]
    mirrored = composer.open(np.ascontiguousarray(scene.source.pixels[:, ::-1]))
    boxes = found.boxes.copy()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    again = mirrored.run(Boxes(boxes))
    assert isinstance(again, Instances)
    shares = np.zeros(len(found))
    for row, (one, other) in enumerate(zip(found.rles, again.rles, strict=True)):
        mask, second = decode_mask(one), decode_mask(other)[:, ::-1]
        shares[row] = (mask & second).sum() / max(1, (mask | second).sum())
    return shares


def _write(scene: Scene, found: Instances, folder: Path, stem: str) -> None:
    # As displayed: most other programs that read SA-1B's form do not turn photos as cameras ask for.
    with atomic_file(folder / f"{stem}.jpg") as file:
        PILImage.fromarray(scene.source.pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    image_id = int(scene.source.sha256[:8], 16) >> 1
    write_json(folder / f"{stem}.json", found.to_sa1b(f"{stem}.jpg", image_id))  # last: it says all is there
