// Two at one photo: the second to save is asked which masks stay.

import * as panel from "./panel.js";

const $ = (id) => document.getElementById(id);

export class Conflict {
  constructor(editor, sync) {
    this.editor = editor;
    this.sync = sync;
    this.met = null; // { theirs, revision } until the question is answered
  }

  begin(met) {
    this.met = met;
    this.ask();
  }

  /** Ask, again if need be; false where there is no question. */
  ask() {
    if (!this.met) return false;
    const { theirs } = this.met, { foreign } = this.sync.mergeWith(theirs);
    const count = ({ annotations, proposed }) => annotations.length + proposed.length;
    const changes = foreign === 1 ? "1 change of the other version is" : `${foreign} changes of the other version are`;
    const masks = count(theirs) === 1 ? "1 mask" : `${count(theirs)} masks`;
    $("conflict-text").textContent =
      `Another tab or person has saved it since you opened it, with ${masks}. ` +
      `You have ${count(this.editor.document())}; ${changes} not in yours.`;
    if (!$("conflict-dialog").open) $("conflict-dialog").showModal();
    return true;
  }

  async settle(keepBoth) {
    await this.editor.settled();
    if (!this.met) return; // the button was pressed twice
    const { editor, sync } = this, { theirs, revision } = this.met;
    sync.wanted = editor.document();
    const settled = keepBoth ? sync.mergeWith(theirs).document : theirs;
    this.met = null;
    sync.settle(theirs, revision, settled);
    editor.store.step({ ...settled, draft: null, selected: null });
    $("conflict-dialog").close();
    panel.say(keepBoth ? "The masks of both are kept." : "The other version is shown. Undo brings yours back.");
  }
}
