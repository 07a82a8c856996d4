"""Region measures: cases worked out by hand, and the benchmark's own numbers."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from composer.evaluation.boundaries.truth import open_bsds
from composer.evaluation.regions import (
    evaluate_regions,
    rand_index,
    score_regions,
    ucm_scales,
    variation_of_information,
)
from sam.errors import BadAnnotation

BENCH = Path(__file__).parents[2].parent / "shared/data/bsds-bench.tar"
HALVES = np.repeat([[1, 1, 2, 2]], 4, 0)


def test_equal_segmentations_whatever_their_numbers() -> None:
    found = score_regions("a", [HALVES * 7], [HALVES])
    assert (found.area, found.covered.tolist(), found.covered_best) == (16, [16], 16)
    assert found.rand_index.tolist() == [1] and found.variation.tolist() == [0]


def test_one_region_for_two() -> None:
    found = score_regions("a", [np.zeros((4, 4), int)], [HALVES])
    assert found.covered.tolist() == [8]  # each half, 8 pixels, has IoU 8 / 16
    assert found.variation.tolist() == [1]  # one bit says which half
    pairs_together = 2 * (8 * 7 / 2)
    assert found.rand_index[0] == pytest.approx(pairs_together / (16 * 15 / 2))


def test_each_region_may_take_the_scale_that_suits_it() -> None:
    left, right = HALVES.copy(), HALVES.copy()
    left[:2, 2:] = 3
    right[:2, :2] = 3
    found = score_regions("a", [left, right], [HALVES])
    assert found.covered.tolist() == [12, 12] and found.covered_best == 16


def test_measures_of_the_table_of_shared_pixels() -> None:
    independent = np.full((2, 2), 4.0)
    assert variation_of_information(independent) == pytest.approx(2)
    assert rand_index(np.diag([5.0, 3.0])) == 1


def test_contour_maps_become_regions(tmp_path: Path) -> None:
    ucm = np.zeros((9, 9))
    ucm[:, 4] = 0.5  # between the second and third pixel column
    savemat(tmp_path / "a.mat", {"ucm2": ucm})
    low, high = ucm_scales(tmp_path / "a.mat", 2)
    assert (low[:, :2] == low[0, 0]).all() and (low[:, 2:] == low[0, 3]).all() and low[0, 0] != low[0, 3]
    assert (high == high[0, 0]).all()
    (tmp_path / "b.mat").write_bytes(b"nothing")
    with pytest.raises(BadAnnotation, match=r"b\.mat: cannot be read as a contour map"):
        ucm_scales(tmp_path / "b.mat", 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ucm2": np.full((9, 9), np.nan)}, "holds NaN or infinite values"),
        ({"ucm2": np.full((9, 9), 1.5)}, "values from 1.5 to 1.5; expected numbers from 0 to 1"),
        ({"ucm2": np.full((9, 9), -0.5)}, "values from -0.5 to -0.5"),
        ({"ucm2": np.zeros((11, 9))}, "a contour map for 4 x 5 pixels, but its photo has 4 x 4"),
        ({"ucm2": np.zeros((8, 9))}, "ucm2 has the shape (8, 9); expected 2 H + 1 rows"),
        ({"ucm2": np.zeros((1, 1))}, "ucm2 has the shape (1, 1)"),
        ({"ucm2": np.zeros((9, 9, 2))}, "ucm2 has the shape (9, 9, 2)"),
        ({"ucm": np.zeros((9, 9))}, "expected a variable 'ucm2' in it, found ucm"),
    ],
)
def test_contour_maps_that_do_not_fit(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    path = tmp_path / "a.mat"
    savemat(path, change)
    with pytest.raises(BadAnnotation) as caught:
        ucm_scales(path, 2, (4, 4))
    assert str(caught.value).startswith(f"{path}: ") and reason in str(caught.value)


@pytest.mark.skipif(not BENCH.is_file(), reason=f"no {BENCH.name} here: the benchmark's own example")
def test_the_originals_numbers(tmp_path: Path) -> None:
    with tarfile.open(BENCH) as archive:
        archive.extractall(tmp_path, filter="data")
    root = next(path.parent for path in tmp_path.rglob("groundTruth"))
    found = evaluate_regions(
        open_bsds(root), lambda image: ucm_scales(root / "ucm2" / f"{image.path.stem}.mat", 5)
    )
    report = found.to_json()
    covering = [report["covering"][key] for key in ("ods_threshold", "ods", "ois", "best")]
    np.testing.assert_allclose(covering, np.loadtxt(root / "test_1/eval_cover.txt"), atol=1e-5)
    others = [
        report[measure][key]
        for measure in ("rand_index", "variation_of_information")
        for key in ("ods_threshold", "ods", "ois")
    ]
    np.testing.assert_allclose(others, np.loadtxt(root / "test_1/eval_RI_VOI.txt"), atol=1e-5)
