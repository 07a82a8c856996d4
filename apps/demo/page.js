// What the server cannot show in time: the box while its second corner is sought, and the name of the mask under
// the pointer. Without this script the page works all the same.
(() => {
  "use strict";

  const made = {};
  const overlay = (id) => {
    if (!made[id]) {
      made[id] = document.createElement("div");
      made[id].id = id;
      made[id].setAttribute("aria-hidden", "true");
      document.body.append(made[id]);
    }
    return made[id];
  };
  const hide = (id) => {
    if (made[id]) made[id].style.display = "none";
  };

  // ---- the box from the corner that waits (#pending holds it, in pixels of the picture) to the pointer ----
  const drawBand = (event) => {
    const corner = document.querySelector("#pending span[data-x]");
    const image = document.querySelector("#photo img");
    if (!corner || !image || event.target !== image) return hide("band");
    const frame = image.getBoundingClientRect();
    const scale = frame.width / image.naturalWidth;
    const x = frame.left + corner.dataset.x * scale;
    const y = frame.top + corner.dataset.y * scale;
    Object.assign(overlay("band").style, {
      display: "block",
      left: `${Math.min(x, event.clientX)}px`,
      top: `${Math.min(y, event.clientY)}px`,
      width: `${Math.abs(event.clientX - x)}px`,
      height: `${Math.abs(event.clientY - y)}px`,
    });
  };

  // ---- the mask under the pointer: the topmost that is not clear there ----
  const READ_SIDE = 256;
  const read = new WeakMap();
  const pixelsOf = (image) => {
    const known = read.get(image);
    if (known && known.src === image.src) return known;
    if (!image.complete || !image.naturalWidth) return null;
    const scale = Math.min(1, READ_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
    canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const found = {
      src: image.src,
      width: canvas.width,
      height: canvas.height,
      data: context.getImageData(0, 0, canvas.width, canvas.height).data,
    };
    read.set(image, found);
    return found;
  };

  let current = null;
  const point = (item) => {
    if (item === current) return;
    if (current) current.dispatchEvent(new MouseEvent("mouseout", { bubbles: true }));
    current = item;
    if (item) item.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
  };
  const leave = () => {
    point(null);
    hide("tip");
  };

  const nameMask = (event) => {
    const base = document.querySelector("#result .base-image");
    if (!base) return leave();
    if (event.target.closest(".legend-item")) return hide("tip");
    const frame = base.getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width;
    const y = (event.clientY - frame.top) / frame.height;
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return leave();
    const masks = [...document.querySelectorAll("#result .mask")];
    const items = document.querySelectorAll("#result .legend-item");
    for (let i = masks.length - 1; i >= 0; i -= 1) {
      const pixels = pixelsOf(masks[i]);
      if (!pixels || !items[i]) continue;
      const column = Math.floor(x * pixels.width);
      const row = Math.floor(y * pixels.height);
      if (pixels.data[4 * (row * pixels.width + column) + 3] < 40) continue;
      point(items[i]);
      const tip = overlay("tip");
      tip.textContent = items[i].textContent;
      tip.style.display = "block";
      const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
      Object.assign(tip.style, { left: `${left}px`, top: `${Math.max(4, event.clientY - 34)}px` });
      return undefined;
    }
    return leave();
  };

  // ---- the legend in the order of the table; the masks themselves lie with the small ones on top ----
  const number = () => {
    for (const item of document.querySelectorAll("#result .legend-item")) {
      const place = String(parseInt(item.textContent, 10) || 0);
      if (item.style.order !== place) item.style.order = place;
    }
  };
  new MutationObserver(number).observe(document.documentElement, {
    subtree: true, childList: true, characterData: true, attributeFilter: ["style"],
  });

  const onPointer = (event) => {
    if (!(event.target instanceof Element)) return;
    drawBand(event);
    if (event.target.closest("#result")) nameMask(event);
    else if (current) leave();
  };
  document.addEventListener("pointermove", onPointer);
  document.addEventListener("pointerdown", onPointer);
  document.addEventListener("click", () => hide("band")); // a second corner ends it; a move draws one that goes on
  document.addEventListener("scroll", () => { hide("band"); leave(); }, true);
})();
