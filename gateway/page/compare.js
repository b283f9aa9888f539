// What the same request gave without speculation and with it.

import { duration, h, shown } from "./dom.js";

/** What is to be said of two answers, as nodes. */
export function comparison(off, on, seed) {
  const isSame = off.text === on.text && JSON.stringify(off.toolCalls) === JSON.stringify(on.toolCalls);
  const verdict = isSame
    ? h("span", { class: "verdict good" }, "✓ Identical texts")
    : h("span", { class: "verdict bad" }, "✗ The texts differ");
  const times = [off, on].map(seconds);
  const ratio = times[0] / times[1];
  const speed = h("span", {}, h("b", {}, `${shown(ratio)}×`), ` the speed: ${duration(1000 * times[0])} without, ${duration(1000 * times[1])} with`);
  return [verdict, speed, h("span", { class: "quiet" }, `seed ${seed}`)];
}

/** From the request's arrival to its last token as the server says, else as the page saw it. */
function seconds({ metrics, began, ended }) {
  const ms = metrics ? metrics.time_to_first_token_ms + metrics.generation_time_ms : ended - began;
  return ms / 1000;
}
