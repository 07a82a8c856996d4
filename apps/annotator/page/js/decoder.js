// The page's side of the decoder: asks the worker, and drops quick looks that are out of date.

export class Decoder {
  constructor() {
    this.worker = new Worker(new URL("./decoder-worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.count = 0;
    this.looking = false;
    this.nextLook = null;
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

  async open(buffer) {
    const { geometry } = await this.ask("open", buffer, [buffer]);
    this.geometry = geometry;
  }

  async decode(prompt) {
    const answer = await this.ask("decode", prompt);
    if (performance.getEntriesByName("decode").length > 500) performance.clearMeasures("decode");
    performance.measure("decode", { start: performance.now() - answer.milliseconds, duration: answer.milliseconds });
    return answer;
  }

  /** A quick look; `show` gets the answer, or is never called if a newer look came before its turn. */
  look(prompt, show) {
    this.nextLook = { prompt, show };
    if (!this.looking) this.lookOn();
  }

  stopLooking() {
    this.nextLook = null;
  }

  async lookOn() {
    this.looking = true;
    while (this.nextLook) {
      const { prompt, show } = this.nextLook;
      this.nextLook = null;
      try {
        const answer = await this.decode({ ...prompt, quick: true });
        if (!this.nextLook) show(answer);
      } catch (error) {
        console.warn(error);
      }
    }
    this.looking = false;
  }
}
