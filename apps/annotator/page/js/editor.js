// What people do to the masks of the photo on the screen.

import { draftOf, Drafts, newDraft } from "./draft.js";
import * as panel from "./panel.js";
import * as rle from "./rle.js";
import { accepted, EMPTY, find, listed, removed, replaced, Store, toDocument } from "./store.js";

const crops = new WeakMap();
const MOST_POINTS = 50;

export function cropOf(mask) {
  if (!crops.has(mask)) crops.set(mask, rle.decode(mask.segmentation));
  return crops.get(mask);
}

export class Editor {
  /** @param view the View; onChange is called with the document whenever there may be something to save. */
  constructor(view, onChange) {
    this.view = view;
    this.onChange = onChange;
    this.store = new Store();
    this.drafts = new Drafts();
    this.decoder = null;
    this.photo = null; // { width, height }
    this.tool = "click";
    this.radius = 12;
    this.cross = null;
    this.corner = null; // of a box made with the keyboard
    this.hidden = false;
    this.name = ""; // for the next mask
    this.locked = true;
    this.asked = new WeakMap(); // drafts that the decoder is at, and the promise of each
    this.store.listeners.push(() => this.refresh());
  }

  get value() {
    return this.store.value;
  }

  /** Another photo, its document, or none. */
  open(photo, document) {
    this.photo = photo;
    this.drafts = new Drafts();
    this.drafts.decoder = this.decoder;
    this.drafts.size = photo;
    this.drafts.boxMargin = this.boxMargin ?? null;
    this.cross = this.corner = null;
    this.view.setLive({ hover: null, cross: null, brush: null, stroke: null });
    this.locked = !document;
    this.store.reset({ ...EMPTY, ...(document ?? {}) });
  }

  // ---- the mask in the making ----

  /** A click on the object (label 1) or the background (0). */
  click(x, y, label) {
    if (!this.inside(x, y) || !this.able()) return;
    let { draft } = this.value;
    const chosen = this.selected();
    if (!draft && label === 0 && !chosen) return panel.say("Click on the object first, then on what does not belong to it.");
    draft ??= chosen && label === 0 ? draftOf(chosen) : newDraft(this.name);
    if (draft.points.length >= MOST_POINTS) return panel.banner(`One mask takes ${MOST_POINTS} clicks: use the brush for the rest.`);
    this.view.setLive({ hover: null });
    this.decoder?.stopLooking();
    this.make(this.drafts.withPoint(draft, x, y, label));
  }

  async box(from, to, done) {
    if (!from || !this.photo) return this.view.setLive({ box: this.value.draft?.box ?? null });
    const box = [...ordered(from[0], to[0], this.photo.width), ...ordered(from[1], to[1], this.photo.height)];
    const [x1, x2, y1, y2] = box;
    const corners = [x1, y1, x2, y2];
    this.view.setLive({ box: corners });
    if (!done) return;
    if (x2 - x1 < 2 || y2 - y1 < 2 || !this.able()) return this.view.setLive({ box: this.value.draft?.box ?? null });
    const { draft } = this.value;
    if (draft && !draft.old) return this.make(this.drafts.withBox(draft, corners));
    if (await this.settled()) this.make(this.drafts.withBox(newDraft(this.name), corners));
  }

  /** A stroke of the brush or the eraser; points null to drop it. */
  stroke(points, done, erase = this.tool === "eraser") {
    const stroke = points && { points, radius: this.radius, erase };
    const [x, y] = points?.at(-1) ?? [0, 0];
    this.view.setLive({ stroke: done ? null : stroke, brush: points && { x, y, radius: this.radius, erase } });
    if (!done || !points || !this.able()) return;
    let { draft } = this.value;
    if (!draft) {
      const mask = this.selected() ?? (erase ? this.under(...points[0]) : null);
      if (!mask && erase) return panel.say("There is nothing to erase here.");
      draft = mask ? draftOf(mask) : newDraft(this.name);
    }
    const thin = points.filter(([px, py], i) => !i || Math.hypot(px - points[i - 1][0], py - points[i - 1][1]) > 0.2);
    this.make(this.drafts.withStroke(draft, { ...stroke, points: thin }));
  }

  choose(number) {
    const { draft } = this.value;
    if (draft && this.drafts.choices(draft)) this.make(this.drafts.withChoice(draft, number));
  }

  /** The next draft: `refresh` asks for its mask. */
  make(draft) {
    panel.banner("");
    this.store.step({ draft, selected: null });
  }

  /** Ask for a draft's mask, once; resolves when it is shown, or it has been told why there is none. */
  answer(draft) {
    if (!draft || !this.drafts.waits(draft)) return;
    if (!this.asked.has(draft)) this.asked.set(draft, this.ask(draft).finally(() => this.asked.delete(draft)));
    return this.asked.get(draft);
  }

