// Strokes of brush and eraser: { erase, radius, points: [[x, y], ...] } in pixels of the photo.

/** A mask with strokes over it, in order: what is painted belongs to it, what is erased does not. */
export function withStrokes(crop, strokes, width, height) {
  if (!strokes.length) return crop;
  const window = union([...strokes.filter((s) => !s.erase).map((s) => reach(s, width, height)), crop]);
  if (!window) return null;
  const data = new Uint8Array(window.width * window.height);
  const mask = { ...window, data };
  if (crop) {
    for (let y = 0; y < crop.height; y++) {
      const row = crop.data.subarray(y * crop.width, (y + 1) * crop.width);
      data.set(row, (crop.y - window.y + y) * window.width + crop.x - window.x);
    }
  }
  for (const stroke of strokes) paint(mask, stroke);
  return mask;
}

function paint(mask, { points, radius, erase }) {
  points.forEach((point, i) => capsule(mask, points[Math.max(0, i - 1)], point, radius, erase ? 0 : 1));
}

/** Every pixel whose centre is at most `radius` from the line a-b gets `value`. */
function capsule(mask, [ax, ay], [bx, by], radius, value) {
  const x1 = Math.max(mask.x, Math.floor(Math.min(ax, bx) - radius));
  const x2 = Math.min(mask.x + mask.width - 1, Math.ceil(Math.max(ax, bx) + radius));
  const y1 = Math.max(mask.y, Math.floor(Math.min(ay, by) - radius));
  const y2 = Math.min(mask.y + mask.height - 1, Math.ceil(Math.max(ay, by) + radius));
  const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy || 1, limit = radius * radius;
  for (let y = y1; y <= y2; y++) {
    for (let x = x1; x <= x2; x++) {
      const px = x + 0.5 - ax, py = y + 0.5 - ay;
      const along = Math.max(0, Math.min(1, (px * dx + py * dy) / length));
      const ox = px - along * dx, oy = py - along * dy;
      if (ox * ox + oy * oy <= limit) mask.data[(y - mask.y) * mask.width + x - mask.x] = value;
    }
  }
}

function reach({ points, radius }, width, height) {
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const x1 = Math.max(0, Math.floor(Math.min(...xs) - radius)), y1 = Math.max(0, Math.floor(Math.min(...ys) - radius));
  const x2 = Math.min(width, Math.ceil(Math.max(...xs) + radius) + 1);
  const y2 = Math.min(height, Math.ceil(Math.max(...ys) + radius) + 1);
  return x2 > x1 && y2 > y1 ? { x: x1, y: y1, width: x2 - x1, height: y2 - y1 } : null;
}

function union(windows) {
  const given = windows.filter(Boolean);
  if (!given.length) return null;
  const x = Math.min(...given.map((w) => w.x)), y = Math.min(...given.map((w) => w.y));
  const right = Math.max(...given.map((w) => w.x + w.width)), bottom = Math.max(...given.map((w) => w.y + w.height));
  return { x, y, width: right - x, height: bottom - y };
}
