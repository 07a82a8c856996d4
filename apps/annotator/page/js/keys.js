// The keyboard: one table, from which the help is made too.

export const KEYS = [
  ["Outline", [
    ["←↑→↓", "Move the cross (with Shift: ten times as far)", ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"], "moveCross"],
    ["Space", "Click on the object at the cross; brush: a dab; box: a corner", [" "], "clickCross"],
    ["X", "Click on the background at the cross", ["x"], "clickBackground"],
    ["1 2 3", "The three masks that one click may mean", ["1", "2", "3"], "choose"],
    ["Enter, A", "Accept the mask", ["Enter", "a"], "accept"],
    ["Delete, R", "Reject the mask", ["Delete", "Backspace", "r"], "reject"],
    ["Esc", "Drop what is being made", ["Escape"], "escape"],
  ]],
  ["Tools", [
    ["C", "Click", ["c"], "click"],
    ["B", "Box", ["b"], "box"],
    ["D", "Brush", ["d"], "brush"],
    ["E", "Eraser", ["e"], "eraser"],
    ["S", "Select a mask", ["s"], "select"],
    ["[ ]", "Smaller and larger brush", ["[", "]"], "resizeBrush"],
  ]],
  ["Masks", [
    ["J K", "Next and previous mask", ["j", "k"], "walk"],
    ["N", "Name the mask", ["n"], "name"],
    ["T", "Change the selected mask with clicks", ["t"], "edit"],
    ["P", "Prefill: propose confident masks", ["p"], "prefill"],
    ["Shift A", "Accept all proposed masks", ["A"], "acceptAll"],
    ["H", "Hide and show all masks", ["h"], "hide"],
  ]],
  ["Photo", [
    ["Page ↓ ↑", "Next and previous photo", ["PageDown", "PageUp"], "turn"],
    ["Shift Enter", "Photo is done: on to the next open one", ["Shift+Enter"], "done"],
    ["Shift R", "Reject the photo: not to be used", ["R"], "rejectPhoto"],
    ["+ − 0", "Zoom in, out, fit", ["+", "=", "-", "0"], "zoom"],
  ]],
  ["Everywhere", [
    ["Ctrl Z", "Undo", ["Ctrl+z"], "undo"],
    ["Ctrl Shift Z, Ctrl Y", "Redo", ["Ctrl+Z", "Ctrl+y"], "redo"],
    ["Ctrl S", "Save now", ["Ctrl+s"], "save"],
    ["?", "This help", ["?"], "help"],
  ]],
];

export const MOUSE = [
  ["Move", "Look at the mask that a click would give"],
  ["Click", "The object; with the right button, Alt or Ctrl: the background"],
  ["Drag", "Move the photo; box: from corner to corner; brush and eraser: paint"],
  ["Wheel, pinch", "Zoom; middle button or two fingers: move the photo"],
  ["Finger at rest", "Click on the background"],
];

const byKey = new Map(
  KEYS.flatMap(([, rows]) => rows.flatMap(([, , keys, action]) => keys.map((key) => [key, action]))),
);

/** Call `actions[name](key, event)` for keys that are not meant for a field, a list or a dialog. */
export function followKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    const control = event.ctrlKey || event.metaKey;
    const typing = event.target.matches("input:not([type=range]), select, textarea");
    if (typing && !control) return;
    if (!control && event.target.matches("button, summary, a, input") && [" ", "Enter"].includes(event.key)) return;
    if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    const name = lookUp(event, control);
    if (!name || event.altKey) return;
    event.preventDefault();
    actions[name](event.key, event);
  });
}

function lookUp(event, control) {
  if (control) return byKey.get(`Ctrl+${event.shiftKey ? event.key.toUpperCase() : event.key.toLowerCase()}`);
  if (event.key === "Enter" && event.shiftKey) return byKey.get("Shift+Enter");
  return byKey.get(event.key) ?? (event.shiftKey ? undefined : byKey.get(event.key.toLowerCase()));
}

/** The help's tables. */
export function helpTables() {
  const tables = [...KEYS.map(([title, rows]) => [title, rows.map(([keys, text]) => [keys, text])]), ["Pointer", MOUSE]];
  return tables.map(([title, rows]) => {
    const section = document.createElement("section");
    section.append(Object.assign(document.createElement("h3"), { textContent: title }));
    const list = document.createElement("dl");
    for (const [keys, text] of rows) {
      const term = document.createElement("dt");
      for (const key of keys.split(", ")) {
        term.append(Object.assign(document.createElement("kbd"), { textContent: key }), " ");
      }
      list.append(term, Object.assign(document.createElement("dd"), { textContent: text }));
    }
    section.append(list);
    return section;
  });
}
