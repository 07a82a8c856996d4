// The lists beside the photo.

import { colourOf } from "./outline.js";
import { listed } from "./store.js";

const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function icon(name) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `page/icons.svg#${name}`);
  made.setAttribute("aria-hidden", "true");
  made.append(use);
  return made;
}

function iconButton(name, text, action) {
  const button = element("button", { type: "button", className: "icon", title: text }, icon(name),
    element("span", { className: "only-read", textContent: text }));
  button.addEventListener("click", action);
  return button;
}

/** The colour of a mask: of its name, else of itself. */
export function colour(mask) {
  return colourOf(mask.label ?? mask.uid);
}

const WHENCE = { clicks: "clicks", box: "box", brush: "brush", detect: "detector", everything: "automatic" };

/** @param on { select(uid), edit(uid), accept(uid), reject(uid) } */
export function showMasks(value, on) {
  const list = $("masks");
  const focused = list.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.uid : null;
  const proposed = new Set(value.proposed);
  list.replaceChildren(
    ...listed(value).map((mask) => {
      const waiting = proposed.has(mask);
      const row = element("li");
      row.dataset.uid = mask.uid;
      row.dataset.kind = waiting ? "proposed" : "kept";
      row.dataset.selected = mask.uid === value.selected ? "yes" : "no";
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = swatch.style.borderColor = colour(mask);
      const name = element("span", { className: mask.label ? "what" : "what unnamed", textContent: mask.label ?? "no name" });
      const told = mask.draft ? "unfinished" : WHENCE[mask.source];
      const pick = element("button", { type: "button", className: "pick" }, swatch, name,
        element("span", { className: "more", textContent: told }));
      if (waiting) pick.append(element("span", { className: "only-read", textContent: ", proposed" }));
      pick.setAttribute("aria-pressed", mask.uid === value.selected);
      pick.addEventListener("click", () => on.select(mask.uid));
      row.append(pick);
      if (waiting) row.append(iconButton("yes", "Accept this mask", () => on.accept(mask.uid)));
      else row.append(iconButton("edit", "Change this mask", () => on.edit(mask.uid)));
      row.append(iconButton("no", "Reject this mask", () => on.reject(mask.uid)));
      return row;
    }),
  );
  const count = value.annotations.length, open = value.proposed.length;
  $("masks-title").textContent = `${count} ${count === 1 ? "mask" : "masks"}${open ? `, ${open} proposed` : ""}`;
  $("none").hidden = count + open > 0;
  $("accept-all").hidden = open < 2;
  if (focused) list.querySelector(`li[data-uid="${focused}"] .pick`)?.focus();
  list.querySelector("li[data-selected=yes]")?.scrollIntoView({ block: "nearest" });
}

/** @param choose called with a name that is clicked on. */
export function showNames(names, choose) {
  $("names").replaceChildren(...names.map((name) => element("option", { value: name })));
  $("often").replaceChildren(
    ...names.slice(0, 6).map((name) => {
      const button = element("button", { type: "button", textContent: name });
      button.addEventListener("click", () => choose(name));
      return button;
    }),
  );
}

const STATES = { new: "untouched", open: "begun", done: "done", rejected: "rejected", unreadable: "damaged file" };

/** @param open called with the key of a photo that is clicked on. */
export function showPhotos(photos, current, open) {
  $("photos").replaceChildren(
    ...photos.map((photo) => {
      const told = photo.masks ? `${photo.masks} · ${STATES[photo.state]}` : STATES[photo.state];
      const button = element("button", { type: "button", title: photo.name },
        element("span", { className: "dot" }),
        element("span", { className: "name", textContent: photo.name }),
        element("span", { className: "more", textContent: told }));
      button.dataset.state = photo.state;
      button.setAttribute("aria-current", photo.key === current);
      button.addEventListener("click", () => open(photo.key));
      return element("li", {}, button);
    }),
  );
  const finished = photos.filter((p) => p.state === "done" || p.state === "rejected").length;
  $("progress").max = Math.max(1, photos.length);
  $("progress").value = finished;
  $("progress-text").textContent = `${finished} of ${photos.length} done`;
}

export function showChoices(choices) {
  $("choices").hidden = !choices;
  if (!choices) return;
  for (const button of $("choices").querySelectorAll("button")) {
    const number = Number(button.dataset.choice);
    button.querySelector("span").textContent = `${Math.round(100 * Math.min(1, Math.max(0, choices.scores[number])))} %`;
    button.title = `Mask ${number + 1}: how good the model thinks it is`;
    button.setAttribute("aria-pressed", number === choices.chosen);
  }
}

/** A line across the page: kind "bad" or "note"; empty text hides it. */
export function banner(text, kind = "bad") {
  $("banner").hidden = !text;
  $("banner").dataset.kind = kind;
  $("banner-text").textContent = text;
}

/** What is being waited for; empty text hides it. */
export function wait(text) {
  $("wait").hidden = !text;
  $("wait-text").textContent = text;
}

/** For those who hear the page. */
export function say(text) {
  $("say").textContent = text;
}

export function showSaved(state, message) {
  $("saved").dataset.state = state;
  $("saved").textContent = $("saved").title = message;
}
