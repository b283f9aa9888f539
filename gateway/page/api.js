// Speaks to the server this page came from, and to no other.

/** What the server refused, or that it is not there. `status` is 0 where no answer came. */
export class ApiError extends Error {
  constructor(message, { status = 0, param = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.param = param;
    this.retryAfter = retryAfter; // seconds
  }
}

const KEY = "outrider.key";
const BUSY = 8; // ms of work on what has arrived at once, then the page may draw
const LOST = "The connection to the server was lost";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  /** Kept until the tab is closed. */
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** One request. `body` makes it a POST. Raises ApiError for whatever is not an answer. */
async function ask(path, { body, signal } = {}) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    const method = body === undefined ? "GET" : "POST";
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // A proxy may answer in other forms; the status says enough then.
  }
  const message = typeof error.message === "string" ? error.message : `The server answered with status ${response.status}`;
  const retryAfter = Number(response.headers.get("retry-after-ms")) / 1000 || Number(response.headers.get("retry-after"));
  return new ApiError(message, { status: response.status, param: error.param, retryAfter: retryAfter || null });
}

/** A JSON answer. */
export async function json(path, options) {
  const response = await ask(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(LOST);
  }
}

/** A stream of server-sent events: its response, and its events' JSON as it comes. `end` is the text that ends it. */
export async function stream(path, { end, ...options }) {
  const response = await ask(path, options);
  return { response, events: events(response, end) };
}

/** Lets the page draw, and handle what its user does. Unlike a timer it is not slowed down in a hidden page. */
function pause() {
  return new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      done();
    };
    port2.postMessage(null);
  });
}

async function* events(response, end) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let worked = performance.now();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === end) return;
        const event = JSON.parse(data);
        if (event.error) throw new ApiError(event.error.message, { param: event.error.param, status: 500 });
        yield event;
        if (performance.now() - worked > BUSY) {
          await pause();
          worked = performance.now();
        }
      }
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError(LOST);
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new ApiError(LOST);
}
