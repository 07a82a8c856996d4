"""What 8-bit weights cost: mean IoU of `tiny` on photos that it was not trained on, by the eval protocols.

    python benchmarks/onnx_int8.py [--limit-images N] [--json FILE]

The same photos, clicks and boxes in PyTorch, in onnxruntime with the exported graphs, and with their 8-bit
forms (each part alone, too). Photos are of ../shared/data. Needs the extra `onnx`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from _shared import ROOT, unpacked
from torch import Tensor

from composer import Composer
from composer.evaluation.ground_truth import GroundTruth, open_panoptic
from composer.evaluation.scoring import MaskFilter, evaluate_boxes, evaluate_points
from composer.onnx_export import export_onnx
from sam.embedding import Embedding
from sam.onnx_files import OnnxEncoder, OnnxSession
from sam.prompts import Prompts

PHOTOS = {"coco-train100": 20, "panoptic-duts-3": 60}
"""Sets, and how many of their photos, from the first, were kept out of training."""
WHICH = MaskFilter(min_area=100, max_per_image=8)
CLICKS = (1, 3)
COLUMNS = (("float32", "float32"), ("int8", "float32"), ("float32", "int8"), ("int8", "int8"))


class Answer:
    """The decoder's answer as :class:`sam.model.Candidates` gives it."""

    def __init__(self, found: dict[str, Tensor], columns: slice) -> None:
        self.iou_predictions = found["iou_predictions"][:, columns]
        self._masks = found["low_res_masks"][:, columns]

    def __len__(self) -> int:
        return len(self.iou_predictions)

    def low_res_logits(self, index: Tensor | None = None, *, window: tuple[int, int] | None = None) -> Tensor:
        masks = self._masks.flatten(0, 1) if index is None else self._masks[index[:, 0], index[:, 1]]
        return masks if window is None else masks[..., : 4 * window[0], : 4 * window[1]]


class OnnxDecoder:
    """Takes the place of :meth:`sam.model.SegmentAnything.decode`."""

    def __init__(self, session: OnnxSession) -> None:
        self.session = session

    def __call__(self, embedding: Embedding, prompts: Prompts, *, multimask: bool) -> Answer:
        inputs = dict(zip(self.session.inputs, (embedding.features, *named(embedding, prompts)), strict=True))
        return Answer(self.session.run(inputs), slice(1, 4) if multimask else slice(0, 1))


def named(embedding: Embedding, prompts: Prompts) -> list[Tensor]:
    """Inputs of the exported decoder after the embedding, in order."""
    height, width = embedding.original_size
    scale = torch.tensor([embedding.input_size[1] / width, embedding.input_size[0] / height])
    count, (rows, columns) = len(prompts), embedding.features.shape[-2:]
    points, labels = torch.zeros(count, 0, 2), torch.zeros(count, 0)
    if prompts.points is not None and prompts.labels is not None:
        points, labels = prompts.points.float(), prompts.labels.float()
        if prompts.boxes is None:
            points = torch.cat([points, torch.zeros(count, 1, 2)], 1)
            labels = torch.cat([labels, -torch.ones(count, 1)], 1)
    if prompts.boxes is not None:
        points = torch.cat([points, prompts.boxes.float().view(-1, 2, 2)], 1)
        labels = torch.cat([labels, torch.tensor([2.0, 3.0]).expand(count, 2)], 1)
    masks = prompts.mask_logits
    given = torch.full((count,), float(masks is not None))
    if masks is None:
        masks = torch.zeros(count, 4 * rows, 4 * columns)
    return [points * scale, labels, masks[:, None], given, *embedding.high_res_features]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit-images", type=int)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/onnx_int8.json")
    options = parser.parse_args()
    torch.set_num_threads(2)
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        columns = composers(Path(name))
        for source, held_out in PHOTOS.items():
            truth = labelled(source)
            if truth is None:
                print(f"{source}: not here, left out")
                continue
            truth = truth.limited(min(held_out, options.limit_images or held_out))
            for column, composer in columns.items():
                rows[f"{source}, {column}"] = row = scores(composer, truth)
                print(f"{source:<17}{column:<34}", json.dumps(row), flush=True)
    options.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")
    print(f"written to {options.json}")


def composers(folder: Path) -> dict[str, Composer]:
    """`tiny` in PyTorch, and with its parts in onnxruntime."""
    sessions: dict[tuple[str, str], OnnxSession] = {}
    plain = Composer.load("tiny", device="cpu", precision="fp32")
    for form in ("float32", "int8"):
        for file in export_onnx(plain, folder / form, int8=form == "int8", check=False):
            sessions[file.part, form] = OnnxSession(file.path)
    found = {"PyTorch": plain}
    for encoder, decoder in COLUMNS:
        composer = Composer.load("tiny", device="cpu", precision="fp32")
        composer.model.encode_by(OnnxEncoder(sessions["encoder", encoder]), keep=False)
        composer.model.decode = OnnxDecoder(sessions["decoder", decoder])  # type: ignore[assignment]
        found[f"encoder {encoder}, decoder {decoder}"] = composer
    return found


def labelled(name: str) -> GroundTruth | None:
    """The set of this name, if it is here."""
    folder = unpacked(name)
    if folder is None:
        return None
    return open_panoptic(next(path for path in folder.iterdir() if path.is_dir()))


def scores(composer: Composer, truth: GroundTruth) -> dict[str, float]:
    """Mean IoU in percent."""
    points = evaluate_points(composer.open, truth, CLICKS, WHICH)
    boxes = evaluate_boxes(composer.open, truth, WHICH)
    means = {f"clicks_{count}": mean for count, mean in points.miou.items()}
    means |= {"oracle_1": points.oracle[1], "box": boxes.miou[1]}
    return {name: round(100 * mean, 2) for name, mean in means.items()}


if __name__ == "__main__":
    main()
