// How masks look: a fill, and an outline of the same width at every zoom.

// On photos; each beside its neighbours in the list is told apart also by people who see few colours, since
// lightness changes with hue, and every outline has a dark one beneath it.
const COLOURS = ["#ffb000", "#4cc9f0", "#ff5d8f", "#7ae582", "#c77dff", "#ff8a3d", "#5b8cff", "#e9ff70"];
const looks = new WeakMap();

/** A colour for a name, or for what has none: the same everywhere. */
export function colourOf(text) {
  let hash = 7;
  for (const letter of text) hash = (hash * 31 + letter.codePointAt(0)) % 9973;
  return COLOURS[hash % COLOURS.length];
}

/** A picture of the crop in one colour, and its outline as a path in the crop's pixels. */
export function look(crop, colour) {
  let made = looks.get(crop);
  if (!made) looks.set(crop, (made = { path: outline(crop), fills: new Map() }));
  if (!made.fills.has(colour)) made.fills.set(colour, fill(crop, colour));
  return { path: made.path, fill: made.fills.get(colour) };
}

function fill(crop, colour) {
  const canvas = new OffscreenCanvas(crop.width, crop.height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(crop.width, crop.height);
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  const pixel = new Uint32Array(image.data.buffer);
  const value = new Uint32Array(new Uint8Array([r, g, b, 255]).buffer)[0];
  for (let i = 0; i < crop.data.length; i++) if (crop.data[i]) pixel[i] = value;
  context.putImageData(image, 0, 0);
  return canvas;
}

/** The borders between set and unset pixels, straight runs joined. */
function outline({ width, height, data }) {
  const path = new Path2D();
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? data[y * width + x] : 0);
  for (let y = 0; y <= height; y++) {
    for (let x = 0, from = -1; x <= width; x++) {
      const edge = x < width && at(x, y) !== at(x, y - 1);
      if (edge && from < 0) from = x;
      if (!edge && from >= 0) { path.moveTo(from, y); path.lineTo(x, y); from = -1; }
    }
  }
  for (let x = 0; x <= width; x++) {
    for (let y = 0, from = -1; y <= height; y++) {
      const edge = y < height && at(x, y) !== at(x - 1, y);
      if (edge && from < 0) from = y;
      if (!edge && from >= 0) { path.moveTo(x, from); path.lineTo(x, y); from = -1; }
    }
  }
  return path;
}
