// The photo on the screen: zoom and pan, masks, what the pointer is about to do.

import { look } from "./outline.js";

const MOST_ZOOM = 40;
const ROOM = 24; // around a photo that fits, CSS pixels

export class View {
  /** @param stage the element that holds the three canvases: photo, masks, live. */
  constructor(stage) {
    this.stage = stage;
    this.canvases = Object.fromEntries([...stage.querySelectorAll("canvas")].map((c) => [c.dataset.layer, c]));
    this.contexts = Object.fromEntries(Object.entries(this.canvases).map(([k, c]) => [k, c.getContext("2d")]));
    this.bitmap = null;
    this.zoom = 1; // CSS pixels of a pixel of the photo
    this.x = this.y = 0; // where the photo's corner is, CSS pixels
    this.fitted = true;
    this.masks = [];
    this.live = {};
    this.dirty = new Set();
    new ResizeObserver(() => this.resize()).observe(stage);
  }

  /** Show another photo (an ImageBitmap), or none. */
  show(bitmap) {
    this.bitmap?.close?.();
    this.bitmap = bitmap;
    this.masks = [];
    this.live = {};
    this.fit();
  }

  /** @param masks [{ crop, colour, style }], later ones above; style: "kept" | "proposed" | "selected". */
  setMasks(masks) {
    this.masks = masks;
    this.draw("masks");
  }

  /** Change some of: draft, hover (crops with scale), points, box, stroke, brush, cross. */
  setLive(changes) {
    Object.assign(this.live, changes);
    this.draw("live");
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.stage.getBoundingClientRect();
    for (const canvas of Object.values(this.canvases)) {
      canvas.width = Math.max(1, Math.round(width * ratio));
      canvas.height = Math.max(1, Math.round(height * ratio));
    }
    this.size = { width, height, ratio };
    if (this.fitted) this.fit();
    else this.draw();
  }

  fit() {
    if (!this.bitmap || !this.size) return this.draw();
    const { width, height } = this.size;
    const room = Math.min(ROOM, width / 12);
    const across = (width - room) / this.bitmap.width, down = (height - room) / this.bitmap.height;
    this.zoom = Math.max(0.001, Math.min(across, down, 8));
    this.x = (width - this.zoom * this.bitmap.width) / 2;
    this.y = (height - this.zoom * this.bitmap.height) / 2;
    this.fitted = true;
    this.draw();
  }

  /** Zoom by a factor, the place x, y of the stage staying where it is. */
  zoomAt(factor, x = this.size.width / 2, y = this.size.height / 2) {
    if (!this.bitmap) return;
    const least = Math.min(0.02, 50 / Math.max(this.bitmap.width, this.bitmap.height));
    const zoom = Math.max(least, Math.min(MOST_ZOOM, this.zoom * factor));
    this.x = x - ((x - this.x) * zoom) / this.zoom;
    this.y = y - ((y - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.moved();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.moved();
  }

  /** Never all of the photo out of sight. */
  moved() {
    this.fitted = false;
    if (this.bitmap) {
      const keep = 40, { width, height } = this.size;
      this.x = Math.min(width - keep, Math.max(keep - this.zoom * this.bitmap.width, this.x));
      this.y = Math.min(height - keep, Math.max(keep - this.zoom * this.bitmap.height, this.y));
    }
    this.draw();
  }

  /** Pixels of the photo under a place of the window; fractional, perhaps outside. */
  toPhoto(clientX, clientY) {
    const box = this.stage.getBoundingClientRect();
    return [(clientX - box.left - this.x) / this.zoom, (clientY - box.top - this.y) / this.zoom];
  }

  /** Pan as little as brings a pixel of the photo into sight. */
  reveal(x, y) {
    const margin = 30, px = this.x + x * this.zoom, py = this.y + y * this.zoom;
    const dx = px < margin ? margin - px : px > this.size.width - margin ? this.size.width - margin - px : 0;
    const dy = py < margin ? margin - py : py > this.size.height - margin ? this.size.height - margin - py : 0;
    if (dx || dy) this.pan(dx, dy);
  }

  draw(...layers) {
    for (const layer of layers.length ? layers : ["photo", "masks", "live"]) this.dirty.add(layer);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      for (const layer of this.dirty) this[`draw_${layer}`]?.(this.begin(layer));
      this.dirty.clear();
    });
  }

