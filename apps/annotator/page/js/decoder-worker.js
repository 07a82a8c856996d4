// Runs the exported decoder, so that the page goes on moving while it works.

import { Upsampler } from "./upsample.js";

const VENDOR = new URL("../vendor/", import.meta.url).href;
const IMAGE = ["keys", "first_keys", "first_values", "first_queries"];
const PREVIEW_PIXELS = 400_000;

let ort, graphs, square, backend, click, mask, photo;
let threads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;

const handlers = { start, open, decode, draw };

// One after the other: a session runs one call at a time.
let turn = Promise.resolve();
self.onmessage = ({ data: { id, name, value } }) => {
  turn = turn.then(async () => {
    try {
      const answer = await handlers[name](value);
      self.postMessage({ id, answer }, answer?.transfer ?? []);
    } catch (error) {
      self.postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};

/** Load the runtime and the click graph. WebGPU is taken where there is a real GPU, else WebAssembly. */
async function start({ graphs: addresses, imageSize, wanted, threads: most }) {
  graphs = addresses;
  threads = Math.min(threads, most ?? threads);
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
  click = await session(graphs.click);
  return { backend, threads: kind === "wasm" ? threads : 1 };
}

async function session(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? answer.statusText);
  return ort.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()), { executionProviders: [backend] });
}

/** Take a photo's embedding, in the layout of safetensors. */
function open(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { __metadata__: sizes, ...entries } = header;
  const tensors = {};
  for (const [name, { shape, data_offsets: [from, to] }] of Object.entries(entries)) {
    tensors[name] = new ort.Tensor("float32", new Float32Array(buffer, 8 + length + from, (to - from) / 4), shape);
  }
  const [inputSize, originalSize] = [sizes.input_size, sizes.original_size].map((text) => text.split(",").map(Number));
  const cells = Math.sqrt(tensors.keys.dims[0]);
  const geometry = { inputSize, originalSize, square, low: [4 * cells, 4 * cells] };
  photo = {
    tensors,
    geometry,
    full: new Upsampler(geometry),
    preview: new Upsampler(geometry, PREVIEW_PIXELS),
    prior: null,
  };
  return { geometry };
}

/**
 * Answer prompts.
 * @param points [[x, y, label], ...] and box [x1, y1, x2, y2] or null, in pixels of the photo.
 * @param prior logits of an earlier answer, or null; `priorId` tells whether they are those of the last call.
 * @param quick draw a small mask of the best answer, for a pointer on its way.
 */
async function decode({ points, box, prior, priorId, quick }) {
  const began = performance.now();
  const { tensors, geometry } = photo;
  const image = prior ? await withMask(prior, priorId) : tensors;
  const { point_coords, point_labels } = prompt(points, box, geometry);
  const feeds = { ...tensors };
  for (const name of IMAGE) feeds[name] = image[name];
  const answer = await click.run({ ...feeds, point_coords, point_labels });
  const logits = await answer.low_res_masks.getData(), iou = Array.from(await answer.iou_predictions.getData());
  const milliseconds = performance.now() - began;
  const single = points.length === 1 && !box && !prior;
  const token = single ? 1 + iou.slice(1).indexOf(Math.max(...iou.slice(1))) : 0;
  const size = geometry.low[0] * geometry.low[1];
  const all = logits.slice();
  const drawn = (quick ? photo.preview : photo.full).draw(all.subarray(token * size, (token + 1) * size));
  const scale = quick ? photo.preview.width / geometry.originalSize[1] : 1;
  return { ...drawn, scale, iou, token, single, milliseconds, logits: quick ? null : all };
}

/** The mask of chosen logits at the photo's size. */
function draw({ logits }) {
  return photo.full.draw(logits);
}

async function withMask(logits, id) {
  if (photo.prior?.id === id) return photo.prior.tensors;
  mask ??= await session(graphs.mask);
  const feeds = { mask_input: new ort.Tensor("float32", logits, photo.geometry.low) };
  for (const name of IMAGE) feeds[name] = photo.tensors[name];
  const answer = await mask.run(feeds);
  const tensors = {};
  for (const name of IMAGE) tensors[name] = answer[`${name}_with_mask`];
  photo.prior = { id, tensors };
  return tensors;
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
