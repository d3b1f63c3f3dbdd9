// What the page asks of the server. The key is kept for this tab only.

let key = sessionStorage.getItem("muxjax-key") ?? "";

let adminKey = sessionStorage.getItem("muxjax-admin-key") ?? "";

export const getKey = () => key;
export const getAdminKey = () => adminKey;

export function setKey(value) {
  key = value.trim();
  sessionStorage.setItem("muxjax-key", key);
}

export function setAdminKey(value) {
  adminKey = value.trim();
  sessionStorage.setItem("muxjax-admin-key", adminKey);
}

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function get(path) {
  return (await answered(path, {})).json();
}

/** What administration answers to a change of the models. */
export async function change(method, path, body) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${adminKey}` };
  return (await answered(`admin/models${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) })).json();
}

/** The JSON objects of a stream of server-sent events, until [DONE]. */
export async function* stream(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const response = await answered(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  for await (const line of lines(response.body)) {
    if (!line.startsWith("data: ")) continue;
    if (line === "data: [DONE]") return;
    const event = JSON.parse(line.slice(6));
    if (event.error) throw new ServerError(500, event.error.message);
    yield event;
  }
}

async function answered(path, options) {
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...options.headers };
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw new ServerError(response.status, told?.error?.message ?? `The server answered ${response.status}.`);
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}
