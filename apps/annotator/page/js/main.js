// Starts the page, goes from photo to photo, and wires keys, pointer and panel to the editor.

import { fetchAhead, takePhoto } from "./ahead.js";
import * as api from "./api.js";
import { Conflict } from "./conflict.js";
import { Decoder } from "./decoder.js";
import { Editor } from "./editor.js";
import { followKeys, helpTables } from "./keys.js";
import * as panel from "./panel.js";
import { followPointer } from "./pointer.js";
import { plain, Sync } from "./sync.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const stage = $("stage");
const view = new View(stage);
const editor = new Editor(view, changed);
const sync = new Sync(panel.showSaved, (met) => conflict.begin(met));
const conflict = new Conflict(editor, sync);
const asked = new URLSearchParams(location.search); // ?backend=wasm|webgpu and ?threads=N, to compare them
let decoder = null, project = null, key = null, names = [], wishes = 0, opening = 0;

start().catch((error) => panel.banner(error.message));

async function start() {
  $("help-tables").append(...helpTables());
  wire();
  const [model, projects] = await Promise.all([api.model(), api.projects()]);
  $("project").replaceChildren(...projects.map(({ name }) => panel.element("option", { value: name, textContent: name })));
  editor.boxMargin = model.box_margin;
  if (model.runtime) panel.banner(`Clicks and boxes need onnxruntime-web, which is not installed: ${model.runtime}.`);
  else startDecoder(model);
  const [name, photo] = location.hash.slice(1).split("/").map(decodeURIComponent);
  await openProject(projects.some((p) => p.name === name) ? name : projects[0].name, photo);
}

async function startDecoder(model) {
  const made = new Decoder();
  const slow = setTimeout(() => panel.wait("Preparing the decoder: once for each model…"), 1500);
  made.ready = made.start({
    graphs: Object.fromEntries(["image", "click", "mask"].map((name) => [name, api.graph(model.decoder, name)])),
    imageSize: model.image_size, wanted: asked.get("backend"), threads: Number(asked.get("threads")) || null,
  });
  editor.decoder = editor.drafts.decoder = decoder = made;
  try {
    const { backend, threads } = await made.ready;
    $("speed").textContent = backend === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} ${threads === 1 ? "thread" : "threads"}`;
    new PerformanceObserver((list) => {
      const last = list.getEntriesByName("decode").at(-1);
      if (last) $("speed").textContent = $("speed").textContent.replace(/^(\d+ ms, )?/, `${Math.round(last.duration)} ms, `);
    }).observe({ type: "measure" });
  } catch (error) {
    panel.banner(`Masks cannot be decoded: ${error.message}`);
  } finally {
    clearTimeout(slow);
    panel.wait("");
  }
}

// ---- projects and photos ----

async function openProject(name, wantedKey) {
  const wish = ++wishes, found = await api.project(name);
  if (!(await leave()) || wish !== wishes) {
    if (project) $("project").value = project.name;
    return;
  }
  project = { name, photos: found.photos };
  $("project").value = name;
  names = found.labels;
  panel.showNames(names, (text) => named(text));
  const keys = found.photos.map((photo) => photo.key);
  const first = [wantedKey, found.last, found.photos.find((p) => p.state === "new" || p.state === "open")?.key, keys[0]];
  const next = first.find((k) => keys.includes(k));
  if (next) await showPhoto(next);
  else panel.banner(`There are no photos in ${name}.`);
}

/** Of several that are asked for while this photo is saved, the last one is opened. */
async function openPhoto(next) {
  const wish = ++wishes;
  if ((await leave()) && wish === wishes) await showPhoto(next);
}

async function showPhoto(next) {
  const turn = ++opening, { name } = project, row = project.photos.find((photo) => photo.key === next);
  const current = () => turn === opening;
  key = next;
  delete document.body.dataset.ready;
  if (decoder) decoder.geometry = null;
  view.show(null);
  editor.open({ width: 0, height: 0 }, null);
  panel.banner("");
  $("photo-name").textContent = $("photo-name").title = row.name;
  document.title = `${row.name} · ${name}`;
  stage.setAttribute("aria-label", `Photo ${row.name}`);
  history.replaceState(null, "", `#${encodeURIComponent(name)}/${encodeURIComponent(next)}`);
  panel.showPhotos(project.photos, key, openPhoto);
  panel.wait("Opening the photo…");
  try {
    const parts = takePhoto(name, next);
    const [bitmap, { document: saved, revision }] = await Promise.all([parts.bitmap, api.document(name, next)]);
    if (!current()) return;
    view.show(bitmap);
    editor.open({ width: saved.width, height: saved.height }, plain(saved));
    sync.open(name, next, plain(saved), revision);
    brushFor(saved);
    changed(editor.value);
    api.remember(name, next).catch(() => {}); // a folder that cannot be written to is told when masks are saved
    await openEmbedding(parts.embedding, current);
  } catch (error) {
    if (current()) panel.banner(error.message);
  } finally {
    if (current()) panel.wait("");
  }
}

