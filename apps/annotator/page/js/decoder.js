// The page's side of the decoder: asks the worker, and drops quick looks that are out of date.

export class Decoder {
  constructor() {
    this.worker = new Worker(new URL("./decoder-worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.count = this.photo = 0;
    this.looking = false;
    this.nextLook = this.wantedLook = null;
    this.worker.onmessage = ({ data: { id, answer, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(answer);
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.waiting.values()) reject(new Error(event.message || "the decoder stopped"));
      this.waiting.clear();
    };
  }

  ask(name, value, transfer = []) {
    const id = ++this.count;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, name, value }, transfer);
    });
  }

  start(options) {
    return this.ask("start", options);
  }

  /** Give the worker another photo. Its geometry comes back; whoever still wants that photo keeps it. */
  async open(buffer) {
    const photo = ++this.photo;
    return (await this.ask("open", { buffer, photo }, [buffer])).geometry;
  }

  /**
   * Masks for a prompt, as the worker describes them; `prior` is null or a function that promises logits.
   * The answer's own `logits` are such a function: on the whole square they take another decode. A look has none.
   */
  async decode({ prior, ...prompt }) {
    const { photo } = this;
    const asked = { ...prompt, prior: prior && (await prior()), photo };
    const answer = await this.ask("decode", asked);
    if (answer.milliseconds !== null) measured(answer.milliseconds);
    return { ...answer, logits: prompt.quick ? null : once(() => this.ask("whole", asked)) };
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
        await look.prompt.prior?.(); // which may take a decode: the pointer may be elsewhere by then
        if (this.nextLook || this.wantedLook !== look) continue;
        const answer = await this.decode({ ...look.prompt, quick: true });
        if (!this.nextLook && this.wantedLook === look) look.show(answer);
      } catch (error) {
        console.warn(error);
      }
    }
    this.looking = false;
  }
}

/** A function that promises what `make` gives, and makes it once; what failed is made again. */
export function once(make) {
  let made = null;
  return () => (made ??= Promise.resolve().then(make).catch((error) => {
    made = null;
    throw error;
  }));
}

function measured(duration) {
  if (performance.getEntriesByName("decode").length > 500) performance.clearMeasures("decode");
  performance.measure("decode", { start: performance.now() - duration, duration });
}
