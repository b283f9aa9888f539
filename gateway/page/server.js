// What the server says of itself while the page is open: its facts once, then its figures.

import { stream } from "./api.js";
import { $, h, shown, svg } from "./dom.js";
import { colourOf } from "./tokens.js";

const POINTS = 60; // of the curve: half a minute
const SMOOTH = 4; // samples that a rate is taken over
const BACKOFF = [300, 600, 1200, 2500, 5000]; // ms between attempts to find the server again

/** Follows the server for as long as the page lives. Handlers: `facts(server)`, `state(name, error)`. */
export async function followServer(handlers, restart = new AbortController()) {
  let failures = 0;
  const samples = [];
  for (;;) {
    try {
      const { events } = await stream("v1/playground/events", { signal: restart.signal });
      for await (const event of events) {
        failures = 0;
        if (event.type === "server") {
          samples.length = 0;
          handlers.facts(event);
          handlers.state("live");
        } else {
          samples.push(event);
          if (samples.length > POINTS + SMOOTH) samples.shift();
          drawLevels(samples);
        }
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 401 || error.status === 403) {
        handlers.state("key", error);
        return; // asked again once there is another key
      }
      handlers.state("gone", error);
    }
    await new Promise((done) => setTimeout(done, BACKOFF[Math.min(failures++, BACKOFF.length - 1)]));
    if (restart.signal.aborted) return;
  }
}

const total = (counts) => Object.values(counts).reduce((sum, count) => sum + count, 0);

/** Tokens per second between two samples; 0 where the engine has started anew. */
function rate(earlier, later) {
  const seconds = later.seconds - earlier.seconds;
  return seconds > 0 ? Math.max(0, (total(later.tokens) - total(earlier.tokens)) / seconds) : 0;
}

function drawLevels(samples) {
  const now = samples.at(-1);
  const rates = samples.map((sample, index) => rate(samples[Math.max(0, index - SMOOTH)], sample));
  $("#figure-speed").textContent = shown(rates.at(-1));
  $("#figure-running").textContent = now.running;
  $("#figure-waiting").textContent = now.waiting;
  const used = now.blocks ? now.blocks_used / now.blocks : 0;
  $("#figure-kv").textContent = `${Math.round(100 * used)} %`;
  $("#meter-kv").value = used;
  drawCurve(rates.slice(-POINTS));
  drawAcceptance(now);
  drawOrigins(now.tokens);
}

function drawCurve(rates) {
  const top = Math.max(10, ...rates);
  const points = rates.map((value, index) => `${((POINTS - rates.length + index) * 200) / (POINTS - 1)},${46 - (42 * value) / top}`);
  const first = points[0].split(",")[0];
  $("#curve").replaceChildren(
    svg("polygon", { points: `${first},48 ${points.join(" ")} 200,48`, class: "curve-area" }),
    svg("polyline", { points: points.join(" "), class: "curve-line" }),
  );
}

/** How many of each method's guesses were right, since the server started. */
function drawAcceptance({ drafted, accepted }) {
  const methods = Object.keys(drafted).filter((method) => drafted[method] > 0);
  const rows = methods.map((method) => {
    const share = (accepted[method] ?? 0) / drafted[method];
    return h("div", { class: "bar-row" },
      h("dt", {}, method),
      h("dd", {}, bar([[share, colourOf(method)]]), h("span", { class: "number" }, `${Math.round(100 * share)} %`)));
  });
  $("#acceptance").replaceChildren(...rows);
  $("#acceptance-none").hidden = rows.length > 0;
}

function drawOrigins(tokens) {
  const all = total(tokens);
  const parts = Object.entries(tokens).filter(([, count]) => count).sort(([, one], [, other]) => other - one);
  $("#origins").replaceChildren(bar(parts.map(([origin, count]) => [count / all, colourOf(origin)])));
  const items = parts.map(([origin, count]) =>
    h("li", { class: colourOf(origin) }, h("span", { class: "swatch", "aria-hidden": "true" }), origin, h("span", { class: "number" }, ` ${Math.round((100 * count) / all)} %`)));
  $("#origins-legend").replaceChildren(...items);
}

/** A bar of parts, each a share from 0 to 1 and its colour. What it says stands beside it as text. */
export function bar(parts) {
  return h("span", { class: "bar", "aria-hidden": "true" }, parts.map(([share, colour]) => {
    const part = h("span", { class: `bar-part ${colour}` });
    part.style.width = `${100 * share}%`;
    return part;
  }));
}
