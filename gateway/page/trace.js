// The waterfall of one request: its spans, and where its time went inside the engine.

import { json } from "./api.js";
import { duration, h } from "./dom.js";

const ATTEMPTS = 8; // spans are exported a little after the answer's end
const PAUSE = 250; // ms

/** The id of the trace that an answer belongs to, or null. */
export function traceId(response) {
  return /^[0-9a-f]{2}-([0-9a-f]{32})-/.exec(response.headers.get("traceresponse") ?? "")?.[1] ?? null;
}

/** An element with the waterfall of a trace. */
export function traceView(id) {
  const element = h("section", { class: "trace", "aria-label": "Trace of this request" }, h("p", { class: "quiet" }, "Waiting for the trace …"));
  load(id).then(
    (spans) => element.replaceChildren(...(spans.length ? [waterfall(spans)] : [h("p", { class: "quiet" }, "The server no longer has this trace.")])),
    (error) => element.replaceChildren(h("p", { class: "error" }, `The trace cannot be shown: ${error.message}`)),
  );
  return element;
}

async function load(id) {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const spans = spansOf(await json("traces"), id);
    if (spans.length > 1) return spans;
    if (attempt === ATTEMPTS - 1) return spans;
    await new Promise((done) => setTimeout(done, PAUSE));
  }
  return [];
}

/** The spans of one trace, whether the server groups them by trace or lists them. */
function spansOf(answer, id) {
  const listed = Array.isArray(answer) ? answer : (answer.traces ?? answer.spans ?? answer.data ?? []);
  const spans = listed.flatMap((one) => (Array.isArray(one.spans) ? one.spans.map((span) => ({ trace_id: one.trace_id, ...span })) : [one]));
  return spans.filter((span) => span.trace_id === id).map(timed).sort((one, other) => one.start - other.start);
}

/** A span with its times in milliseconds. */
function timed(span) {
  const start = typeof span.start === "string" ? microseconds(span.start) / 1000 : Number(span.start);
  return { ...span, start, length: Number(span.duration_ms ?? 0) };
}

/** Of an ISO time; Date knows milliseconds alone. */
function microseconds(text) {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? "";
  const whole = Date.parse(text.replace(/\.\d+/, ""));
  return whole * 1000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}

const PHASES = [
  ["queue", "outrider.queue.seconds"],
  ["prefill", "outrider.prefill.seconds"],
  ["decode", "outrider.decode.seconds"],
];

/** What an inference span tells of its inside, as spans that end with it. */
function phases(span) {
  const lengths = PHASES.map(([name, attribute]) => ({ name, length: 1000 * Number(span.attributes?.[attribute] ?? NaN) }));
  const known = lengths.filter(({ length }) => Number.isFinite(length));
  let start = span.start + span.length - known.reduce((sum, { length }) => sum + length, 0);
  return known.map(({ name, length }) => {
    const phase = { name, start, length, isPhase: true };
    start += length;
    return phase;
  });
}

function waterfall(spans) {
  const byId = new Map(spans.map((span) => [span.span_id, span]));
  const depth = (span) => (byId.has(span.parent_id) ? 1 + depth(byId.get(span.parent_id)) : 0);
  const rows = [];
  for (const span of spans) {
    rows.push({ ...span, depth: depth(span) });
    const isParent = spans.some((other) => other.parent_id === span.span_id);
    if (!isParent) rows.push(...phases(span).map((phase) => ({ ...phase, depth: depth(span) + 1 })));
  }
  const begin = Math.min(...rows.map((row) => row.start));
  const whole = Math.max(...rows.map((row) => row.start + row.length)) - begin || 1;
  return h("div", { role: "table", "aria-label": "Waterfall" }, rows.map((row) => spanRow(row, begin, whole)));
}

function spanRow(row, begin, whole) {
  const line = h("span", { class: `span-bar${row.isPhase ? ` phase-${row.name}` : ""}` });
  line.style.left = `${(100 * (row.start - begin)) / whole}%`;
  line.style.width = `${Math.max(0.4, (100 * row.length) / whole)}%`;
  const name = h("span", { class: "span-name", role: "rowheader" }, row.name);
  name.style.paddingLeft = `${row.depth}rem`;
  const time = h("span", { class: "span-time number", role: "cell" }, duration(row.length));
  const element = h("div", { class: "span-row", role: "row" }, name, h("span", { class: "span-track", role: "cell", "aria-label": `after ${duration(row.start - begin)}` }, line), time);
  const attributes = Object.entries(row.attributes ?? {});
  if (!attributes.length) return element;
  const list = attributes.map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, Array.isArray(value) ? value.join(", ") : String(value))));
  const words = `${attributes.length} attribute${attributes.length > 1 ? "s" : ""}`;
  const details = h("details", { class: "attributes" }, h("summary", {}, words), h("dl", {}, list));
  return h("div", { role: "rowgroup" }, element, h("div", { role: "row" }, h("div", { role: "cell" }, details)));
}
