// The same HTTP interface that scripts use.

/** Where the dashboard lives, whatever path a proxy puts it under. */
export const base = new URL("../../", import.meta.url);

/** An answer that says no: `status` is HTTP's, or 0 when nothing answered. */
export class ApiError extends Error {
  constructor(message, status, body = null) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.body = body;
  }
}

/** Address of `path` ("run" or "/api/run") with its parameters; null and undefined are left out. */
export function address(path, params = {}) {
  let relative = path.replace(/^\/+/, "");
  if (!/^(api|static|metrics)(\/|$)/.test(relative)) relative = `api/${relative}`;
  const url = new URL(relative, base);
  for (const [name, value] of Object.entries(params ?? {})) {
    if (value === null || value === undefined) continue;
    url.searchParams.set(name, Array.isArray(value) ? value.join(",") : String(value));
  }
  return url;
}

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new ApiError("The dashboard's server does not answer.", 0);
  }
  if (response.ok) return response;
  let message = `The server answered ${response.status}.`;
  let body = null;
  try {
    body = await response.json();
    if (typeof body.error === "string") message = body.error;
  } catch {
    // Not JSON: the status says enough.
  }
  throw new ApiError(message, response.status, body);
}

/** GET; resolves to the JSON. Throws ApiError. */
export async function get(path, params) {
  return (await ask(address(path, params), {})).json();
}

/** A key for one action: a repeated POST with the same key has no second effect. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** POST; resolves to the JSON. Repeats once, with the same key, if nothing answers. */
export async function post(path, body = {}, { key = newKey() } = {}) {
  const options = {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": key },
    body: JSON.stringify(body),
  };
  const url = address(path);
  try {
    return await (await ask(url, options)).json();
  } catch (error) {
    if (error.status !== 0) throw error;
    await new Promise((done) => setTimeout(done, 700));
    return (await ask(url, options)).json();
  }
}

/** Save a Blob, or what is at `path` (string or URL), as a file called `name`. */
export async function download(what, name) {
  const blob =
    what instanceof Blob
      ? what
      : await (await ask(what instanceof URL ? what : address(what), {})).blob();
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
