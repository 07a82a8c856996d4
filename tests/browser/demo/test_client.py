"""Named endpoints by gradio_client, with the answers that the library itself gives."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from adapters.rle import from_json
from composer import Composer, Points

CENTRE = [100, 110]


@pytest.fixture(scope="module")
def client(demo_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    made = Client(demo_url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))
    yield made
    made.close()


@pytest.fixture
def ask(client: Client, disc: Path) -> Any:
    return lambda api_name, **values: client.predict(photo=handle_file(disc), api_name=api_name, **values)


def test_a_click_answers_as_the_library_does(ask: Any, composer: Composer, disc: Path) -> None:
    report, overlay, coco, masks = ask("/click", points=[CENTRE, [250, 100, 0]])
    expected = composer.open(disc).run(Points([CENTRE, [250, 100]], labels=[1, 0]))
    record = report["results"][0]["annotations"][0]
    assert from_json(record["segmentation"])["counts"] == expected.rles[0]["counts"]
    assert report["image"]["file_name"] == "disc.png"
    assert json.loads(Path(coco).read_text())["annotations"][0]["segmentation"] == record["segmentation"]
    with zipfile.ZipFile(masks) as archive, archive.open("masks/disc/000.png") as file:
        assert np.array_equal(np.asarray(Image.open(file)) > 0, expected.masks[0])
    with Image.open(overlay) as picture:
        assert picture.size == (320, 240)


@pytest.mark.parametrize(
    ("api_name", "values", "kind"),
    [
        ("/box", {"boxes": [[40, 50, 160, 170], [220, 40, 290, 200]]}, "boxes"),
        ("/everything", {"points_per_side": 8}, "everything"),
        ("/detect", {"conf": 0.1, "closer": True}, "detect"),
        ("/proposals", {"limit": 5}, "proposals"),
        ("/edges", {"thin": True}, "edges"),
    ],
)
def test_every_way_to_ask(ask: Any, api_name: str, values: dict[str, Any], kind: str) -> None:
    report, overlay, coco, masks = ask(api_name, **values)
    assert report["results"][0]["request"]["kind"] == kind
    assert report["encoder_passes"] == 0 or report["timings"]["encode"] > 0
    assert (coco is None) == (kind == "edges")
    assert Path(overlay).stat().st_size and zipfile.is_zipfile(masks)


def test_a_closer_look(ask: Any) -> None:
    boxes = [[40, 50, 160, 170], [220, 40, 290, 200]]
    for closer, zoom in ((True, 2.0), (False, None)):
        report, *_ = ask("/box", boxes=boxes, closer=closer)
        assert report["results"][0]["request"].get("zoom") == zoom


def test_a_pipeline_by_its_name(ask: Any) -> None:
    report, *_ = ask("/pipeline", name="largest")
    assert [result["name"] for result in report["results"]] == ["things"]
    assert report["pipeline"]["steps"][0]["name"] == "everything"


@pytest.mark.parametrize(
    ("api_name", "values", "said"),
    [
        ("/click", {"points": [[400, 10]]}, "outside the image"),
        ("/click", {"points": "here"}, "points must be"),
        ("/box", {"boxes": [[30, 30, 10, 10]]}, "x2 must exceed x1"),
        ("/text", {"phrases": []}, "write what to look for"),
        ("/pipeline", {"name": "../../etc/passwd"}, "unknown pipeline"),
        ("/proposals", {"limit": 5000}, "limit must be 1 to 1000"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    ask: Any, api_name: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(AppError, match=said):
        ask(api_name, **values)


def test_a_file_that_is_no_photo(client: Client, tmp_path: Path) -> None:
    bad = tmp_path / "notes.png"
    bad.write_text("not a picture")
    with pytest.raises(AppError, match=r"notes\.png: no image format that we know"):
        client.predict(photo=handle_file(bad), points=[[1, 1]], api_name="/click")


def test_a_text_hint_by_two_numbers(ask: Any) -> None:
    report, *_ = ask("/text", phrases="disc", hint_point=CENTRE, threshold=0.1)
    request = report["results"][0]["request"]
    assert request["phrases"] == ["disc"] and request["hint_point"] == CENTRE
    assert len(report["results"][0]["annotations"]) == 1
