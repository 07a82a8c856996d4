"""An evaluation as people read it: the figures in JSON and in a table, and plots that open."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from composer.evaluation.report import PLOT_FORMATS, save_json, save_plot, table, threshold_table
from composer.evaluation.scoring import Evaluation, ImageScores
from composer.evaluation.thresholds import Operating, ThresholdEvaluation
from sam.errors import EnvironmentProblem

MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}
ODD_TITLES = ("on data [/x]", "on [bold]data", r"on $\nonsense{$ and $a_b$", "on 50 % of € & <data>")


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


POINTS = Evaluation(
    "points",
    (1, 3),
    (
        ImageScores("a.png", (900,), np.array([[0.9, 1.0]]), np.array([[0.9, 1.0]])),
        ImageScores(
            "b.png",
            (400, 50, 4),
            np.array([[0.5, 0.6], [0.3, 0.4], [0.1, 0.2]]),
            np.array([[0.5, 0.6], [0.5, 0.4], [0.7, 0.8]]),
        ),
    ),
)
BOXES = Evaluation(
    "boxes",
    (1,),
    (
        ImageScores("a.png", (900,), column(0.5), column(0.75), np.array([0.25])),
        ImageScores("b.png", (400, 50), column(0.8, 0.2), column(0.9, 0.6), np.array([1.0, 0.7])),
    ),
)
THRESHOLDS = ThresholdEvaluation(
    (
        Operating(0.5, 0.9, 0.25, 0.5, 12.0),
        Operating(0.7, 0.9, 0.5, 0.5, 6.5),
        Operating(0.9, 0.9, 0, 0, 0),
    ),
    2,
    8,
)
EVALUATIONS = {"points": POINTS, "boxes": BOXES, "thresholds": THRESHOLDS}


def printed(found) -> list[list[str]]:
    """The cells of a table as it is printed, line by line."""
    text = io.StringIO()
    Console(file=text, width=100).print(found)
    return [
        [cell.strip() for cell in line.strip("┃│ ").replace("┃", "│").split("│")]
        for line in text.getvalue().splitlines()
        if not set(line) <= set("┏━┳┓┡╇┩└─┴┘")
    ]


def test_json_of_clicks(tmp_path: Path) -> None:
    save_json(tmp_path / "new/points.json", POINTS, {"preset": "small", "min_area": 4})
    assert json.loads((tmp_path / "new/points.json").read_text()) == {
        "prompt": "points",
        "miou": {"1": 0.45, "3": 0.55},  # of four masks, not of two photos
        "oracle": {"1": 0.65, "3": 0.7},
        "masks": 4,
        "images": 2,
        "per_image": [
            {"file_name": "a.png", "masks": 1, "miou": {"1": 0.9, "3": 1.0}, "oracle": {"1": 0.9, "3": 1.0}},
            {
                "file_name": "b.png",
                "masks": 3,
                "miou": {"1": 0.3, "3": 0.4},
                "oracle": {"1": 0.566667, "3": 0.6},
            },
        ],
        "preset": "small",
        "min_area": 4,
    }


def test_json_of_boxes(tmp_path: Path) -> None:
    save_json(tmp_path / "boxes.json", BOXES, {})
    report = json.loads((tmp_path / "boxes.json").read_text())
    assert (report["prompt"], report["masks"], report["images"]) == ("boxes", 3, 2)
    assert (report["miou"], report["oracle"]) == ({"1": 0.5}, {"1": 0.75})
    assert report["box_filled"] == 0.65
    assert [row["box_filled"] for row in report["per_image"]] == [0.25, 0.85]


def test_the_table_of_clicks_shows_percents() -> None:
    assert printed(table(POINTS, "points: small on data")) == [
        ["points: small on data"],
        ["prompt", "mean IoU", "oracle"],
        ["1 click", "45.0%", "65.0%"],
        ["3 clicks", "55.0%", "70.0%"],
        ["4 masks in 2 photos"],
    ]


def test_the_table_of_boxes_shows_the_filled_box_beside() -> None:
    assert printed(table(BOXES, "boxes: small")) == [
        ["boxes: small"],
        ["prompt", "mean IoU", "oracle", "box filled"],
        ["box", "50.0%", "75.0%", "65.0%"],
        ["3 masks in 2 photos"],
    ]


def test_the_table_of_thresholds_starts_with_the_best() -> None:
    rows = printed(threshold_table(THRESHOLDS, "everything", count=2))
    assert rows[2:] == [
        ["0.7", "0.9", "50.0%", "50.0%", "50.0%", "6.5"],
        ["0.5", "0.9", "25.0%", "50.0%", "33.3%", "12.0"],
        ["8 segments in 2 photos"],
    ]


@pytest.mark.parametrize("title", ODD_TITLES)
def test_a_title_is_text_and_no_markup(title: str) -> None:
    wide = table(BOXES, title), threshold_table(THRESHOLDS, title)
    assert [printed(found)[0] for found in wide] == [[title], [title]]


@pytest.mark.parametrize("suffix", PLOT_FORMATS)
@pytest.mark.parametrize("kind", list(EVALUATIONS))
def test_plots_open(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"plot{suffix}"
    save_plot(path, EVALUATIONS[kind], "title")
    assert path.read_bytes().startswith(MAGIC[suffix])
    if suffix == ".png":
        with Image.open(path) as image:
            assert image.size == (900, 600)
            assert len(np.unique(np.asarray(image.convert("RGB")))) > 50  # lines, not a blank sheet


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("points", {"top-ranked mask", "best of three, then corrected", "clicks", "mean IoU"}),
        ("boxes", {"mask", "box filled", "mean 0.50", "mean IoU"}),
        ("thresholds", {"stability 0.9", "best: IoU &gt; 0.7", "recall", "precision"}),
    ],
)
def test_plots_say_what_they_show(tmp_path: Path, kind: str, texts: set[str]) -> None:
    save_plot(tmp_path / "plot.SVG", EVALUATIONS[kind], "small on data")
    drawn = (tmp_path / "plot.SVG").read_text()
    comments = {line.strip()[5:-4] for line in drawn.splitlines() if line.strip().startswith("<!-- ")}
    assert texts | {"small on data"} <= comments


@pytest.mark.parametrize("title", ODD_TITLES)
def test_a_plot_s_title_is_no_formula(tmp_path: Path, title: str) -> None:
    save_plot(tmp_path / "plot.png", POINTS, title)
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        save_json(tmp_path / "file/report.json", POINTS, {})
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        save_plot(tmp_path / "file/plot.png", POINTS, "title")
