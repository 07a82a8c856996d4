// The next photo is fetched, and with that encoded, while this one is worked on.

import * as api from "./api.js";

let ahead = null;

export function fetchAhead(project, key) {
  ahead = fetchPhoto(project, key);
}

/** What was fetched ahead, if it is of this photo: keys are made of names, so that projects may have one in common. */
export function takePhoto(project, key) {
  const parts = ahead?.project === project && ahead.key === key ? ahead : fetchPhoto(project, key);
  ahead = null;
  return parts;
}

/** Promises of a photo's picture and embedding. */
function fetchPhoto(project, key) {
  const bitmap = api.picture(project, key).then(createImageBitmap), embedding = api.embedding(project, key);
  bitmap.catch(() => {});
  embedding.catch(() => {}); // told when the photo is opened
  return { project, key, bitmap, embedding };
}
