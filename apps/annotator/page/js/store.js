// What is known about the photo, as values that never change: every step makes a new one, so that undo is to take
// the one before. Masks are records as the server keeps them (see composer/projects/document.py).

export const EMPTY = Object.freeze({ annotations: [], proposed: [], state: "open", draft: null, selected: null });
const MOST_STEPS = 300;

export function newUid() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The present value, and the way back and forth. Listeners are called after every change. */
export class Store {
  constructor() {
    this.listeners = [];
    this.reset(EMPTY);
  }

  reset(value) {
    this.value = value;
    this.past = [];
    this.future = [];
    this.tell();
  }

  /** Go on to `changes`; the step can be undone. */
  step(changes) {
    this.past.push(this.value);
    if (this.past.length > MOST_STEPS) this.past.shift();
    this.future = [];
    this.value = { ...this.value, ...changes };
    this.tell();
  }

  /** Look at something else; not a step. */
  look(changes) {
    this.value = { ...this.value, ...changes };
    this.tell();
  }

  undo() {
    if (!this.past.length) return false;
    this.future.push(this.value);
    this.value = this.past.pop();
    this.tell();
    return true;
  }

  redo() {
    if (!this.future.length) return false;
    this.past.push(this.value);
    this.value = this.future.pop();
    this.tell();
    return true;
  }

  tell() {
    for (const listener of this.listeners) listener(this.value);
  }
}

export function find(value, uid) {
  return value.annotations.find((m) => m.uid === uid) ?? value.proposed.find((m) => m.uid === uid) ?? null;
}

/** All masks in the order of the list: proposed ones first, since they wait for a decision. */
export function listed(value) {
  return [...value.proposed, ...value.annotations];
}

const without = (masks, uid) => masks.filter((m) => m.uid !== uid);
const swapped = (masks, mask) => masks.map((m) => (m.uid === mask.uid ? mask : m));

/** The mask, wherever it is, replaced by another of the same uid. */
export function replaced(value, mask) {
  return { annotations: swapped(value.annotations, mask), proposed: swapped(value.proposed, mask) };
}

export function removed(value, uid) {
  return {
    annotations: without(value.annotations, uid),
    proposed: without(value.proposed, uid),
    selected: neighbour(value, uid),
  };
}

/** A proposed mask becomes an annotation; the next one waiting is selected. */
export function accepted(value, uid) {
  const mask = value.proposed.find((m) => m.uid === uid);
  if (!mask) return null;
  const index = value.proposed.indexOf(mask);
  const proposed = without(value.proposed, uid);
  const next = proposed[Math.min(index, proposed.length - 1)];
  return { annotations: [...value.annotations, { ...mask, draft: false }], proposed, selected: next?.uid ?? null };
}

function neighbour(value, uid) {
  const masks = listed(value);
  const index = masks.findIndex((m) => m.uid === uid);
  return (masks[index + 1] ?? masks[index - 1])?.uid ?? null;
}

/**
 * What is saved: a mask in the making is saved where it will be, an old one that is being changed with its change,
 * a new one among the proposed.
 * @param record the draft as a mask, or null.
 * @param erased the uid of a mask of which nothing is left, or null.
 */
export function toDocument(value, record, erased = null) {
  let { annotations, proposed } = erased ? removed(value, erased) : value;
  if (record) {
    if (find(value, record.uid)) {
      ({ annotations, proposed } = replaced(value, { ...record, draft: false }));
    } else {
      proposed = [...proposed, { ...record, draft: true }];
    }
  }
  return { annotations, proposed, state: value.state };
}

/**
 * Bring together what two people made of one document. No mask is lost: what both have changed is kept twice.
 * @param base what both began with; mine, theirs: documents.
 * @returns the document, and how many masks came from the other side or are there twice now.
 */
export function merged(base, mine, theirs) {
  const [b, m, t] = [base, mine, theirs].map(byUid);
  const result = { annotations: [], proposed: [], state: mine.state !== base.state ? mine.state : theirs.state };
  let foreign = 0, twice = 0;
  const keep = ({ list, mask }) => result[list].push(mask);
  for (const uid of new Set([...t.keys(), ...m.keys()])) {
    const [was, my, their] = [b, m, t].map((masks) => masks.get(uid));
    if (same(my, their)) keep(my);
    else if (same(my, was)) { // only they have changed it, or taken it away
      if (their) { keep(their); foreign++; }
    } else if (same(their, was)) { // only I have
      if (my) keep(my);
    } else if (!my || !their) keep(my ?? their); // one changed what the other took away
    else {
      keep(their);
      keep({ ...my, mask: { ...my.mask, uid: newUid() } });
      twice++;
    }
  }
  return { document: result, foreign, twice };
}

function byUid(document) {
  const masks = new Map();
  for (const list of ["annotations", "proposed"]) {
    for (const mask of document[list]) masks.set(mask.uid, { list, mask });
  }
  return masks;
}

function same(one, other) {
  return one === other || (Boolean(one) && Boolean(other) && stable(one) === stable(other));
}

function stable(value) {
  return JSON.stringify(value, (_, v) => {
    if (!v || typeof v !== "object" || Array.isArray(v)) return v;
    return Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