async function openEmbedding(embedding, current) {
  if (!decoder) {
    document.body.dataset.ready = key;
    return;
  }
  panel.wait("Looking at the photo…");
  const [buffer] = await Promise.all([embedding, decoder.ready]);
  if (!current()) return;
  const geometry = await decoder.open(buffer);
  if (!current()) return;
  decoder.geometry = geometry;
  document.body.dataset.ready = key;
  editor.refresh();
  const after = project.photos[project.photos.findIndex((photo) => photo.key === key) + 1];
  if (after) fetchAhead(project.name, after.key);
}

/** Save what there is; false if the person has to answer something first. */
async function leave() {
  if (!project || !key) return true;
  do {
    if (!(await editor.settled())) return false; // another photo is here by now
    if (await sync.flush()) continue;
    if (!conflict.ask()) panel.banner("This photo could not be saved, so it stays open.");
    return false;
  } while (editor.value.draft || sync.wanted); // what was done meanwhile is kept, too
  return true;
}

function turnPage(step) {
  const index = project.photos.findIndex((photo) => photo.key === key) + step;
  if (project.photos[index]) openPhoto(project.photos[index].key);
  else panel.say(step > 0 ? "This is the last photo." : "This is the first photo.");
}

async function finish(state) {
  if (!editor.able()) return;
  const { photo } = editor, wish = wishes;
  if (editor.value.draft) await editor.accept();
  if (photo !== editor.photo) return; // the state would be another photo's
  editor.store.step({ state });
  const { name, photos } = project, index = photos.findIndex((photo) => photo.key === key);
  if (!(await leave())) return;
  writeCoco(name, true);
  if (wish !== wishes) return; // on the way elsewhere
  const open = [...photos.slice(index + 1), ...photos.slice(0, index)].find((p) => p.state === "new" || p.state === "open");
  if (open) await openPhoto(open.key);
  else panel.banner("All photos of this project are done.", "note");
}

async function writeCoco(name, quietly) {
  try {
    const { file, images, annotations } = await api.writeCoco(name);
    if (!quietly) panel.banner(`${annotations} masks of ${images} photos are in ${name}/${file}.`, "note");
  } catch (error) {
    panel.banner(`The COCO file could not be written: ${error.message}`);
  }
}

async function prefill() {
  if (!editor.able()) return;
  const turn = opening;
  if (!(await editor.settled()) || !(await sync.flush()) || turn !== opening) return;
  panel.wait("Looking for objects…");
  $("prefill").disabled = true;
  try {
    const records = await api.prefill(project.name, key);
    if (turn !== opening) return;
    if (records.length) editor.propose(records);
    panel.say(`${records.length} masks are proposed.`);
    if (!records.length) panel.banner("Nothing new was found with confidence. Click on what you see.", "note");
  } catch (error) {
    panel.banner(error.message);
  } finally {
    $("prefill").disabled = false;
    panel.wait("");
  }
}

// ---- what changed ----

function changed(value) {
  panel.showMasks(value, {
    select: (uid) => editor.select(uid), edit: (uid) => editor.edit(uid),
    accept: async (uid) => { if (await editor.settled()) editor.acceptMask(uid); },
    reject: async (uid) => { if (await editor.settled()) editor.reject(uid); },
  });
  const { draft } = value, mask = editor.selected(), waiting = value.proposed.includes(mask);
  $("accept").disabled = !(draft || waiting);
  $("reject").disabled = !(draft || mask);
  $("undo").disabled = !editor.store.past.length;
  $("redo").disabled = !editor.store.future.length;
  if (document.activeElement !== $("name")) $("name").value = draft ? draft.label ?? "" : mask ? mask.label ?? "" : editor.name;
  if (!project || editor.locked) return;
  if (!draft || !editor.drafts.waits(draft)) sync.want(editor.document());
  const row = project.photos.find((photo) => photo.key === key);
  const state = row.state === "new" && !editor.store.past.length ? "new" : value.state;
  if (row.masks !== value.annotations.length || row.state !== state) {
    Object.assign(row, { masks: value.annotations.length, proposed: value.proposed.length, state });
    panel.showPhotos(project.photos, key, openPhoto);
  }
}

function named(text) {
  editor.label(text);
  const name = text.trim();
  if (name && !names.includes(name)) {
    names = [name, ...names];
    panel.showNames(names, (chosen) => named(chosen));
  }
  $("name").value = name;
}

/** Coming back to the tab: show what was saved from elsewhere in the meantime, if nothing here is open. */
async function comeBack() {
  if (document.visibilityState !== "visible") return sync.flush();
  if (!project || editor.locked || sync.pending || sync.conflict || editor.value.draft) return;
  const turn = opening;
  const found = await api.document(project.name, key).catch(() => null);
  if (!found || turn !== opening || sync.pending || editor.value.draft || found.revision === sync.revision) return;
  const saved = plain(found.document);
  editor.open(editor.photo, saved);
  sync.open(project.name, key, saved, found.revision);
  panel.say("This photo was changed elsewhere; you see the present masks.");
}

