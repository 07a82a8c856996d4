// Mouse, pen and fingers on the stage: what they mean in each tool.

const STILL = 5; // CSS pixels that a click may move
const LONG = 550; // milliseconds of a finger at rest: a click on the background

/**
 * @param view the View; `tool()` names the tool in hand.
 * @param on { hover(x, y), leave(), click(x, y, label, extend), box(from, to, done), stroke(points, done, erase), pick(x, y) },
 *     in pixels of the photo.
 */
export function followPointer(view, tool, on) {
  const { stage } = view;
  const fingers = new Map();
  let gesture = null;

  const place = (event) => view.toPhoto(event.clientX, event.clientY);
  const capture = (event) => { try { stage.setPointerCapture(event.pointerId); } catch { /* gone already */ } };

  stage.addEventListener("pointerdown", (event) => {
    if (!view.bitmap) return;
    stage.focus({ preventScroll: true });
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    capture(event);
    if (event.pointerType === "touch" && fingers.size === 2) return pinch();
    if (fingers.size > 1) return;
    on.leave();
    const pan = event.button === 1 || stage.dataset.panning === "yes" || tool() === "pan";
    gesture = { kind: pan ? "pan" : "begun", start: [event.clientX, event.clientY], last: [event.clientX, event.clientY],
      button: event.button, points: [place(event)], finger: event.pointerType === "touch" };
    if (!pan && (tool() === "brush" || tool() === "eraser") && event.button !== 2) {
      gesture.kind = "stroke";
      on.stroke(gesture.points, false);
    }
    if (gesture.finger && gesture.kind === "begun" && tool() === "click") {
      gesture.timer = setTimeout(() => {
        if (gesture?.kind !== "begun") return;
        gesture.kind = "over";
        navigator.vibrate?.(15);
        on.click(...gesture.points[0], 0);
      }, LONG);
    }
  });

  stage.addEventListener("pointermove", (event) => {
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (gesture?.kind === "pinch") return pinched();
    if (!gesture) {
      if (view.bitmap && event.pointerType !== "touch") on.hover(...place(event));
      return;
    }
    const [dx, dy] = [event.clientX - gesture.last[0], event.clientY - gesture.last[1]];
    const far = Math.hypot(event.clientX - gesture.start[0], event.clientY - gesture.start[1]) > STILL;
    if (gesture.kind === "begun" && far) {
      clearTimeout(gesture.timer);
      gesture.kind = tool() === "box" ? "box" : "pan";
    }
    if (gesture.kind === "pan") view.pan(dx, dy);
    if (gesture.kind === "box") on.box(gesture.points[0], place(event), false);
    if (gesture.kind === "stroke") {
      const between = event.getCoalescedEvents?.() ?? [];
      for (const one of between.length ? between : [event]) gesture.points.push(place(one));
      on.stroke(gesture.points, false);
    }
    gesture.last = [event.clientX, event.clientY];
  });

  stage.addEventListener("pointerup", (event) => {
    fingers.delete(event.pointerId);
    const ended = gesture;
    if (!ended || ended.kind === "pinch") {
      if (!fingers.size) gesture = null;
      return;
    }
    gesture = null;
    clearTimeout(ended.timer);
    if (ended.kind === "box") on.box(ended.points[0], place(event), true);
    if (ended.kind === "stroke") on.stroke(ended.points, true);
    if (ended.kind !== "begun") return;
    if (tool() === "select") on.pick(...ended.points[0]);
    else if (tool() !== "box") {
      const negative = ended.button === 2 || event.altKey || event.ctrlKey || event.metaKey;
      on.click(...ended.points[0], negative ? 0 : 1);
    }
  });

  stage.addEventListener("pointercancel", (event) => {
    fingers.delete(event.pointerId);
    clearTimeout(gesture?.timer);
    if (gesture?.kind === "stroke") on.stroke(gesture.points, true);
    gesture = null;
  });
  stage.addEventListener("pointerleave", () => !gesture && on.leave());
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("dblclick", (event) => {
    if (tool() === "select") on.pick(...place(event), true);
  });
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      const lines = event.deltaMode === 1 ? 16 : 1;
      if (event.shiftKey && !event.ctrlKey) return view.pan(-event.deltaY * lines, -event.deltaX * lines);
      const strength = event.ctrlKey ? 0.01 : 0.0016; // a pinch on a touch pad arrives as Ctrl and the wheel
      view.zoomAt(Math.exp(-event.deltaY * lines * strength), event.clientX - box.left, event.clientY - box.top);
    },
    { passive: false },
  );

  function pinch() {
    clearTimeout(gesture?.timer);
    if (gesture?.kind === "stroke") on.stroke(null, true); // two fingers were meant: no stroke
    if (gesture?.kind === "box") on.box(null, null, true);
    gesture = { kind: "pinch", ...middle() };
  }

  function pinched() {
    if (fingers.size < 2) return;
    const now = middle(), box = stage.getBoundingClientRect();
    view.pan(now.x - gesture.x, now.y - gesture.y);
    view.zoomAt(now.apart / gesture.apart, now.x - box.left, now.y - box.top);
    Object.assign(gesture, now);
  }

  function middle() {
    const [[ax, ay], [bx, by]] = [...fingers.values()];
    return { x: (ax + bx) / 2, y: (ay + by) / 2, apart: Math.max(1, Math.hypot(ax - bx, ay - by)) };
  }
}