  begin(layer) {
    const context = this.contexts[layer];
    const { ratio } = this.size ?? { ratio: 1 };
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalAlpha = 1;
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    context.setTransform(ratio * this.zoom, 0, 0, ratio * this.zoom, ratio * this.x, ratio * this.y);
    return context;
  }

  draw_photo(context) {
    if (!this.bitmap) return;
    context.imageSmoothingEnabled = this.zoom < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, 0, 0);
  }

  draw_masks(context) {
    for (const { crop, colour, style } of this.masks) {
      const selected = style === "selected";
      this.mask(context, crop, 1, colour, {
        fill: style === "proposed" ? 0.16 : selected ? 0.5 : 0.34, width: selected ? 3 : 1.75, dashed: style === "proposed",
      });
    }
  }

  draw_live(context) {
    const { draft, hover, points = [], box, stroke, brush, cross } = this.live;
    if (hover) this.mask(context, hover.crop, hover.scale, "#ffffff", { fill: 0.22, width: 1.5, dashed: true });
    if (draft) this.mask(context, draft, 1, "#21e6c1", { fill: 0.32, width: 2.5 });
    if (stroke) this.stroke(context, stroke);
    if (box) this.box(context, box);
    for (const point of points) this.point(context, point);
    if (brush) this.circle(context, brush);
    if (cross) this.cross(context, cross);
  }

  mask(context, crop, scale, colour, { fill, width, dashed = false }) {
    const { path, fill: picture } = look(crop, colour);
    context.save();
    context.scale(1 / scale, 1 / scale);
    context.translate(crop.x, crop.y);
    context.imageSmoothingEnabled = false;
    context.globalAlpha = fill;
    context.drawImage(picture, 0, 0);
    context.globalAlpha = 1;
    this.line(context, path, colour, width, scale / this.zoom, dashed);
    context.restore();
  }

  /** A line with a dark one beneath, so that it shows on anything. */
  line(context, path, colour, width, unit, dashed = false) {
    context.lineCap = "round";
    context.strokeStyle = "rgb(8 10 14 / 0.75)";
    context.lineWidth = (width + 1.75) * unit;
    context.stroke(path);
    if (dashed) context.setLineDash([5 * unit, 4 * unit]);
    context.strokeStyle = colour;
    context.lineWidth = width * unit;
    context.stroke(path);
    context.setLineDash([]);
  }

  point(context, [x, y, label]) {
    const unit = 1 / this.zoom, sign = new Path2D(), disc = new Path2D();
    disc.arc(x, y, 7 * unit, 0, 2 * Math.PI);
    context.fillStyle = label ? "#12805f" : "#c2183f";
    context.fill(disc);
    this.line(context, disc, "#ffffff", 1.75, unit);
    context.fillStyle = label ? "#12805f" : "#c2183f";
    context.fill(disc);
    sign.moveTo(x - 3.5 * unit, y);
    sign.lineTo(x + 3.5 * unit, y);
    if (label) {
      sign.moveTo(x, y - 3.5 * unit);
      sign.lineTo(x, y + 3.5 * unit);
    }
    context.strokeStyle = "#ffffff";
    context.lineWidth = 2 * unit;
    context.stroke(sign);
  }

  box(context, [x1, y1, x2, y2]) {
    const path = new Path2D();
    path.rect(Math.min(x1, x2), Math.min(y1, y2), Math.abs(x2 - x1), Math.abs(y2 - y1));
    this.line(context, path, "#ffffff", 1.75, 1 / this.zoom);
  }

  stroke(context, { points, radius, erase }) {
    const path = new Path2D();
    points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    if (points.length === 1) path.lineTo(points[0][0] + 0.01, points[0][1]);
    context.save();
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 2 * radius;
    context.globalAlpha = 0.5;
    context.strokeStyle = erase ? "#c2183f" : "#21e6c1";
    context.stroke(path);
    context.restore();
  }

  circle(context, { x, y, radius, erase }) {
    const path = new Path2D();
    path.arc(x, y, radius, 0, 2 * Math.PI);
    this.line(context, path, erase ? "#ff8fa8" : "#ffffff", 1.5, 1 / this.zoom);
  }

  cross(context, [x, y]) {
    const path = new Path2D(), arm = 13 / this.zoom, gap = 4 / this.zoom;
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      path.moveTo(x + gap * dx, y + gap * dy);
      path.lineTo(x + arm * dx, y + arm * dy);
    }
    this.line(context, path, "#ffffff", 2, 1 / this.zoom);
  }
}