  async ask(draft) {
    try {
      await this.drafts.answer(draft);
    } catch (error) {
      if (draft === this.value.draft) panel.banner(`No mask: ${error.message}`);
      return;
    }
    if (draft === this.value.draft) this.refresh();
  }

  // ---- decisions ----

  async accept() {
    const { draft } = this.value;
    if (!draft) return this.acceptMask(this.value.selected);
    await this.answer(draft);
    if (draft !== this.value.draft) return;
    if (this.drafts.erased(draft)) {
      this.settle();
      return panel.say("Nothing is left of the mask: it is removed. Undo brings it back.");
    }
    const record = this.drafts.record(draft);
    if (!record) return panel.say("There is no mask to accept yet.");
    const value = draft.old ? { ...this.value, ...replaced(this.value, record) } : this.value;
    const changes = draft.old ? accepted(value, draft.uid) ?? value : { annotations: [...value.annotations, record] };
    const { annotations, proposed = value.proposed, selected = null } = changes;
    this.leave(); // what the pointer rests on is this very mask
    this.store.step({ annotations, proposed, draft: null, selected });
    panel.say(`Accepted: ${record.label ?? "mask without a name"}. ${annotations.length} masks.`);
  }

  acceptMask(uid) {
    const changes = uid && accepted(this.value, uid);
    if (!changes) return panel.say("Nothing is waiting to be accepted.");
    this.store.step(changes);
    panel.say(`Accepted. ${changes.proposed.length} proposed masks left.`);
  }

  async acceptAll() {
    if (!(await this.settled())) return;
    const { annotations, proposed } = this.value;
    if (!proposed.length) return;
    const kept = proposed.map((mask) => ({ ...mask, draft: false }));
    this.store.step({ annotations: [...annotations, ...kept], proposed: [], selected: null });
    panel.say(`Accepted ${kept.length} masks.`);
  }

  reject(uid = this.value.selected) {
    if (this.value.draft) return this.drop();
    if (!uid || !find(this.value, uid)) return;
    this.store.step(removed(this.value, uid));
    panel.say("Rejected. Undo brings it back.");
  }

  /** Drop what is being made, or else the selection. */
  escape() {
    this.corner = null;
    if (this.value.draft) this.drop();
    else this.store.look({ selected: null });
  }

  drop() {
    const { old } = this.value.draft;
    this.store.step({ draft: null });
    panel.say(old ? "The changes are dropped." : "Dropped.");
  }

  async select(uid) {
    if (await this.settled()) this.show(uid);
  }

  show(uid) {
    const mask = find(this.value, uid), crop = mask && cropOf(mask);
    this.store.look({ selected: mask?.uid ?? null });
    if (crop) this.view.reveal(crop.x + crop.width / 2, crop.y + crop.height / 2);
  }

  async walk(step) {
    const { draft } = this.value; // a new one is kept, and is not among those to walk through
    if (!listed(this.value).length || !(await this.settled())) return;
    const masks = listed(this.value).filter((mask) => !draft || draft.old || mask.uid !== draft.uid);
    if (!masks.length) return;
    const index = masks.findIndex((mask) => mask.uid === this.value.selected);
    const next = masks[index < 0 ? (step > 0 ? 0 : masks.length - 1) : (index + step + masks.length) % masks.length];
    this.show(next.uid);
    panel.say(`${next.label ?? "no name"}, ${masks.indexOf(next) + 1} of ${masks.length}`);
  }

  async edit(uid = this.value.selected) {
    if (!(await this.settled())) return;
    const mask = find(this.value, uid);
    if (mask) this.store.step({ draft: draftOf(mask), selected: null });
  }

  pick(x, y, change = false) {
    const mask = this.under(x, y);
    if (mask && change) this.edit(mask.uid);
    else this.select(mask?.uid ?? null);
  }

  /** A name for what is being made or selected, and for what comes next. */
  label(text) {
    this.name = text.trim();
    const { draft } = this.value, mask = this.selected();
    if (draft) this.store.step({ draft: this.drafts.withLabel(draft, this.name) });
    else if (mask && (mask.label ?? "") !== this.name) {
      this.store.step(replaced(this.value, { ...mask, label: this.name || null }));
    }
  }

  propose(records) {
    const masks = records.map((record) => ({ box: null, draft: false, ...record }));
    this.store.step({ proposed: [...this.value.proposed, ...masks], selected: masks[0]?.uid ?? null });
  }

