// Masks as COCO run lengths, and as crops: { x, y, width, height, data } with one byte a pixel, rows first.

/** The smallest crop that holds all set pixels of `crop`, or null if there are none. */
export function tightened(crop) {
  if (!crop) return null;
  const { width, height, data } = crop;
  let left = width, right = -1, top = height, bottom = -1;
  for (let y = 0; y < height; y++) {
    const row = y * width;
    for (let x = 0; x < width; x++) {
      if (!data[row + x]) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      bottom = y;
    }
  }
  if (right < 0) return null;
  if (left === 0 && top === 0 && right === width - 1 && bottom === height - 1) return crop;
  return cut(crop, { x: crop.x + left, y: crop.y + top, width: right - left + 1, height: bottom - top + 1 });
}

/** `crop` in another window of the image; what lies outside of the crop is empty. */
export function cut(crop, window) {
  const data = new Uint8Array(window.width * window.height);
  const x1 = Math.max(crop.x, window.x), x2 = Math.min(crop.x + crop.width, window.x + window.width);
  const y1 = Math.max(crop.y, window.y), y2 = Math.min(crop.y + crop.height, window.y + window.height);
  if (x1 < x2) {
    for (let y = y1; y < y2; y++) {
      const from = (y - crop.y) * crop.width;
      data.set(crop.data.subarray(from + x1 - crop.x, from + x2 - crop.x), (y - window.y) * window.width + x1 - window.x);
    }
  }
  return { ...window, data };
}

export function area(crop) {
  let count = 0;
  if (crop) for (let i = 0; i < crop.data.length; i++) count += crop.data[i];
  return count;
}

/** Whether the pixel x, y of the image is in the mask. */
export function has(crop, x, y) {
  const column = Math.floor(x) - crop.x, row = Math.floor(y) - crop.y;
  if (column < 0 || row < 0 || column >= crop.width || row >= crop.height) return false;
  return crop.data[row * crop.width + column] === 1;
}

/** { size: [height, width], counts } of a crop (or null) in an image. */
export function encode(crop, height, width) {
  const runs = [];
  let last = 0; // where the present run began
  let value = 0;
  const change = (place) => {
    runs.push(place - last);
    last = place;
    value ^= 1;
  };
  if (crop) {
    for (let x = 0; x < crop.width; x++) {
      const column = (crop.x + x) * height + crop.y;
      // A column of pixels is followed by what is below and above the crop, which is empty.
      if (value && (crop.y > 0 || crop.height < height)) change(column - crop.y - (height - crop.y - crop.height));
      for (let y = 0; y < crop.height; y++) {
        if (crop.data[y * crop.width + x] !== value) change(column + y);
      }
    }
    if (value) change((crop.x + crop.width - 1) * height + crop.y + crop.height);
  }
  if (height * width > last || !runs.length) runs.push(height * width - last);
  return { size: [height, width], counts: compress(runs) };
}

/** The crop of an encoded mask, or null if it is empty. */
export function decode({ size: [height], counts }) {
  const runs = expand(counts);
  let left = Infinity, right = -1, top = Infinity, bottom = -1;
  const spans = [];
  let place = 0;
  for (let i = 0; i < runs.length; i++) {
    const end = place + runs[i];
    if (i % 2 === 1 && runs[i]) {
      spans.push(place, end);
      const first = Math.floor(place / height), final = Math.floor((end - 1) / height);
      left = Math.min(left, first);
      right = Math.max(right, final);
      top = Math.min(top, first === final ? place % height : 0);
      bottom = Math.max(bottom, first === final ? (end - 1) % height : height - 1);
    }
    place = end;
  }
  if (right < 0) return null;
  const crop = { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
  crop.data = new Uint8Array(crop.width * crop.height);
  for (let i = 0; i < spans.length; i += 2) {
    let x = Math.floor(spans[i] / height), y = spans[i] % height;
    for (let p = spans[i]; p < spans[i + 1]; p++) {
      crop.data[(y - top) * crop.width + x - left] = 1;
      if (++y === height) { y = 0; x++; }
    }
  }
  return crop;
}

// COCO's compression: six bits a character, the least significant first; from the fourth run on, each is stored
// as its difference from the one two before.
function compress(runs) {
  const text = [];
  for (let i = 0; i < runs.length; i++) {
    let value = i > 2 ? runs[i] - runs[i - 2] : runs[i];
    for (let more = true; more; ) {
      let bits = value & 31;
      value >>= 5;
      more = bits & 16 ? value !== -1 : value !== 0;
      if (more) bits |= 32;
      text.push(String.fromCharCode(bits + 48));
    }
  }
  return text.join("");
}

function expand(counts) {
  const runs = [];
  for (let i = 0; i < counts.length; ) {
    let value = 0, shift = 0, bits;
    do {
      bits = counts.charCodeAt(i++) - 48;
      value |= (bits & 31) << shift;
      shift += 5;
    } while (bits & 32);
    if (bits & 16 && shift < 32) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}
