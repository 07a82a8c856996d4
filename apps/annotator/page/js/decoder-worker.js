// Runs the exported decoder, so that the page goes on moving while it works.

import { Upsampler } from "./upsample.js";

const VENDOR = new URL("../vendor/", import.meta.url).href;
const PREVIEW_PIXELS = 400_000;
const SMALL = 600; // side of the square, pixels: a decoder of so few cells takes longer with a second thread

const PADDING = -32; // logits where a photo does not reach, until they are needed

let ort, graphs, square, backend, image, click, mask, photo;
let threads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;

const handlers = { start, open, decode, whole, draw };

// One after the other: a session runs one call at a time.
let turn = Promise.resolve();
self.onmessage = ({ data: { id, name, value } }) => {
  turn = turn.then(async () => {
    try {
      const opens = name === "start" || name === "open";
      if (!opens && value.photo !== photo?.number) throw new Error("another photo was opened");
      self.postMessage({ id, answer: await handlers[name](value) });
    } catch (error) {
      self.postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};

/** Load the runtime and the graphs. WebGPU is taken where there is a real GPU, else WebAssembly. */
async function start({ graphs: addresses, imageSize, wanted, threads: most }) {
  graphs = addresses;
  threads = Math.min(threads, most ?? (imageSize < SMALL ? 1 : threads));
  square = imageSize;
  if (wanted !== "wasm" && (wanted === "webgpu" || (await hasGpu()))) {
    try {
      return await load("webgpu");
    } catch (error) {
      if (wanted === "webgpu") throw error;
      console.warn("WebGPU was given up:", error);
    }
  }
  return load("wasm");
}

async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

async function load(kind) {
  ort = await import(`${VENDOR}ort.${kind}.min.mjs`);
  ort.env.wasm.wasmPaths = VENDOR;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  backend = kind;
  [image, click] = [await session(graphs.image), await session(graphs.click)];
  return { backend, threads: kind === "wasm" ? threads : 1 };
}

async function session(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? answer.statusText);
  return ort.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()), { executionProviders: [backend] });
}

/** Take a photo's embedding, in the layout of safetensors, and work out what no prompt changes. */
async function open({ buffer, photo: number }) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { __metadata__: sizes, ...entries } = header;
  const embedding = {};
  for (const name of image.inputNames) {
    const { shape, data_offsets: [from, to] } = entries[name];
    embedding[name] = new ort.Tensor("float32", new Float32Array(buffer, 8 + length + from, (to - from) / 4), shape);
  }
  const [inputSize, originalSize] = [sizes.input_size, sizes.original_size].map((text) => text.split(",").map(Number));
  const [height, width] = embedding.image_embeddings.dims.slice(2);
  const geometry = { inputSize, originalSize, square, low: [4 * height, 4 * width] };
  const tensors = await image.run(embedding);
  photo = {
    number,
    tensors,
    geometry,
    filled: upperLeft(tensors.upscaled, [height, width].map((count, axis) =>
      Math.min(count, Math.ceil((inputSize[axis] * count) / square) + 1))), // one more, for what is between cells
    last: null,
    none: new ort.Tensor("float32", new Float32Array(height * width), [1, height * width]),
    full: new Upsampler(geometry),
    preview: new Upsampler(geometry, PREVIEW_PIXELS),
    prior: null,
  };
  return { geometry };
}

/** Of a (D, height, width) tensor the upper left rows and columns. */
function upperLeft(tensor, [rows, columns]) {
  const [depth, height, width] = tensor.dims;
  if (rows === height && columns === width) return tensor;
  const data = new Float32Array(depth * rows * columns);
  for (let i = 0; i < depth * rows; i++) {
    const from = (Math.floor(i / rows) * height + (i % rows)) * width;
    data.set(tensor.data.subarray(from, from + columns), i * columns);
  }
  return new ort.Tensor("float32", data, [depth, rows, columns]);
}

/**
 * Answer a prompt; a click where the pointer is already is answered by the look that was taken there.
 * @param points [[x, y, label], ...] and box [x1, y1, x2, y2] or null, in pixels of the photo.
 * @param prior logits of an earlier answer, or null; `priorId` tells whether they are those of the last call.
 * @param quick draw a small mask of the best answer, for a pointer on its way.
 */
async function decode({ points, box, prior, priorId, quick }) {
  const key = JSON.stringify([points, box, prior ? priorId : null]);
  let milliseconds = null; // nothing was decoded
  if (photo.last?.key !== key) {
    const began = performance.now();
    // Drawn where the photo is: what is beside it in the padded square nobody sees.
    const answer = await click.run({ ...(await feeds(points, box, prior, priorId)), upscaled: photo.filled });
    const logits = padded(answer.low_res_masks, photo.geometry.low), iou = Array.from(answer.iou_predictions.data);
    photo.last = { key, logits, iou };
    milliseconds = performance.now() - began;
  }
  const { logits, iou } = photo.last, { geometry } = photo;
  const single = points.length === 1 && !box && !prior;
  const token = single ? 1 + iou.slice(1).indexOf(Math.max(...iou.slice(1))) : 0;
  const size = geometry.low[0] * geometry.low[1];
  const drawn = (quick ? photo.preview : photo.full).draw(logits.subarray(token * size, (token + 1) * size));
  const scale = quick ? photo.preview.width / geometry.originalSize[1] : 1;
  return { ...drawn, scale, iou, token, single, milliseconds };
}

/** The logits of an answer on the whole square, which go into the next prompt. */
async function whole({ points, box, prior, priorId }) {
  const answer = await click.run(await feeds(points, box, prior, priorId));
  return answer.low_res_masks.data;
}

async function feeds(points, box, prior, priorId) {
  const given = prior ? await earlier(prior, priorId) : photo.none;
  return { ...photo.tensors, given, ...prompt(points, box, photo.geometry) };
}

/** Logits of the whole square, of (4, rows, columns) of its upper left. */
function padded({ data, dims: [count, rows, columns] }, [height, width]) {
  if (rows === height && columns === width) return data;
  const whole = new Float32Array(count * height * width).fill(PADDING);
  for (let i = 0; i < count * rows; i++) {
    const to = (Math.floor(i / rows) * height + (i % rows)) * width;
    whole.set(data.subarray(i * columns, (i + 1) * columns), to);
  }
  return whole;
}

/** The mask of chosen logits at the photo's size. */
function draw({ logits }) {
  return photo.full.draw(logits);
}

/** An earlier answer as the click graph takes it. */
async function earlier(logits, id) {
  if (photo.prior?.id !== id) {
    mask ??= await session(graphs.mask);
    const { given } = await mask.run({ mask_input: new ort.Tensor("float32", logits, photo.geometry.low) });
    photo.prior = { id, given };
  }
  return photo.prior.given;
}

function prompt(points, box, { inputSize, originalSize }) {
  const scale = [inputSize[1] / originalSize[1], inputSize[0] / originalSize[0]];
  const coords = [], labels = [];
  const add = (x, y, label) => {
    coords.push(x * scale[0], y * scale[1]);
    labels.push(label);
  };
  for (const [x, y, label] of points) add(x, y, label);
  if (box) {
    add(box[0], box[1], 2);
    add(box[2], box[3], 3);
  } else {
    coords.push(0, 0); // as in training, prompts without a box end with a padding point
    labels.push(-1);
  }
  return {
    point_coords: new ort.Tensor("float32", Float32Array.from(coords), [labels.length, 2]),
    point_labels: new ort.Tensor("float32", Float32Array.from(labels), [labels.length]),
  };
}