  /** Settle when the decoder has answered, so that no click is lost; false if another photo was opened meanwhile. */
  async settled() {
    const { photo } = this;
    for (let draft = null; draft !== this.value.draft; ) { // which changes while it is waited for
      ({ draft } = this.value);
      await this.answer(draft);
      if (photo !== this.photo) return false;
    }
    this.settle();
    return true;
  }

  /** Keep a mask in the making where it belongs, as far as it is answered, so that something else can be done. */
  settle() {
    const { draft } = this.value;
    if (!draft) return;
    const document = this.document();
    this.store.step({ ...document, draft: null });
  }

  document() {
    const { value, drafts } = this, { draft } = value;
    if (!draft) return toDocument(value, null);
    return toDocument(value, drafts.record(draft), drafts.erased(draft) ? draft.uid : null);
  }

  // ---- looking ----

  hover(x, y) {
    this.hideCross();
    const paints = this.tool === "brush" || this.tool === "eraser";
    this.view.setLive({ brush: paints ? { x, y, radius: this.radius, erase: this.tool === "eraser" } : null });
    if (this.tool === "click") this.look(x, y);
  }

  look(x, y) {
    if (!this.inside(x, y) || !this.decoder?.geometry || this.locked) return this.leave();
    const draft = this.value.draft ?? newDraft("");
    const { photo } = this;
    this.decoder.look(this.drafts.prompt(draft, [x, y, 1]), (answer) => {
      if (photo === this.photo) this.view.setLive({ hover: answer.crop && { crop: answer.crop, scale: answer.scale } });
    });
  }

  leave() {
    this.decoder?.stopLooking();
    this.view.setLive({ hover: null, brush: null });
  }

  hideCross() {
    if (this.view.live.cross) this.view.setLive({ cross: null });
  }

  moveCross(dx, dy) {
    if (!this.photo) return;
    const { width, height } = this.photo;
    const [x, y] = this.cross ?? [width / 2, height / 2];
    const step = this.cross ? Math.max(1, Math.round(4 / this.view.zoom)) : 0;
    this.cross = [Math.min(width - 0.5, Math.max(0.5, x + dx * step)), Math.min(height - 0.5, Math.max(0.5, y + dy * step))];
    this.view.setLive({ cross: this.cross });
    this.view.reveal(...this.cross);
    if (this.tool === "click") this.look(...this.cross);
    if (this.corner) this.box(this.corner, this.cross, false);
  }

  /** What Space does: the tool's action at the cross. */
  clickCross(label) {
    if (!this.cross || !this.view.live.cross) return this.moveCross(0, 0);
    if (this.tool === "select") return this.pick(...this.cross);
    if (this.tool === "brush" || this.tool === "eraser") return this.stroke([this.cross], true);
    if (this.tool === "click") return this.click(...this.cross, label);
    if (this.corner) this.box(this.corner, this.cross, true);
    this.corner = this.corner ? null : this.cross;
    panel.say(this.corner ? "First corner. Move the cross and press Space again." : "Box made.");
  }

  refresh() {
    const { value, drafts } = this, { draft } = value;
    const crop = draft && !this.hidden ? drafts.mask(draft) : null;
    const shown = this.hidden ? [] : listed(value).filter((mask) => !(draft?.old && mask.uid === draft.uid));
    const style = (mask) => (mask.uid === value.selected ? "selected" : value.proposed.includes(mask) ? "proposed" : "kept");
    this.view.setMasks(
      shown.map((mask) => ({ crop: cropOf(mask), colour: panel.colour(mask), style: style(mask) })).filter((m) => m.crop)
        .sort((a, b) => (a.style === "selected") - (b.style === "selected")),
    );
    this.view.setLive({ draft: crop, points: draft?.points ?? [], box: draft?.box ?? null });
    panel.showChoices(drafts.choices(draft));
    this.answer(draft); // of a prompt just made, or come back to by undo
    this.onChange(value);
  }

  // ---- small questions ----

  selected() {
    return this.value.selected ? find(this.value, this.value.selected) : null;
  }

  inside(x, y) {
    return this.photo !== null && x >= 0 && y >= 0 && x < this.photo.width && y < this.photo.height;
  }

  /** The smallest mask at a pixel. */
  under(x, y) {
    const hit = listed(this.value).filter((mask) => cropOf(mask) && rle.has(cropOf(mask), x, y));
    return hit.sort((a, b) => rle.area(cropOf(a)) - rle.area(cropOf(b)))[0] ?? null;
  }

  able() {
    if (this.locked) panel.say("This photo cannot be changed now.");
    return !this.locked;
  }
}

function ordered(a, b, most) {
  const clip = (v) => Math.min(most, Math.max(0, v));
  return [Math.min(clip(a), clip(b)), Math.max(clip(a), clip(b))];
}