// ---- wiring ----

function brushFor({ width, height }) {
  const side = Math.min(width, height);
  $("radius").max = Math.max(20, Math.round(side / 5));
  setRadius(Math.max(2, Math.round(side / 40)));
}

function setRadius(radius) {
  editor.radius = Math.min(Number($("radius").max), Math.max(1, Math.round(radius)));
  $("radius").value = $("radius-text").textContent = editor.radius;
  const { brush } = view.live;
  if (brush) view.setLive({ brush: { ...brush, radius: editor.radius } });
}

function takeTool(tool) {
  editor.tool = stage.dataset.tool = tool;
  editor.corner = null;
  editor.leave();
  for (const button of $("tools").children) {
    const here = button.dataset.tool === tool;
    button.setAttribute("aria-checked", here);
    button.tabIndex = here ? 0 : -1;
  }
  $("brush-size").hidden = tool !== "brush" && tool !== "eraser";
}

function wire() {
  const on = (id, action) => $(id).addEventListener("click", action);
  const zoom = { "+": () => view.zoomAt(1.25), "=": () => view.zoomAt(1.25), "-": () => view.zoomAt(0.8), 0: () => view.fit() };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const actions = {
    moveCross: (k, event) => { stage.focus(); const far = event.shiftKey ? 10 : 1; editor.moveCross(arrows[k][0] * far, arrows[k][1] * far); },
    clickCross: () => editor.clickCross(1), clickBackground: () => editor.clickCross(0),
    choose: (k) => editor.choose(Number(k) - 1),
    accept: () => editor.accept(), reject: () => editor.reject(), escape: () => editor.escape(),
    click: () => takeTool("click"), box: () => takeTool("box"), brush: () => takeTool("brush"),
    eraser: () => takeTool("eraser"), select: () => takeTool("select"),
    resizeBrush: (k) => setRadius(k === "]" ? editor.radius * 1.2 + 0.6 : editor.radius / 1.2),
    walk: (k) => editor.walk(k === "j" ? 1 : -1), name: () => { $("name").focus(); $("name").select(); },
    edit: () => { takeTool("click"); editor.edit(); }, prefill, acceptAll: () => editor.acceptAll(),
    hide: () => { editor.hidden = !editor.hidden; editor.refresh(); panel.say(editor.hidden ? "Masks hidden." : "Masks shown."); },
    turn: (k) => turnPage(k === "PageDown" ? 1 : -1), done: () => finish("done"), rejectPhoto: () => finish("rejected"),
    zoom: (k) => zoom[k](), undo: () => editor.store.undo() || panel.say("Nothing to undo."),
    redo: () => editor.store.redo() || panel.say("Nothing to redo."), help: () => $("help-dialog").showModal(),
    save: async () => { if (!(await sync.flush())) conflict.ask(); },
  };
  followKeys(actions);
  followPointer(view, () => editor.tool, {
    hover: (x, y) => editor.hover(x, y), leave: () => editor.leave(), click: (x, y, label) => editor.click(x, y, label),
    box: (from, to, done) => editor.box(from, to, done), stroke: (points, done) => editor.stroke(points, done),
    pick: (x, y, change) => editor.pick(x, y, change),
  });
  for (const button of $("tools").children) button.addEventListener("click", () => takeTool(button.dataset.tool));
  $("tools").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const all = [...$("tools").children], next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
    takeTool(next.dataset.tool);
    next.focus();
  });
  takeTool("click");
  for (const button of $("choices").children) button.addEventListener("click", () => editor.choose(Number(button.dataset.choice)));
  for (const box of document.querySelectorAll(".choices, .zoom")) {
    for (const kind of ["pointerdown", "pointermove", "pointerup", "dblclick"]) box.addEventListener(kind, (event) => event.stopPropagation());
  }
  $("name").addEventListener("change", () => named($("name").value));
  $("name").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    if (event.key === "Enter") named($("name").value);
    stage.focus();
  });
  $("radius").addEventListener("input", () => setRadius(Number($("radius").value)));
  $("project").addEventListener("change", () => openProject($("project").value));
  on("previous", () => turnPage(-1));
  on("next", () => turnPage(1));
  on("undo", actions.undo);
  on("redo", actions.redo);
  on("help", actions.help);
  on("accept", actions.accept);
  on("reject", actions.reject);
  on("accept-all", actions.acceptAll);
  on("prefill", prefill);
  on("done", actions.done);
  on("reject-photo", actions.rejectPhoto);
  on("coco", async () => { if (await leave()) writeCoco(project.name); });
  on("zoom-in", zoom["+"]);
  on("zoom-out", zoom["-"]);
  on("fit", zoom[0]);
  on("banner-close", () => panel.banner(""));
  on("keep-both", () => conflict.settle(true));
  on("take-theirs", () => conflict.settle(false));
  document.addEventListener("visibilitychange", comeBack);
  window.addEventListener("beforeunload", (event) => {
    if (!sync.pending) return;
    sync.flush();
    event.preventDefault();
  });
}
