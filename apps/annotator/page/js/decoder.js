// The page's side of the decoder: asks the worker, and drops quick looks that are out of date.

export class Decoder {
  constructor() {
    this.worker = new Worker(new URL("./decoder-worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.count = 0;
    this.looking = false;
    this.nextLook = this.wantedLook = null;
    this.worker.onmessage = ({ data: { id, answer, error } }) => {
      const call = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) call?.reject(new Error(error)); // what follows an answer may fail after it
      else call?.resolve(answer);
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.waiting.values()) reject(new Error(event.message || "the decoder stopped"));
      this.waiting.clear();
    };
  }

  ask(name, value, transfer = []) {
    const id = ++this.count, answer = this.expect(id);
    this.worker.postMessage({ id, name, value }, transfer);
    return answer;
  }

  expect(id) {
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  start(options) {
    return this.ask("start", options);
  }

  async open(buffer) {
    const { geometry } = await this.ask("open", buffer, [buffer]);
    this.geometry = geometry;
  }

  /**
   * Masks for a prompt, as the worker describes them; `prior` is null or a function that gives logits.
   * The answer's own `logits` are a promise: they are whole a little later than the mask. A quick look has none.
   */
  async decode({ prior, ...prompt }) {
    const logits = prior && (await prior());
    const later = prompt.quick ? null : ++this.count, whole = later && this.expect(later);
    whole?.catch(() => {}); // whoever waits for them is told
    const answer = await this.ask("decode", { ...prompt, prior: logits, later });
    if (answer.milliseconds !== null) measured(answer.milliseconds);
    return { ...answer, logits: whole };
  }

  /** A quick look; `show` gets the answer, unless a newer look or `stopLooking` comes before. */
  look(prompt, show) {
    this.nextLook = { prompt, show };
    if (!this.looking) this.lookOn();
  }

  stopLooking() {
    this.nextLook = this.wantedLook = null;
  }

  async lookOn() {
    this.looking = true;
    while (this.nextLook) {
      const look = (this.wantedLook = this.nextLook);
      this.nextLook = null;
      try {
        const answer = await this.decode({ ...look.prompt, quick: true });
        if (!this.nextLook && this.wantedLook === look) look.show(answer);
      } catch (error) {
        console.warn(error);
      }
    }
    this.looking = false;
  }
}

function measured(duration) {
  if (performance.getEntriesByName("decode").length > 500) performance.clearMeasures("decode");
  performance.measure("decode", { start: performance.now() - duration, duration });
}
