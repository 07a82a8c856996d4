"""`eval edges`, `eval proposals` and `eval instances` as they are called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from adapters.rle import encode_mask, to_json
from sam.checkpoints import save_weights


@pytest.fixture
def evaluate(cli, small_preset: Path):
    def call(what: str, *arguments: object):
        return cli("eval", what, *arguments)

    return call


@pytest.fixture
def model(small_preset: Path) -> tuple[object, ...]:
    return ("--preset", small_preset, "--device", "cpu")


@pytest.fixture
def drawn(photos: Path) -> Path:
    """The three photos with what one annotator drew, and the same as maps of three kinds."""
    root = photos.parent
    photos.rename(root / "images")
    for name in ("groundTruth", "maps"):
        (root / name).mkdir()
    for number, path in enumerate(sorted((root / "images").iterdir())):
        boundary = np.zeros((45, 60), np.uint8)
        boundary[20 + number, 5:55] = 1
        cell = np.empty((1, 1), object)
        cell[0, 0] = {"Boundaries": boundary, "Segmentation": np.ones((45, 60), np.uint16)}
        savemat(root / f"groundTruth/{path.stem}.mat", {"groundTruth": cell})
        values = boundary * 0.8
        if number == 0:
            np.save(root / f"maps/{path.stem}.npy", values)
        else:
            depth, kind = ((255, np.uint8), (65535, np.uint16))[number - 1]
            Image.fromarray((values * depth).astype(kind)).save(root / f"maps/{path.stem}.png")
    return root


class TestEdges:
    def test_maps_of_another_program(self, evaluate, drawn: Path, tmp_path: Path) -> None:
        ended = evaluate(
            "edges", "--bsds", drawn, "--predictions", drawn / "maps", "--workers", 0, "--thresholds", 9,
            "--json", tmp_path / "e.json", "--plot", tmp_path / "e.png",
        )  # fmt: skip
        assert ended.code == 0 and "1.000" in ended.out and "3 photos, 9 thresholds" in ended.out
        report = json.loads((tmp_path / "e.json").read_text())
        assert (report["ods"], report["ois"], report["r50"], report["images"]) == (1, 1, 1, 3)
        assert report["predictions"] == str(drawn / "maps") and report["command"].startswith("sam-composer")
        assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")

    def test_the_models_own_are_kept_and_evaluate_to_the_same(
        self, evaluate, model, drawn: Path, tmp_path: Path
    ) -> None:
        options = ("--bsds", drawn, "--thresholds", 5, "--workers", 0)
        ended = evaluate(
            "edges", *options, *model, "--points-per-side", 3, "--edge-source", "both", "--limit-images", 2,
            "--save-maps", tmp_path / "kept", "--json", tmp_path / "a.json",
        )  # fmt: skip
        assert ended.code == 0, ended.err
        first = json.loads((tmp_path / "a.json").read_text())
        assert first["request"] == {
            "kind": "edges", "points_per_side": 3, "points_per_batch": 64, "box_nms_thresh": 0.7,
            "crop_n_layers": 0, "crop_overlap_ratio": 512 / 1500, "crop_n_points_downscale_factor": 1,
            "source": "both", "thin": True, "within_margin": 3,
        }  # fmt: skip
        assert len(list((tmp_path / "kept").iterdir())) == 2 and len(first["weights_sha256"]) == 64
        again = ("--predictions", tmp_path / "kept", "--limit-images", 2, "--json", tmp_path / "b.json")
        assert evaluate("edges", *options, *again).code == 0
        second = json.loads((tmp_path / "b.json").read_text())
        for figure in ("ods", "ois", "ap", "r50"):
            assert second[figure] == pytest.approx(first[figure], abs=2e-3)

    def test_a_drawing_without_its_photo(self, evaluate, drawn: Path) -> None:
        (drawn / "images/b.jpg").unlink()
        ended = evaluate("edges", "--bsds", drawn, "--predictions", drawn / "maps", "--workers", 0)
        assert ended.code == 3 and f"{drawn / 'groundTruth/b.mat'}: a drawing of a photo that" in ended.error

    def test_drawings_without_a_boundary(self, evaluate, drawn: Path) -> None:
        cell = np.empty((1, 1), object)
        cell[0, 0] = {"Boundaries": np.zeros((45, 60), np.uint8)}
        savemat(drawn / "groundTruth/b.mat", {"groundTruth": cell})
        ended = evaluate("edges", "--bsds", drawn, "--predictions", drawn / "maps", "--workers", 0)
        assert ended.code == 3 and "b.mat: no annotator drew a boundary" in ended.error

    @pytest.mark.parametrize(
        ("options", "code", "reason"),
        [
            (("--bsds", "{root}/nowhere"), 2, "no such folder"),
            (("--bsds", "{root}/maps"), 3, "expected data/images/test/"),
            (("--bsds", "{root}", "--predictions", "{root}/nowhere"), 2, "no such folder"),
            (("--bsds", "{root}", "--predictions", "{root}/groundTruth"), 3, "a.mat: expected a variable"),
            (
                ("--bsds", "{root}", "--predictions", "{root}/images"),
                3,
                "no map (NAME.png or NAME.npy or NAME.mat) of 2 photos: a, b",
            ),
            (("--bsds", "{root}", "--split", "tset"), 2, "split 'tset': expected one of train, val, test"),
            (("--bsds", "{root}", "--split", "test"), 2, "has no images/test/; a plain folder"),
            (("--bsds", "{root}", "--source", "head"), 2, "No such option: --source"),
            *(
                (
                    ("--bsds", "{root}", "--predictions", "{root}/maps", *option),
                    2,
                    f"{option[0]} has no meaning with --predictions; leave it out",
                )
                for option in (
                    ("--edge-source", "head"),
                    ("--save-maps", "{root}/kept"),
                    ("--points-per-side", "16"),
                    ("--preset", "tiny"),
                    ("--checkpoint", "x"),
                    ("--device", "cpu"),
                    ("--precision", "auto"),
                )
            ),
        ],
    )
    def test_wrong_calls(
        self, evaluate, drawn: Path, options: tuple[str, ...], code: int, reason: str
    ) -> None:
        ended = evaluate("edges", *(option.format(root=drawn) for option in options), "--workers", 0)
        assert ended.code == code and ended.out == "", ended.err
        assert ended.error.startswith("error: ") and reason in ended.error


class TestRegions:
    @pytest.fixture
    def ucm(self, drawn: Path) -> Path:
        """For each photo a contour map with the one line that was drawn, and two regions as the drawing."""
        folder = drawn / "ucm"
        folder.mkdir()
        for path in (drawn / "images").iterdir():
            segments = np.ones((45, 60), np.uint16)
            segments[:, 30:] = 2
            cell = np.empty((1, 1), object)
            cell[0, 0] = {"Boundaries": segments > 1, "Segmentation": segments}
            savemat(drawn / f"groundTruth/{path.stem}.mat", {"groundTruth": cell})
            contours = np.zeros((91, 121))
            contours[:, 60] = 0.5
            savemat(folder / f"{path.stem}.mat", {"ucm2": contours})
        return folder

    def test_contour_maps(self, evaluate, drawn: Path, ucm: Path, tmp_path: Path) -> None:
        ended = evaluate(
            "regions", "--bsds", drawn, "--predictions", ucm, "--thresholds", 4, "--limit-images", 2,
            "--json", tmp_path / "r.json",
        )  # fmt: skip
        assert ended.code == 0 and "2 photos, 4 thresholds" in ended.out, ended.err
        report = json.loads((tmp_path / "r.json").read_text())
        assert report["covering"] == {"ods": 1, "ods_threshold": 0.2, "ois": 1, "best": 1}
        assert report["rand_index"]["ods"] == 1 and report["variation_of_information"]["ods"] == 0
        assert (report["images"], report["split"], report["thresholds"]) == (2, None, 4)
        assert report["predictions"] == str(ucm) and report["command"].startswith("sam-composer")

    def test_wrong_calls(self, evaluate, drawn: Path, ucm: Path) -> None:
        call = ("regions", "--bsds", drawn, "--predictions")
        ended = evaluate(*call, drawn / "nowhere")
        assert ended.code == 2 and "no such folder" in ended.error
        savemat(ucm / "b.mat", {"ucm2": np.zeros((9, 9))})
        ended = evaluate(*call, ucm)
        assert (
            ended.code == 3
            and "b.mat: a contour map for 4 x 4 pixels, but its photo has 60 x 45" in ended.error
        )
        (ucm / "a.mat").unlink()
        ended = evaluate(*call, ucm)
        assert ended.code == 3 and "no map (NAME.mat) of one photo: a" in ended.error


@pytest.fixture
def coco(photos: Path) -> Path:
    """The photos with two instances each, as a COCO file."""
    images, annotations = [], []
    for number, path in enumerate(sorted(photos.iterdir())):
        images.append({"id": number, "file_name": path.name, "height": 45, "width": 60})
        for i, (y, x) in enumerate(((5, 5), (20, 30))):
            mask = np.zeros((45, 60), bool)
            mask[y : y + 15, x : x + 20] = True
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1 + i,
                    "segmentation": to_json(encode_mask(mask)),
                    "area": 300,
                    "bbox": [x, y, 20, 15],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    path = photos.parent / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_proposals(evaluate, model, photos: Path, coco: Path, tmp_path: Path) -> None:
    ended = evaluate(
        "proposals", "--coco", photos, coco, *model, "--points-per-side", 4, "--limit", 50,
        "--json", tmp_path / "p.json", "--plot", tmp_path / "p.png",
    )  # fmt: skip
    assert ended.code == 0 and "6 objects in 3 photos" in ended.out
    report = json.loads((tmp_path / "p.json").read_text())
    assert 0 <= report["ar@10"] <= report["ar@50"] <= 1 and "ar@100" not in report
    assert report["objects"] == 6 and report["request"]["limit"] == 50
    assert report["ar@50_large"] is None and report["ar@50_small"] is not None
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def random_detector(folder: Path, *names: str) -> Path:
    """A detector of these classes that knows nothing, as a file of ours."""
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    network = DetectionModel("yolo11n.yaml", nc=len(names), verbose=False)
    about = {"architecture": "yolo11n.yaml", "names": json.dumps(names), "image_size": "64"}
    path = folder / f"{''.join(names)}.safetensors"
    save_weights(network, path, metadata=about)
    return path


class TestInstances:
    @staticmethod
    def results(coco: Path, **changes: object) -> list[dict[str, object]]:
        truth = json.loads(coco.read_text())["annotations"]
        keys = ("image_id", "category_id", "segmentation", "bbox")
        return [{**{k: one[k] for k in keys}, "score": 0.9, **changes} for one in truth]

    def saved(self, coco: Path, results: object) -> Path:
        path = coco.with_name("results.json")
        path.write_text(json.dumps(results))
        return path

    def test_results_that_are_right(self, evaluate, photos: Path, coco: Path, tmp_path: Path) -> None:
        path = self.saved(coco, self.results(coco))
        ended = evaluate(
            "instances", "--coco", photos, coco, "--results", path, "--json", tmp_path / "i.json"
        )
        assert ended.code == 0 and "100.0%" in ended.out, ended.err
        report = json.loads((tmp_path / "i.json").read_text())
        assert report["ap"] == report["ap50"] == report["masks"]["ap"] == report["boxes"]["ap"] == 1
        assert (report["results"], report["images"]) == (6, 3)

    def test_half_of_them_and_of_the_photos(self, evaluate, photos: Path, coco: Path, tmp_path: Path) -> None:
        only_masks = [{k: v for k, v in r.items() if k != "bbox"} for r in self.results(coco)]
        found = [r for r in only_masks if r["category_id"] == 1]
        ended = evaluate(
            "instances", "--coco", photos, coco, "--results", self.saved(coco, found), "--limit-images", 2,
            "--json", tmp_path / "i.json",
        )  # fmt: skip
        assert ended.code == 0
        report = json.loads((tmp_path / "i.json").read_text())
        assert report["ap"] == pytest.approx(0.5) and (report["results"], report["images"]) == (2, 2)
        assert report["boxes"]["ap"] == pytest.approx(0.5)  # the masks' own

    def test_boxes_become_masks(self, evaluate, model, photos: Path, coco: Path, tmp_path: Path) -> None:
        boxes = [{k: v for k, v in r.items() if k != "segmentation"} for r in self.results(coco)]
        boxes += [
            boxes[0] | {"bbox": [200, 200, 10, 10]},
            boxes[0] | {"bbox": [-5, -5, 30, 30], "score": 0.1},
        ]
        ended = evaluate(
            "instances", "--coco", photos, coco, "--boxes", self.saved(coco, boxes), *model,
            "--json", tmp_path / "i.json",
        )  # fmt: skip
        assert ended.code == 0, ended.err
        report = json.loads((tmp_path / "i.json").read_text())
        assert report["results"] == 7 and report["refine"] == 1  # one lies outside of its photo
        assert report["boxes"]["ap"] == 1 and 0 <= report["masks"]["ap"] <= 1

    def test_a_detector_is_run(self, evaluate, model, photos: Path, coco: Path, tmp_path: Path) -> None:
        call = ("instances", "--coco", photos, coco, *model, "--conf", 0)
        ended = evaluate(
            *call, "--detector", random_detector(tmp_path, "a", "b"), "--json", tmp_path / "i.json"
        )
        assert ended.code == 0, ended.err
        report = json.loads((tmp_path / "i.json").read_text())
        assert 0 < report["results"] <= 300 and report["request"]["limit"] == 100
        assert 0 <= report["masks"]["ap"] <= 1
        ended = evaluate(*call, "--detector", random_detector(tmp_path, "x", "y"))
        assert ended.code == 3 and "has no category named x" in ended.error
        report_any = tmp_path / "any.json"
        ended = evaluate(
            *call, "--detector", random_detector(tmp_path, "x"), "--class-agnostic", "--json", report_any
        )
        assert ended.code == 0 and "whatever the class" in ended.out, ended.err
        assert json.loads(report_any.read_text())["class_agnostic"]
        ended = evaluate(*call, "--detector", tmp_path / "mine.pt")
        assert ended.code == 2 and "runs whatever code its author put into it" in ended.error

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"image_id": 77}, "result 0: image_id 77 is not listed under 'images' of instances.json"),
            ({"category_id": 9}, "category_id 9 is not listed under 'categories'"),
            ({"score": "high"}, "'score' must be a number"),
            ({"bbox": [1, 2]}, "'bbox' must be"),
            ({"segmentation": None, "bbox": None}, "has no 'segmentation' or 'bbox'"),
            (
                {"segmentation": to_json(encode_mask(np.ones((4, 5), bool)))},
                "a mask of 5 x 4 pixels, but its photo has 60 x 45",
            ),
        ],
    )
    def test_results_that_do_not_fit(
        self, evaluate, photos: Path, coco: Path, change: dict[str, object], reason: str
    ) -> None:
        path = self.saved(coco, self.results(coco, **change))
        ended = evaluate("instances", "--coco", photos, coco, "--results", path)
        assert (ended.code, ended.out) == (3, "") and reason in ended.error

    @pytest.mark.parametrize(
        ("content", "reason"),
        [("{}", "expected a JSON list of objects"), ("[", "not JSON"), ("[]", "no result for any of the 3")],
    )
    def test_results_that_are_none(
        self, evaluate, photos: Path, coco: Path, content: str, reason: str
    ) -> None:
        path = self.saved(coco, [])
        path.write_text(content)
        ended = evaluate("instances", "--coco", photos, coco, "--results", path)
        assert ended.code == 3 and reason in ended.error

    def test_wrong_calls(self, evaluate, photos: Path, coco: Path) -> None:
        ended = evaluate("instances", "--results", coco)
        assert ended.code == 2 and "give one of --panoptic DIR and --coco IMAGES ANN" in ended.error
        ended = evaluate("instances", "--coco", photos, coco)
        assert ended.code == 2 and "give one of --results FILE, --boxes FILE, --detect and" in ended.error
        coco.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
        ended = evaluate("instances", "--coco", photos, coco, "--results", coco)
        assert ended.code == 3 and "no instance in it" in ended.error

    @pytest.mark.parametrize(
        ("source", "options"),
        [
            ("--results", ("--refine", 1)),
            ("--results", ("--conf", 0.5)),
            ("--results", ("--preset", "tiny")),
            ("--results", ("--trust-detector",)),
            ("--boxes", ("--conf", 0.001)),
        ],
    )
    def test_options_that_would_be_ignored(
        self, evaluate, photos: Path, coco: Path, source: str, options: tuple[object, ...]
    ) -> None:
        ended = evaluate("instances", "--coco", photos, coco, source, coco, *options)
        assert ended.code == 2 and f"{options[0]} has no meaning with {source}" in ended.error

    def test_a_missing_photo_stops_the_run_before_it_starts(
        self, evaluate, model, photos: Path, coco: Path
    ) -> None:
        results = self.saved(coco, self.results(coco))
        (photos / "b.jpg").unlink()
        (photos / "a.jpg").write_bytes(b"never opened")
        ended = evaluate("instances", "--coco", photos, coco, "--boxes", results, *model)
        assert ended.code == 3 and f"{photos / 'b.jpg'}: is annotated in {coco}" in ended.error

    @pytest.mark.parametrize(
        ("key", "change", "reason"),
        [
            ("images", {"id": 1}, "images[2]: a second entry with the id 1"),
            ("annotations", {"image_id": 8}, "annotation 6: image_id 8 is not listed under 'images'"),
            (
                "annotations",
                {"segmentation": [[1, 2]]},
                "annotation 6: 'segmentation' must be an RLE or a list",
            ),
            ("categories", {"id": 1}, "categories[1]: a second entry with the id 1"),
        ],
    )
    def test_annotations_that_do_not_fit(
        self, evaluate, photos: Path, coco: Path, key: str, change: dict[str, object], reason: str
    ) -> None:
        results, index = self.saved(coco, self.results(coco)), json.loads(coco.read_text())
        index[key][-1] |= change
        coco.write_text(json.dumps(index))
        ended = evaluate("instances", "--coco", photos, coco, "--results", results)
        assert (ended.code, ended.out) == (3, "") and reason in ended.error

    def test_masks_and_boxes_in_one_file(self, evaluate, photos: Path, coco: Path) -> None:
        results = self.results(coco)
        del results[0]["bbox"], results[1]["segmentation"]
        ended = evaluate("instances", "--coco", photos, coco, "--results", self.saved(coco, results))
        assert (ended.code, ended.out) == (3, "")
        assert "result 1: has a box, but the results before it have a mask" in ended.error


def test_all_of_it(evaluate, model, drawn: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "scenes").mkdir(parents=True)
    (data / "lines/images").mkdir(parents=True)
    (drawn / "groundTruth").rename(data / "lines/groundTruth")
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 30, 5, 30, 30, 5, 30]]}
    names = sorted(path.name for path in (drawn / "images").iterdir())
    (data / "scenes/images").mkdir()
    for name in names:
        content = (drawn / "images" / name).read_bytes()
        (data / "scenes/images" / name).write_bytes(content)
        (data / "lines/images" / name).write_bytes(content)
    index = {"images": [{"id": 1, "file_name": names[0]}], "annotations": [annotation], "categories": []}
    (data / "scenes/instances.json").write_text(json.dumps(index))
    out = tmp_path / "report"
    ended = evaluate("all", "--data", data, "--out", out, *model, "--limit-images", 1)
    assert ended.code == 0, ended.err
    report = json.loads((out / "report.json").read_text())
    assert [(s["set"], s["measure"]) for s in report["sets"]] == [
        ("lines", "edges"), ("scenes", "points"), ("scenes", "boxes"), ("scenes", "proposals")
    ]  # fmt: skip
    assert len(report["weights_sha256"]) == 64 and report["command"].startswith("sam-composer")
    assert {path.suffix for path in out.iterdir()} == {".json", ".md", ".png"}
    assert all((out / s["plot"]).is_file() for s in report["sets"])

    index["annotations"][0]["segmentation"] = "none"  # type: ignore[index]
    (data / "scenes/instances.json").write_text(json.dumps(index))
    cell = np.empty((1, 1), object)
    cell[0, 0] = {"Boundaries": np.ones((4, 4), np.uint8)}
    (data / "more").mkdir()
    (data / "lines/images").rename(data / "more/images")
    (data / "lines/groundTruth").rename(data / "more/groundTruth")
    savemat(data / "more/groundTruth/z.mat", {"groundTruth": cell})
    (data / "scenes2").symlink_to(data / "scenes")
    ended = evaluate("all", "--data", data, "--out", out, *model, "--limit-images", 1)
    assert ended.code == 4 and "7 measures on 3 sets, 7 failed" in ended.out
    assert len(ended.err.splitlines()) == 7
    assert "error: more, edges: " in ended.err and "z.mat: a drawing of a photo that is not in" in ended.err
    assert "error: scenes2, proposals: " in ended.err
    failed = json.loads((out / "report.json").read_text())["sets"]
    assert all(("'segmentation' must be" in s["error"]) != (s["measure"] == "edges") for s in failed)


def test_text_from_the_command_line(
    cli, small_preset: Path, clip_folders: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 60, 3), dtype=np.uint8)).save(
        tmp_path / "images/a.png"
    )
    about = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 30, 5, 30, 30]]}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(about))
    ended = cli(
        "eval", "text", "--coco", tmp_path / "images", tmp_path / "instances.json", "--preset", small_preset,
        "--clip", clip_folders["sigmoid"], "--route", "rank", "--absent", "1", "--baselines",
        "--device", "cpu", "--json", tmp_path / "text.json", "--plot", tmp_path / "text.png",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "text.json").read_text())
    assert set(report["routes"]) == {"rank", "fastsam", "largest"}
    assert {"present_miou", "instance_recall", "false_alarm_rate"} <= set(report)
    assert report["clip"] == "sigmoid" and (tmp_path / "text.png").is_file()
    assert "fastsam (baseline)" in ended.out and "1 photos, 1 phrases" in ended.out
    boxes = [{"image_id": 1, "category_id": 2, "bbox": [5, 5, 30, 20], "score": 0.75}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))  # of a photo whose name has no number
    ended = cli(
        "eval", "text", "--coco", tmp_path / "images", tmp_path / "instances.json", "--preset", small_preset,
        "--clip", clip_folders["sigmoid"], "--route", "detect", "--device", "cpu",
        "--detector", tmp_path / "boxes.json", "--annotations", tmp_path / "instances.json",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "") and "detect" in ended.out
