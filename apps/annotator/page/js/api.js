// What the page asks of the server.

const ROOT = new URL("../../api/", import.meta.url).href;

export class ServerError extends Error {
  constructor(status, problem, revision) {
    super(problem.detail ?? `the server answered ${status}`);
    this.status = status;
    this.code = problem.code;
    this.revision = revision;
  }
}

export function address(...parts) {
  return ROOT + parts.map(encodeURIComponent).join("/");
}

async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch {
    throw new ServerError(0, { detail: "the server cannot be reached: is it still running?", code: "unreachable" });
  }
  if (answer.ok) return answer;
  throw new ServerError(answer.status, await answer.json().catch(() => ({})), revisionOf(answer));
}

function revisionOf(answer) {
  return answer.headers.get("ETag")?.replace(/^W\//, "").replaceAll('"', "") ?? null;
}

const json = async (url, options) => (await ask(url, options)).json();
const photo = (project, key, what) => address("projects", project, "photos", key, what);

export const model = () => json(address("model"));
export const projects = () => json(address("projects"));
export const project = (name) => json(address("projects", name));
export const remember = (name, key) => ask(address("projects", name, "last", key), { method: "PUT" });
export const writeCoco = (name) => json(address("projects", name, "coco"), { method: "POST" });
export const picture = async (name, key) => (await ask(photo(name, key, "picture"))).blob();
export const embedding = async (name, key) => (await ask(photo(name, key, "embedding"))).arrayBuffer();
export const prefill = (name, key) => json(photo(name, key, "prefill"), { method: "POST" });
export const graph = (digest, name) => `${ROOT}decoder/${digest}/${name}.onnx`;

/** A photo's masks and their revision. */
export async function document(name, key) {
  const answer = await ask(photo(name, key, "document"));
  return { document: await answer.json(), revision: revisionOf(answer) };
}

/** Save; the new revision. A ServerError of status 409 tells that somebody else has saved since `revision`. */
export async function save(name, key, document, revision) {
  const answer = await ask(photo(name, key, "document"), {
    method: "PUT",
    headers: { "Content-Type": "application/json", "If-Match": `"${revision}"` },
    body: JSON.stringify(document),
  });
  return revisionOf(answer);
}
