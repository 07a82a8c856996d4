// Low-resolution logits to masks of the photo, in the two bilinear steps of the server: to the padded square,
// whose padding is cut off, then to the photo. Along an axis both are sums of neighbours, so they are joined:
// every pixel has at most three low-resolution cells, and their weights.

/** Taps of pixels: cell `start[i]` and the next two, with three weights each. */
function taps(pixels, original, input, square, low) {
  const start = new Int32Array(pixels.length);
  const weights = new Float32Array(3 * pixels.length);
  const step = (place, from, to, last) => {
    const source = Math.max(0, ((place + 0.5) * from) / to - 0.5);
    const first = Math.min(Math.floor(source), last);
    return [first, Math.min(first + 1, last), source - first];
  };
  pixels.forEach((pixel, i) => {
    const [a, b, share] = step(pixel, input, original, input - 1);
    const ofA = step(a, low, square, low - 1), ofB = step(b, low, square, low - 1);
    start[i] = Math.min(ofA[0], Math.max(0, low - 3));
    const add = (cell, weight) => { weights[3 * i + cell - start[i]] += weight; };
    add(ofA[0], (1 - share) * (1 - ofA[2]));
    add(ofA[1], (1 - share) * ofA[2]);
    add(ofB[0], share * (1 - ofB[2]));
    add(ofB[1], share * ofB[2]);
  });
  return { start, weights };
}

/** Which pixels of the photo a picture of `count` pixels along this axis shows. */
function sampled(original, count) {
  return Array.from({ length: count }, (_, i) => Math.min(original - 1, Math.floor(((i + 0.5) * original) / count)));
}

/** Draws masks of one photo at its own size, or at a smaller one for a quick look. */
export class Upsampler {
  /**
   * @param {{inputSize: number[], originalSize: number[], square: number, low: number[]}} geometry sizes are
   *     [height, width]; `square` is the side of the padded square, `low` the size of the logits.
   * @param {number} most pixels of the result at most.
   */
  constructor({ inputSize, originalSize, square, low }, most = Infinity) {
    const shrink = Math.min(1, Math.sqrt(most / (originalSize[0] * originalSize[1])));
    [this.height, this.width] = originalSize.map((side) => Math.max(1, Math.round(side * shrink)));
    this.low = low;
    this.rows = taps(sampled(originalSize[0], this.height), originalSize[0], inputSize[0], square, low[0]);
    this.columns = taps(sampled(originalSize[1], this.width), originalSize[1], inputSize[1], square, low[1]);
  }

  /**
   * @param {Float32Array} logits of `low` size.
   * @returns a crop { x, y, width, height, data } in pixels of the result, and how stable the mask is: its area
   *     at a threshold of 1 over that at -1. The crop is null for an empty mask.
   */
  draw(logits) {
    const [height, width] = this.low;
    const [top, bottom, left, right] = bounds(logits, height, width, -1);
    if (bottom < 0) return { crop: null, stability: 0 };
    const [y1, y2] = reach(this.rows.start, top, bottom), [x1, x2] = reach(this.columns.start, left, right);
    const crop = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
    if (crop.width < 1 || crop.height < 1) return { crop: null, stability: 0 };
    const wide = this.widened(logits, x1, crop.width);
    crop.data = new Uint8Array(crop.width * crop.height);
    const { start, weights } = this.rows;
    let inner = 0, outer = 0, any = false;
    for (let y = 0; y < crop.height; y++) {
      const i = y + y1, w0 = weights[3 * i], w1 = weights[3 * i + 1], w2 = weights[3 * i + 2];
      const a = start[i] * crop.width, b = Math.min(start[i] + 1, height - 1) * crop.width;
      const c = Math.min(start[i] + 2, height - 1) * crop.width, row = y * crop.width;
      for (let x = 0; x < crop.width; x++) {
        const value = w0 * wide[a + x] + w1 * wide[b + x] + w2 * wide[c + x];
        if (value > -1) {
          outer++;
          if (value > 1) inner++;
          if (value > 0) { crop.data[row + x] = 1; any = true; }
        }
      }
    }
    return { crop: any ? crop : null, stability: outer ? inner / outer : 0 };
  }

  /** Every row of the logits at the result's columns. */
  widened(logits, first, count) {
    const [height, width] = this.low;
    const { start, weights } = this.columns;
    const wide = new Float32Array(height * count);
    for (let y = 0; y < height; y++) {
      const row = y * width;
      for (let x = 0; x < count; x++) {
        const i = x + first, s = start[i];
        wide[y * count + x] =
          weights[3 * i] * logits[row + s] +
          weights[3 * i + 1] * logits[row + Math.min(s + 1, width - 1)] +
          weights[3 * i + 2] * logits[row + Math.min(s + 2, width - 1)];
      }
    }
    return wide;
  }
}

/** First and last row and column with a logit above the threshold. */
function bounds(logits, height, width, threshold) {
  let top = height, bottom = -1, left = width, right = -1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (logits[y * width + x] <= threshold) continue;
      if (y < top) top = y;
      bottom = y;
      if (x < left) left = x;
      if (x > right) right = x;
    }
  }
  return [top, bottom, left, right];
}

/** The pixels, half-open, that have a tap between two cells. */
function reach(start, first, last) {
  let from = 0, to = start.length;
  while (from < to && start[from] + 2 < first) from++;
  while (to > from && start[to - 1] > last) to--;
  return [from, to];
}

/** Logits of `low` size that say what a mask (a crop of the photo) says, to go on from it. */
export function logitsOf(crop, { inputSize, originalSize, square, low }) {
  const logits = new Float32Array(low[0] * low[1]).fill(-8);
  if (!crop) return logits;
  const scale = [originalSize[0] / inputSize[0], originalSize[1] / inputSize[1]].map((s) => (s * square) / low[0]);
  for (let y = 0; y < low[0]; y++) {
    for (let x = 0; x < low[1]; x++) {
      let inside = 0;
      for (let part = 0; part < 16; part++) {
        const py = Math.floor((y + ((part >> 2) + 0.5) / 4) * scale[0]) - crop.y;
        const px = Math.floor((x + ((part & 3) + 0.5) / 4) * scale[1]) - crop.x;
        if (py >= 0 && px >= 0 && py < crop.height && px < crop.width) inside += crop.data[py * crop.width + px];
      }
      logits[y * low[1] + x] = inside - 8;
    }
  }
  return logits;
}
