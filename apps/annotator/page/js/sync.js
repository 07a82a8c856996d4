// Saving as you work. What somebody else has saved in the meantime is never overwritten.

import * as api from "./api.js";
import { merged } from "./store.js";

const DELAY = 400; // milliseconds without a change
const AGAIN = 3000; // after the server could not be reached, or could not say what it has

export class Sync {
  /**
   * @param report called with "saved" | "saving" | "unsaved" | "conflict" | "error" and a message.
   * @param onConflict called with { mine, theirs, revision, base }; see `settle`.
   */
  constructor(report, onConflict) {
    this.report = report;
    this.onConflict = onConflict;
    this.close();
  }

  /** A photo was opened. */
  open(project, key, document, revision) {
    this.close();
    this.place = { project, key };
    this.base = document;
    this.revision = revision;
    this.report("saved", revision === "new" ? "Nothing to save yet" : "Saved");
  }

  close() {
    clearTimeout(this.timer);
    this.place = null;
    this.wanted = null;
    this.conflict = false;
  }

  /** Save `document` soon. */
  want(document) {
    if (!this.place || JSON.stringify(document) === JSON.stringify(this.wanted ?? this.base)) return;
    this.wanted = document;
    if (this.conflict) return;
    this.report("unsaved", "Not saved yet");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), DELAY);
  }

  get pending() {
    return Boolean(this.wanted || this.underWay);
  }

  /** Save now, and wait for it; true if everything is saved. */
  async flush() {
    clearTimeout(this.timer);
    while (this.underWay) await this.underWay;
    if (!this.wanted) return true;
    if (this.conflict) return false;
    this.underWay = this.save();
    try {
      return await this.underWay;
    } finally {
      this.underWay = null;
      if (this.wanted && !this.conflict && !this.failed) this.timer = setTimeout(() => this.flush(), DELAY);
    }
  }

  async save() {
    const { place, wanted } = this;
    this.wanted = null;
    this.failed = false;
    this.report("saving", "Saving…");
    try {
      const revision = await api.save(place.project, place.key, wanted, this.revision);
      if (place !== this.place) return true;
      this.revision = revision;
      this.base = wanted;
      if (this.wanted) this.report("unsaved", "Not saved yet"); // changed again meanwhile
      else this.report("saved", "Saved");
      return true;
    } catch (error) {
      if (place !== this.place) return false;
      this.wanted ??= wanted;
      this.failed = true;
      if (error.status === 409) await this.meet();
      else this.missed(error, error.status === 0);
      return false;
    }
  }

  missed(error, again) {
    this.report("error", `Not saved: ${error.message}`);
    if (!again) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), AGAIN);
  }

  async meet() {
    const { place } = this;
    this.conflict = true;
    this.report("conflict", "Not saved: saved from elsewhere too");
    try {
      const { document, revision } = await api.document(place.project, place.key);
      if (place === this.place) this.onConflict({ theirs: plain(document), revision });
    } catch (error) {
      if (place !== this.place) return;
      this.conflict = false; // nobody could be asked: the next save meets the other version again
      this.missed(error, true);
    }
  }

  /** Both sides' masks together, of what is here now. */
  mergeWith(theirs) {
    return merged(this.base, this.wanted ?? this.base, theirs);
  }

  /** The conflict is over: `theirs` is what both have now; `document`, if it differs, is saved on top of it. */
  settle(theirs, revision, document) {
    this.base = theirs;
    this.revision = revision;
    this.wanted = null;
    this.conflict = false;
    this.want(document);
    if (!this.wanted) this.report("saved", "Saved");
  }
}

/** The parts of the server's answer that are saved again. */
export function plain({ annotations, proposed, state }) {
  return { annotations, proposed, state };
}
