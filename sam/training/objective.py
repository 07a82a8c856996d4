"""What a training step minimises: canvases in, losses out, by a simulated interaction (App. A)."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from sam.image_encoder import EncoderOutput
from sam.image_encoder.compact import CompactEncoder
from sam.model import PIXEL_MEAN, PIXEL_STD, SegmentAnything
from sam.training.batch import Batch
from sam.training.config import TrainingConfig
from sam.training.interactive import Dice, Round, first_box, first_point, first_text, next_round, plan_rounds
from sam.training.losses import AFFINITY_OFFSETS, affinity_loss, edge_loss, prompt_loss
from sam.training.teacher import Seen, Teacher, decode_all, embedding_loss, teaching_loss

TARGET_STRIDE = 4
POINT, BOX, TEXT = range(3)


class Objective(nn.Module):
    """A segmenter, the heads that it is trained with and not released, and its losses.

    Args:
        model: to be trained.
        config: weights of the losses, rounds, what is frozen.
        teacher: for ``config.distill``, or None.

    Attributes:
        affinity_head: of compact encoders that are trained; else None.
        projection: brings the embedding to the width of the teacher's; None where it has that width.
    """

    def __init__(
        self, model: SegmentAnything, config: TrainingConfig, teacher: Teacher | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.affinity_head: nn.Conv2d | None = None
        self.projection: nn.Conv2d | None = None
        encoder = model.image_encoder
        if config.freeze_encoder:
            encoder.requires_grad_(False)
        elif isinstance(encoder, CompactEncoder):
            self.affinity_head = nn.Conv2d(encoder.config.neck_chans, len(AFFINITY_OFFSETS), 1)
        # In a tuple, so that its parameters are not trained, averaged or saved.
        self._teacher: tuple[Teacher, ...] = () if teacher is None else (teacher,)
        if teacher is not None and config.distill is not None and config.distill.embedding:
            widths = (model.prompt_encoder.embed_dim, teacher.model.prompt_encoder.embed_dim)
            self.projection = None if widths[0] == widths[1] else nn.Conv2d(*widths, 1)
        self.to(model.device)

    def train(self, mode: bool = True) -> Objective:
        """Set training or evaluation mode; a frozen encoder stays as at inference."""
        super().train(mode)
        if self.config.freeze_encoder:
            self.model.image_encoder.eval()
        return self

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """The weighted losses by name, scalars.

        Args:
            batch: canvases, wherever they are.
            seed: of everything that is drawn here: prompts, and what stochastic depth leaves out.
        """
        torch.manual_seed(seed)
        dice = Dice(seed, self.model.device)
        # Which masks begin with a text is decided on the host, where the batch comes from.
        begun = self._beginnings(batch, dice.host)
        batch = batch.to(self.model.device)
        pixels = normalise(batch.pixels)
        encoded, stride8 = self._encode(pixels)
        seen = self._teacher[0].look(pixels) if self._teacher else None
        losses = self._prompt_rounds(encoded, seen, batch, begun, dice)
        return {**losses, **self._dense_losses(batch, encoded, stride8, seen)}

    def _encode(self, pixels: Tensor) -> tuple[EncoderOutput, Tensor | None]:
        """What the encoder gives, and a compact one's map at stride 8."""
        encoder = self.model.image_encoder
        if self.config.freeze_encoder:
            with torch.no_grad():
                frozen: EncoderOutput = encoder(pixels)
            return frozen, None
        if isinstance(encoder, CompactEncoder):
            encoded, stride8, _ = encoder.pyramid(pixels)
            return encoded, stride8
        return encoder(pixels), None

    def _dense_losses(
        self,
        batch: Batch,
        encoded: EncoderOutput,
        stride8: Tensor | None,
        seen: Seen | None,
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        weights, distill = self.config.losses, self.config.distill
        ids = batch.ids.long()
        if weights.edge and encoded.edge_logits is not None and stride8 is not None:
            losses["edge"] = weights.edge * edge_loss(encoded.edge_logits.float(), ids)
        if weights.affinity and self.affinity_head is not None and stride8 is not None:
            losses["affinity"] = weights.affinity * affinity_loss(
                self.affinity_head(stride8).float(), ids[:, ::2, ::2]
            )
        if seen is not None and distill is not None and distill.embedding:
            own = encoded.image_embedding
            projected = own if self.projection is None else self.projection(own)
            # A copy, because autograd keeps nothing that inference mode made.
            losses["embedding"] = distill.embedding * embedding_loss(projected, seen.image_embedding.clone())
        return losses

    def _beginnings(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """What each of the batch's masks (B * K,) is first asked for by."""
        count = batch.targets.shape[0] * batch.targets.shape[1]
        # As many boxes in all steps, so that these differ less; what is left of a whole number is decided by
        # chance.
        exact = torch.tensor(self.config.box_share * count)
        boxes = int((exact + torch.rand((), generator=generator) * (exact % 1 > 0)).floor())
        begun = torch.full((count,), POINT)
        begun[torch.randperm(count, generator=generator)[:boxes]] = BOX
        if batch.texts is not None and self.config.text is not None:
            by_text = torch.rand(count, generator=generator) < self.config.text.share
            begun[by_text & ~batch.texts.flatten(0, 1)[:, 0].isnan().cpu()] = TEXT
        return begun

    def _prompt_rounds(
        self, encoded: EncoderOutput, seen: Seen | None, batch: Batch, begun: Tensor, dice: Dice
    ) -> dict[str, Tensor]:
        """Mean losses over the masks (B * K, h, w), each begun as ``begun`` (B * K,) says.

        Texts are decoded apart because they have other numbers of tokens, and padding one to fit the other
        would train on token sets that inference never sees.
        """
        device = encoded.image_embedding.device
        targets = batch.targets.flatten(0, 1)
        names = ("prompts", "teacher") if seen is not None and self._masks_are_taught else ("prompts",)
        totals = {name: torch.zeros((), device=device) for name in names}
        for kinds in ((POINT, BOX), (TEXT,)):
            parts, prompts = [], []
            for kind in kinds:
                rows = (begun == kind).nonzero()[:, 0].to(device, non_blocking=True)
                if len(rows):
                    parts.append(rows)
                    prompts.append(self._begin(kind, batch, rows, dice.device))
            if not parts:
                continue
            rows, prompt = torch.cat(parts), functools.reduce(Round.beside, prompts)
            images = rows // batch.targets.shape[1]
            found = self._interact(encoded, seen, images, targets[rows].float(), prompt, dice)
            for name in names:
                if name in found:
                    totals[name] = totals[name] + found[name] * len(rows) / len(begun)
        return totals

    def _begin(self, kind: int, batch: Batch, rows: Tensor, generator: torch.Generator) -> Round:
        """The first prompts of the batch's masks ``rows``, all of one kind."""
        if kind == TEXT:
            assert batch.texts is not None
            return first_text(batch.texts.flatten(0, 1)[rows])
        targets = batch.targets.flatten(0, 1)[rows].float()
        if kind == BOX:
            return first_box(targets, TARGET_STRIDE, generator, self.config.box_noise)
        deepest = batch.deepest.flatten(0, 1)[rows]
        return first_point(targets, TARGET_STRIDE, generator, deepest, self.config.deepest_share)

    def _interact(
        self,
        encoded: EncoderOutput,
        seen: Seen | None,
        images: Tensor,
        targets: Tensor,
        prompt: Round,
        dice: Dice,
    ) -> dict[str, Tensor]:
        """All rounds of N masks on the canvases ``images`` (N,): the means of the rounds' losses."""
        features = encoded.image_embedding.index_select(0, images)
        decoder, size = self.model.mask_decoder, (features.shape[-2], features.shape[-1])
        # Of each image once, and then of each of its masks: the order of cells is what takes the time.
        quadrants = decoder.in_quadrants(encoded.high_res_features, size)
        quadrants = tuple(of_images.index_select(0, images) for of_images in quadrants)
        side = targets.shape[-1] * TARGET_STRIDE
        new_points = plan_rounds(self.config.rounds, self.config.vary_rounds, dice.host)
        previous: Tensor | None = None
        totals: dict[str, Tensor] = {}
        for brings_point in new_points:
            if previous is not None and brings_point:
                prompt = next_round(prompt, previous, targets, TARGET_STRIDE, dice.device)
            logits, iou = decode_all(self.model, features, quadrants, prompt, previous, side)
            losses = {
                "prompts": prompt_loss(logits, iou, targets, prompt.ambiguous, self.config.losses),
                **self._taught(seen, images, prompt, previous, logits, side),
            }
            totals = {name: totals[name] + loss if totals else loss for name, loss in losses.items()}
            ranked = iou[:, 1:].argmax(1) + 1 if prompt.ambiguous else torch.zeros_like(images)
            previous = logits.detach()[torch.arange(len(logits), device=logits.device), ranked].float()
        return {name: total / len(new_points) for name, total in totals.items()}

    def _taught(
        self,
        seen: Seen | None,
        images: Tensor,
        prompt: Round,
        previous: Tensor | None,
        logits: Tensor,
        side: int,
    ) -> dict[str, Tensor]:
        """The loss between the masks of teacher and student; none for a text, which the teacher knows not."""
        if seen is None or prompt.text is not None or not self._masks_are_taught:
            return {}
        distill = self.config.distill
        assert distill is not None
        answer = self._teacher[0].answer(seen, images, prompt, previous, side).clone()
        return {"teacher": distill.weight * teaching_loss(logits, answer, prompt.ambiguous)}

    @property
    def _masks_are_taught(self) -> bool:
        return bool(self._teacher) and self.config.distill is not None and self.config.distill.weight > 0


def normalise(pixels: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 canvases -> (B, 3, S, S) float32; black padding becomes zero, as at inference."""
    x = pixels.permute(0, 3, 1, 2).float()
    mean = torch.tensor(PIXEL_MEAN, device=x.device).view(3, 1, 1)
    std = torch.tensor(PIXEL_STD, device=x.device).view(3, 1, 1)
    padding = (pixels == 0).all(-1)[:, None]
    return ((x - mean) / std).masked_fill(padding, 0.0)
