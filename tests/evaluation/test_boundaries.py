"""The BSDS boundary benchmark: its steps by hand-checked cases, and the original's own numbers."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.io import savemat

from composer.evaluation.boundaries.counts import BoundaryCounts, count_matches, thresholds_between
from composer.evaluation.boundaries.evaluate import evaluate_boundaries, maps_in
from composer.evaluation.boundaries.maps import find_maps, read_map
from composer.evaluation.boundaries.matching import Annotation
from composer.evaluation.boundaries.summary import BoundaryEvaluation, ImageBoundaries
from composer.evaluation.boundaries.thinning import thin
from composer.evaluation.boundaries.truth import DrawnSet, open_bsds
from sam.errors import BadAnnotation, UsageError

Mask = npt.NDArray[np.bool_]
BENCH = Path(__file__).parents[2].parent / "shared/data/bsds-bench.tar"
TOLERANCE = 0.002


def picture(*rows: str) -> Mask:
    return np.array([[c == "#" for c in row] for row in rows])


class TestThinning:
    def test_a_bar_becomes_its_middle_line(self) -> None:
        bar = np.zeros((9, 20), bool)
        bar[3:6, 2:18] = True
        thinned = thin(bar)
        assert thinned[4].sum() >= 12 and not thinned[[3, 5]].any()

    def test_a_line_stays_and_a_dot_stays(self) -> None:
        line = np.eye(12, dtype=bool)
        dot = np.zeros((5, 5), bool)
        dot[2, 2] = True
        assert (thin(line) == line).all() and (thin(dot) == dot).all()

    def test_what_is_connected_stays_so_and_nothing_is_added(self) -> None:
        import cv2

        noise = cv2.GaussianBlur(np.random.default_rng(0).random((80, 90)).astype(np.float32), (0, 0), 2)
        mask = noise > np.median(noise)
        thinned = thin(mask)
        assert not (thinned & ~mask).any()
        parts = [cv2.connectedComponents(m.astype(np.uint8), connectivity=8)[0] for m in (mask, thinned)]
        assert parts[0] == parts[1]
        assert (thin(thinned) == thinned).all()


class TestMatching:
    @staticmethod
    def most_pairs(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], reach: float) -> int:
        """The largest one-to-one matching, by trying all."""
        near = [{j for j, q in enumerate(b) if np.hypot(*(p - q)) <= reach} for p in a]
        best = 0
        for choice in itertools.product(*[[None, *sorted(n)] for n in near]):
            chosen = [c for c in choice if c is not None]
            if len(chosen) == len(set(chosen)):
                best = max(best, len(chosen))
        return best

    @pytest.mark.parametrize("seed", range(12))
    def test_as_many_pairs_as_there_can_be(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        a, b = (np.unique(rng.integers(0, 6, (6, 2)), axis=0) for _ in range(2))
        truth = np.zeros((6, 6), bool)
        truth[tuple(b.T)] = True
        matched = Annotation.of(truth, 1.5).match(a)
        assert matched.sum() == self.most_pairs(a, np.argwhere(truth), 1.5)

    def test_a_greedy_choice_is_undone(self) -> None:
        # Both reach column 1; only the second reaches column 0: nearest first gives column 1 to one of them.
        truth = picture("##..")
        assert Annotation.of(truth, 1.0).match(np.array([[0, 1], [0, 2]])).all()

    def test_beyond_the_distance_there_is_no_partner(self) -> None:
        truth = picture("#....", ".....", ".....")
        points = np.array([[2, 2], [0, 2], [0, 3]])
        assert Annotation.of(truth, 2.9).match(points[[0, 2]]).tolist() == [True, False]
        assert Annotation.of(truth, 2.0).match(points).tolist() == [False, True, False]

    def test_nothing_drawn_or_nothing_found(self) -> None:
        assert Annotation.of(np.zeros((4, 4), bool), 2).match(np.array([[1, 1]])).tolist() == [False]
        assert len(Annotation.of(np.ones((4, 4), bool), 2).match(np.zeros((0, 2), np.int64))) == 0


class TestCounts:
    def test_of_a_map_that_is_right(self) -> None:
        truth = np.zeros((40, 50), bool)
        truth[20, 5:45] = True
        counts = count_matches(truth.astype(float), [truth, truth], thresholds=9)
        assert counts.recall.tolist() == [1] * 9 and counts.precision.tolist() == [1] * 9
        assert counts.truth.tolist() == [80] * 9 and counts.predicted.tolist() == [40] * 9

    def test_precision_asks_any_annotator_and_recall_asks_all(self) -> None:
        a, b = np.zeros((2, 100, 100), bool)
        a[20, 10:90], b[80, 10:90] = True, True
        counts = count_matches(a.astype(float), [a, b], thresholds=1)
        assert counts.precision.tolist() == [1] and counts.recall.tolist() == [0.5]

    def test_a_threshold_is_inclusive_and_each_is_counted(self) -> None:
        values = np.zeros((60, 60))
        values[10, 10:50], values[30, 10:50], values[50, 10:50] = 0.25, 0.5, 0.75
        counts = count_matches(values, [values > 0], thresholds=3)
        assert thresholds_between(3).tolist() == [0.25, 0.5, 0.75]
        assert counts.predicted.tolist() == [120, 80, 40]


class TestSummary:
    @staticmethod
    def made(*images: list[tuple[float, float]]) -> BoundaryEvaluation:
        """Photos with these (recall, precision) at each threshold, 1,000 pixels each."""
        rows = []
        for i, image in enumerate(images):
            recall, precision = np.array(image).T
            full = np.full(len(image), 1000)
            rows.append(
                ImageBoundaries(
                    str(i),
                    BoundaryCounts((recall * 1000).astype(int), full, (precision * 1000).astype(int), full),
                )
            )
        return BoundaryEvaluation(tuple(rows))

    def test_one_threshold_for_all_or_one_for_each(self) -> None:
        found = self.made([(0.8, 0.8), (0.2, 0.2)], [(0.2, 0.2), (0.8, 0.8)])
        assert found.ods.f == pytest.approx(0.5, abs=1e-6)
        assert found.ois.f == pytest.approx(0.8)

    def test_the_best_lies_between_thresholds(self) -> None:
        found = self.made([(1.0, 0.5), (0.5, 1.0)])
        assert found.ods.f == pytest.approx(0.75, abs=1e-3)
        assert found.ods.threshold == pytest.approx(0.5, abs=0.01)

    def test_area_and_recall_at_half_precision(self) -> None:
        found = self.made([(0.8, 0.4), (0.6, 0.6), (0.2, 1.0)])
        assert found.r50 == pytest.approx(0.7)
        assert found.ap == pytest.approx(0.5 * (1.0 + 0.6) * 0.4 + 0.5 * (0.6 + 0.4) * 0.2, abs=0.01)

    def test_nothing_found_is_zero(self) -> None:
        found = self.made([(0.0, 0.0), (0.0, 0.0)])
        assert (found.ods.f, found.ois.f, found.ap, found.r50) == (0, 0, 0, 0)


@pytest.fixture
def bsds(tmp_path: Path) -> Path:
    """Three photos with two annotators each, as BSDS500 has them."""
    for i in range(3):
        boundary = np.zeros((30, 40), np.uint8)
        boundary[10 + i, 5:35] = 1
        segments = np.ones((30, 40), np.uint16)
        segments[11 + i :] = 2
        one = {"Segmentation": segments, "Boundaries": boundary}
        cell = np.empty((1, 2), object)
        cell[0, 0] = cell[0, 1] = one
        for name in ("images", "groundTruth"):
            (tmp_path / "data" / name / "test").mkdir(parents=True, exist_ok=True)
        savemat(tmp_path / f"data/groundTruth/test/{i}.mat", {"groundTruth": cell})
        Image.fromarray(np.full((30, 40, 3), 9, np.uint8)).save(tmp_path / f"data/images/test/{i}.jpg")
    return tmp_path


def perfect(truth: DrawnSet) -> Callable[..., npt.NDArray[np.float64]]:
    return lambda image: image.boundaries()[0].astype(np.float64)


class TestSet:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_of_a_perfect_map_everything_is_1(self, bsds: Path, workers: int) -> None:
        truth = open_bsds(bsds)
        seen: list[str] = []
        found = evaluate_boundaries(
            truth, perfect(truth), thresholds=5, workers=workers, on_image=seen.append
        )
        report = found.to_json()
        assert (report["ods"], report["ois"], report["images"]) == (1, 1, 3)
        assert seen == ["0.jpg", "1.jpg", "2.jpg"] == [row["file_name"] for row in report["per_image"]]
        assert len(report["curve"]) == 5

    def test_an_error_in_another_process_is_that_error(self, bsds: Path) -> None:
        truth = open_bsds(bsds)
        with pytest.raises(BadAnnotation, match=r"0\.mat: a drawing of shape \(30, 40\), expected \(8, 9\)"):
            evaluate_boundaries(truth, lambda image: np.zeros((8, 9)), thresholds=3, workers=1)

    def test_layouts(self, bsds: Path, tmp_path: Path) -> None:
        assert len(open_bsds(bsds / "data")) == len(open_bsds(bsds)) == 3
        assert len(open_bsds(bsds).limited(2)) == 2
        assert (open_bsds(bsds).split, open_bsds(bsds, "test").split) == ("test", "test")
        with pytest.raises(BadAnnotation, match="expected data/images/val/"):
            open_bsds(bsds, "val")
        with pytest.raises(UsageError, match="split 'tests': expected one of train, val, test"):
            open_bsds(bsds, "tests")
        for name in ("images", "groundTruth"):
            (bsds / "data" / name / "test").rename(bsds / name)
        assert len(open_bsds(bsds)) == 3 and open_bsds(bsds).split is None
        with pytest.raises(UsageError, match=r"a plain folder .* has no splits"):
            open_bsds(bsds, "test")
        with pytest.raises(UsageError, match="no such folder"):
            open_bsds(tmp_path / "gone")

    def test_ground_truth_that_is_missing_or_damaged_is_named(self, bsds: Path) -> None:
        path = bsds / "data/groundTruth/test/1.mat"
        path.write_bytes(b"nothing")
        truth = open_bsds(bsds)
        with pytest.raises(BadAnnotation, match=r"1\.mat: not a BSDS ground truth"):
            truth.images[1].boundaries()
        path.unlink()
        with pytest.raises(BadAnnotation, match=r"1\.mat: missing, the ground truth of .*1\.jpg"):
            open_bsds(bsds)

    def test_drawings_and_photos_that_do_not_belong_together(self, bsds: Path) -> None:
        photos = bsds / "data/images/test"
        (photos / "._1.jpg").touch()  # what a Mac leaves behind
        (photos / "1.png").write_bytes((photos / "1.jpg").read_bytes())
        with pytest.raises(BadAnnotation, match=r"1\.png: a second photo named '1'"):
            open_bsds(bsds)
        (photos / "1.png").unlink()
        (photos / "1.jpg").unlink()
        with pytest.raises(BadAnnotation, match=r"1\.mat: a drawing of a photo that is not in .*test"):
            open_bsds(bsds)

    def test_somebody_must_have_drawn_something(self, bsds: Path) -> None:
        cell = np.empty((1, 2), object)
        for column in range(2):
            cell[0, column] = {"Boundaries": np.full((30, 40), column, np.uint8)}
        path = bsds / "data/groundTruth/test/1.mat"
        savemat(path, {"groundTruth": cell})
        assert [drawn.any() for drawn in open_bsds(bsds).images[1].boundaries()] == [False, True]
        cell[0, 1] = cell[0, 0]
        savemat(path, {"groundTruth": cell})
        with pytest.raises(BadAnnotation, match=r"1\.mat: no annotator drew a boundary"):
            open_bsds(bsds).images[1].boundaries()

    def test_a_split_without_photos(self, bsds: Path) -> None:
        for photo in (bsds / "data/images/test").iterdir():
            photo.unlink()
        with pytest.raises(BadAnnotation, match="no photo in it"):
            open_bsds(bsds)


class TestMaps:
    values = np.linspace(0, 1, 12).reshape(3, 4)

    def test_png_of_8_and_16_bits_and_arrays(self, tmp_path: Path) -> None:
        Image.fromarray(np.rint(self.values * 255).astype(np.uint8)).save(tmp_path / "a.png")
        Image.fromarray(np.rint(self.values * 65535).astype(np.uint16)).save(tmp_path / "b.png")
        np.save(tmp_path / "c.npy", self.values.astype(np.float32))
        for name, tolerance in (("a.png", 0.002), ("b.png", 1e-5), ("c.npy", 1e-6)):
            np.testing.assert_allclose(read_map(tmp_path / name, (3, 4)), self.values, atol=tolerance)

    def test_contour_maps_of_double_size(self, tmp_path: Path) -> None:
        ucm = np.random.default_rng(0).random((7, 9))
        savemat(tmp_path / "a.mat", {"ucm2": ucm})
        np.testing.assert_array_equal(read_map(tmp_path / "a.mat", (3, 4)), ucm[2::2, 2::2])

    def test_what_is_wrong_is_said_with_the_file(self, tmp_path: Path) -> None:
        def saved(values: npt.ArrayLike) -> Path:
            np.save(tmp_path / "x.npy", np.asarray(values))
            return tmp_path / "x.npy"

        broken = self.values.copy()
        broken[1, 1] = np.nan
        savemat(tmp_path / "y.mat", {"edges": self.values})
        (tmp_path / "z.png").write_bytes(b"no picture")
        Image.new("RGB", (4, 3)).save(tmp_path / "rgb.png")
        for path, message in (
            (saved(broken), "x.npy: holds NaN"),
            (tmp_path / "y.mat", "y.mat: expected a variable 'ucm2' in it, found edges"),
            (tmp_path / "z.png", "z.png: cannot be read as a boundary map"),
            (tmp_path / "rgb.png", "rgb.png: a PNG of mode RGB; expected grey"),
        ):
            with pytest.raises(BadAnnotation, match=message):
                read_map(path, (3, 4))
        for values, message in (
            (self.values * 2, "values from 0 to 2; expected numbers from 0 to 1"),
            (self.values[None], "H x W numbers"),
            (self.values[:2], "4 x 2 pixels, but its photo has 4 x 3"),
            (np.array([["a"]]), "an array of <U1"),
        ):
            with pytest.raises(BadAnnotation, match=message):
                read_map(saved(values), (3, 4))

    def test_one_map_for_each_photo(self, tmp_path: Path) -> None:
        with pytest.raises(BadAnnotation, match=r"no map .* of 4 photos: a, b, c and 1 more"):
            find_maps(tmp_path, "abcd")
        (tmp_path / "a.png").touch()
        assert find_maps(tmp_path, "a") == {"a": tmp_path / "a.png"}
        with pytest.raises(BadAnnotation, match=r"no map \(NAME\.mat\) of one photo: a"):
            find_maps(tmp_path, "a", [".mat"])
        (tmp_path / "a.npy").touch()
        with pytest.raises(BadAnnotation, match=r"a\.png and a\.npy are both maps of a"):
            find_maps(tmp_path, "a")


@pytest.mark.skipif(not BENCH.is_file(), reason=f"no {BENCH.name} here: the benchmark's own example")
@pytest.mark.parametrize(("kind", "expected"), [("ucm2", "test_1"), ("png", "test_2")])
def test_the_originals_numbers(kind: str, expected: str, tmp_path: Path) -> None:
    with tarfile.open(BENCH) as archive:
        archive.extractall(tmp_path, filter="data")
    root = next(path.parent for path in tmp_path.rglob("groundTruth"))
    truth = open_bsds(root)
    size = {image.name: image.boundaries()[0].shape for image in truth}
    found = evaluate_boundaries(
        truth, maps_in(root / kind, truth, lambda i: size[i.name]), thresholds=5, workers=0
    )
    ods, ois = found.ods, found.ois
    ours = [ods.threshold, ods.recall, ods.precision, ods.f, ois.recall, ois.precision, ois.f, found.ap]
    np.testing.assert_allclose(ours, np.loadtxt(root / expected / "eval_bdry.txt"), atol=TOLERANCE)
    curve = np.loadtxt(root / expected / "eval_bdry_thr.txt")
    np.testing.assert_allclose(found.total.recall, curve[:, 1], atol=TOLERANCE)
    np.testing.assert_allclose(found.total.precision, curve[:, 2], atol=TOLERANCE)
    best = [found.best_of(image) for image in found.images]
    per_image = [[b.threshold, b.recall, b.precision, b.f] for b in best]
    np.testing.assert_allclose(
        per_image, np.loadtxt(root / expected / "eval_bdry_img.txt")[:, 1:], atol=TOLERANCE
    )
