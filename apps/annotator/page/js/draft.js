// The mask in the making: prompts, what the decoder answered to them, and strokes over it.
//
// A draft is a value that never changes: { uid, old, points, box, choice, prior, base, strokes, label, source }.
// `old` is whether it is a mask of the list that is being changed; `prior` is { id, logits } of the answer before,
// which goes into the next one (the paper's protocol), `logits` being a function that promises them;
// `base` is a mask that was there before any prompt.
// What the decoder answers is kept beside it, so that undo need not ask again.

import { withStrokes } from "./brush.js";
import { once } from "./decoder.js";
import * as rle from "./rle.js";
import { newUid } from "./store.js";
import { logitsOf } from "./upsample.js";

let priors = 0;

export function newDraft(label) {
  return {
    uid: newUid(), old: false, points: [], box: null, choice: null, prior: null, base: null, strokes: [], label,
    source: null,
  };
}

/** A mask of the list, to be changed. */
export function draftOf(mask) {
  return {
    ...newDraft(mask.label), uid: mask.uid, old: true, base: mask, source: mask.source,
    points: mask.point_coords.map(([x, y], i) => [x, y, mask.point_labels[i]]), box: mask.box, kept: true,
  };
}

export class Drafts {
  constructor() {
    this.decoder = null;
    this.answers = new WeakMap();
    this.masks = new WeakMap();
    this.priors = new WeakMap();
    this.size = null;
    this.boxMargin = null;
  }

  /** Another click: the answer so far goes into the next. */
  withPoint(draft, x, y, label) {
    const prior = this.priorOf(draft);
    return { ...draft, points: [...draft.points, [x, y, label]], prior, choice: null, kept: false,
      source: draft.source ?? "clicks" };
  }

  withBox(draft, box) {
    return { ...draft, box, prior: null, choice: null, kept: false, source: draft.source ?? "box" };
  }

  withStroke(draft, stroke) {
    const next = { ...draft, strokes: [...draft.strokes, stroke], source: draft.source ?? "brush" };
    if (this.answers.has(draft)) this.answers.set(next, this.answers.get(draft));
    return next;
  }

  withLabel(draft, label) {
    const next = { ...draft, label };
    if (this.answers.has(draft)) this.answers.set(next, this.answers.get(draft));
    if (this.masks.has(draft)) this.masks.set(next, this.masks.get(draft));
    return next;
  }

  withChoice(draft, choice) {
    const next = { ...draft, choice };
    const answer = this.answers.get(draft);
    if (answer) this.answers.set(next, { ...answer, token: 1 + choice, drawn: null });
    return next;
  }

  /** What goes with the next prompt, to look at it before it is made. */
  prompt(draft, point) {
    const prior = this.priorOf(draft);
    return { points: [...draft.points, point], box: draft.box, prior: prior?.logits ?? null, priorId: prior?.id };
  }

  priorOf(draft) {
    const answer = this.answers.get(draft);
    const geometry = this.decoder?.geometry;
    const from = answer ?? draft.base;
    if (!from || !geometry) return draft.prior;
    if (!this.priors.has(from)) {
      const made = answer
        ? () => chosen(answer, geometry)
        : () => logitsOf(rle.decode(draft.base.segmentation), geometry);
      this.priors.set(from, { id: ++priors, logits: once(made) });
    }
    return this.priors.get(from);
  }

  /** Whether the decoder has yet to say what the mask is. */
  waits(draft) {
    return !draft.kept && Boolean(draft.points.length || draft.box) && !this.answers.get(draft)?.drawn;
  }

  /** Ask the decoder, where that has not been done. Throws what went wrong. */
  async answer(draft) {
    if (!this.waits(draft)) return;
    let answer = this.answers.get(draft);
    if (!answer) {
      if (!this.decoder?.geometry) throw new Error("the decoder is not ready yet");
      answer = await this.decoder.decode({
        points: draft.points, box: draft.box, prior: draft.prior?.logits ?? null, priorId: draft.prior?.id,
        quick: false,
      });
      answer.drawn = { crop: answer.crop, stability: answer.stability };
      if (draft.choice !== null) answer = { ...answer, token: 1 + draft.choice, drawn: null };
      this.answers.set(draft, answer);
    }
    if (!answer.drawn) {
      const { photo, geometry } = this.decoder;
      answer.drawn = await this.decoder.ask("draw", { logits: await chosen(answer, geometry), photo });
      this.masks.delete(draft);
    }
  }

  /** The mask as it is now: a crop, or null while there is none. */
  mask(draft) {
    if (this.masks.has(draft)) return this.masks.get(draft);
    if (this.waits(draft)) return null;
    const { width, height } = this.size;
    const mask = rle.tightened(withStrokes(this.unpainted(draft), draft.strokes, width, height));
    this.masks.set(draft, mask);
    return mask;
  }

  /** What the strokes go over. */
  unpainted(draft) {
    const answer = this.answers.get(draft);
    if (answer?.drawn) return this.inBox(draft, answer.drawn.crop);
    return draft.base && rle.decode(draft.base.segmentation);
  }

  /** Whether strokes have taken all of a mask of the list. One that the decoder finds nothing of stays as it was. */
  erased(draft) {
    return draft.old && !this.waits(draft) && !this.mask(draft) && rle.tightened(this.unpainted(draft)) !== null;
  }

  /** Of some weights the masks spill out of boxes; the preset says how far they may. */
  inBox(draft, crop) {
    if (!crop || !draft.box || draft.points.length || this.boxMargin === null) return crop;
    const [x1, y1, x2, y2] = draft.box, mx = this.boxMargin * (x2 - x1), my = this.boxMargin * (y2 - y1);
    const x = Math.max(0, Math.floor(x1 - mx)), y = Math.max(0, Math.floor(y1 - my));
    const right = Math.min(this.size.width, Math.ceil(x2 + mx)), bottom = Math.min(this.size.height, Math.ceil(y2 + my));
    return rle.cut(crop, { x, y, width: right - x, height: bottom - y });
  }

  /** The draft as a record for the list; null while it has no pixel. */
  record(draft) {
    const mask = this.mask(draft);
    if (!mask) return null;
    const answer = this.answers.get(draft);
    return {
      uid: draft.uid,
      segmentation: rle.encode(mask, this.size.height, this.size.width),
      label: draft.label || null,
      source: draft.source ?? "clicks",
      predicted_iou: answer ? answer.iou[answer.token] : draft.base?.predicted_iou ?? null,
      stability_score: answer?.drawn ? answer.drawn.stability : draft.base?.stability_score ?? null,
      point_coords: draft.points.map(([x, y]) => [x, y]),
      point_labels: draft.points.map(([, , label]) => label),
      box: draft.box,
      draft: false,
    };
  }

  /** How good the decoder thinks each of the three masks is, where one click may mean three things. */
  choices(draft) {
    const answer = draft && this.answers.get(draft);
    if (!answer?.single) return null;
    return { scores: answer.iou.slice(1), chosen: answer.token - 1 };
  }
}

async function chosen(answer, { low }) {
  const size = low[0] * low[1];
  return (await answer.logits()).slice(answer.token * size, (answer.token + 1) * size);
}
