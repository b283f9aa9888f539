// The token view: each token coloured by who gave it, and what is known of one of them.

import { h, shown } from "./dom.js";

/** Who can give a token. Others are shown by their name, in the colour of `other`. */
export const ORIGINS = {
  target: "drawn by the model, in a step without guesses",
  bonus: "drawn by the model, behind its step's accepted guesses",
  ngram: "guessed from a repetition in the text",
  suffix: "guessed from what followed the newest tokens before",
  prediction: "guessed from the prediction that the request brought",
  grammar: "what the schema left no choice about",
  draft: "guessed by the draft model",
  eagle: "guessed by the EAGLE head",
  medusa: "guessed by the Medusa heads",
};

export const colourOf = (origin) => `origin-${Object.hasOwn(ORIGINS, origin) ? origin : "other"}`;
const PER_FRAME = 100; // tokens

const isDrawn = (origin) => origin === "target" || origin === "bonus";

/** The tokens of one answer in the order they came, each with its step and its place in it. */
export class TokenList {
  constructor() {
    this.tokens = [];
    this.counts = new Map(); // origin -> tokens
    this.step = 1;
    this.place = 0;
    this.decoder = new TextDecoder();
  }

  /** Takes what one chunk says: its log-probabilities, and an origin for each of them (or for one more, without text). */
  add(logprobs, origins) {
    logprobs.forEach((one, index) => {
      const origin = origins[index] ?? "target";
      const bytes = one.bytes ?? [];
      // A character may be spread over several tokens: the last of them shows it.
      const text = one.bytes ? this.decoder.decode(new Uint8Array(bytes), { stream: true }) : one.token;
      this.place += 1;
      const token = { text, bytes, origin, logprob: one.logprob, top: one.top_logprobs ?? [], step: this.step, place: this.place };
      this.tokens.push(token);
      if (isDrawn(origin)) {
        this.step += 1; // the model's own token ends its step
        this.place = 0;
      }
    });
    for (const origin of origins) this.counts.set(origin, (this.counts.get(origin) ?? 0) + 1);
  }

  /** How many tokens the step of this one gave. */
  stepSize(index) {
    const { step } = this.tokens[index];
    let size = 0;
    for (let at = index; this.tokens[at]?.step === step; at++) size += 1;
    return size + this.tokens[index].place - 1;
  }
}

const label = (token) => token.text || token.bytes.map((byte) => byte.toString(16).padStart(2, "0").toUpperCase()).join(" ");
const visible = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "nothing";

/** Shows a TokenList. Arrow keys walk through the tokens; the one in focus or under the pointer is explained. */
export class TokenView {
  constructor(list) {
    this.list = list;
    this.spans = []; // by token, as far as they are shown
    this.line = null;
    this.text = h("div", { class: "tokens", role: "listbox", "aria-label": "Tokens of the answer, arrow keys walk through them", tabIndex: 0 });
    this.legend = h("ul", { class: "legend", "aria-label": "Tokens by origin" });
    this.element = h("div", { class: "token-view" }, this.text, this.legend);
    this.text.addEventListener("pointerover", (event) => this.#explain(event.target));
    this.text.addEventListener("pointerleave", hidePopover);
    this.text.addEventListener("focusin", (event) => this.#explain(event.target));
    this.text.addEventListener("focusout", hidePopover);
    this.text.addEventListener("keydown", (event) => this.#walk(event));
    this.text.addEventListener("click", (event) => event.target.dataset.index && event.target.focus());
  }

  /** Adds what is new in the list, as much as one frame has time for. Returns whether that was all. */
  update() {
    const { tokens } = this.list;
    const end = Math.min(tokens.length, this.spans.length + PER_FRAME);
    for (let index = this.spans.length; index < end; index++) {
      const token = tokens[index];
      const edges = (token.place === 1 ? " first" : "") + (isDrawn(token.origin) ? " last" : "") + (token.text ? "" : " bytes");
      const text = token.text.replaceAll("\n", "↵\n") || label(token);
      const span = h("span", { class: `token ${colourOf(token.origin)}${edges}`, role: "option", "aria-selected": "false", tabIndex: -1, dataset: { index } }, text);
      this.#line().append(span);
      this.spans.push(span);
      if (token.text.endsWith("\n")) this.line = null;
    }
    this.#count();
    return end === tokens.length;
  }

  /** The last line: lines are blocks of their own, so that a new token lays out its own line alone. */
  #line() {
    if (this.line === null) {
      this.line = h("div", { role: "presentation" });
      this.text.append(this.line);
    }
    return this.line;
  }

  #count() {
    const { counts } = this.list;
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
    const sorted = [...counts].sort(([, one], [, other]) => other - one);
    this.legend.replaceChildren(
      ...sorted.map(([origin, count]) =>
        h("li", { class: colourOf(origin), title: ORIGINS[origin] ?? "" }, h("span", { class: "swatch", "aria-hidden": "true" }), `${origin} `, h("b", {}, `${count}`), ` ${Math.round((100 * count) / total)}%`),
      ),
    );
  }

  #walk(event) {
    const keys = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") hidePopover();
    if (!(event.key in keys) || !this.spans.length) return;
    event.preventDefault();
    const from = Number(document.activeElement.dataset.index ?? -1);
    const to = Math.min(this.spans.length - 1, Math.max(0, from + keys[event.key]));
    this.spans[to].focus();
  }

  #explain(target) {
    const index = target.dataset.index;
    if (index === undefined) return;
    const token = this.list.tokens[Number(index)];
    const size = this.list.stepSize(Number(index));
    const percent = (logprob) => `${shown(100 * Math.exp(logprob))} %`;
    const rows = token.top.map((one) => {
      const bar = h("meter", { min: 0, max: 1, value: Math.exp(one.logprob), "aria-label": "probability" });
      return h("tr", {}, h("td", {}, h("code", {}, visible(one.token))), h("td", {}, bar), h("td", { class: "number" }, percent(one.logprob)));
    });
    const facts = [
      h("p", { class: "popover-head" }, h("code", {}, visible(label(token))), token.logprob === undefined ? null : h("b", {}, percent(token.logprob))),
      h("p", { class: colourOf(token.origin) }, h("span", { class: "swatch", "aria-hidden": "true" }), h("b", {}, token.origin), `: ${ORIGINS[token.origin] ?? "guessed by a proposer"}`),
      h("p", { class: "quiet" }, `Step ${token.step}, token ${token.place} of ${size} in it`),
    ];
    if (rows.length) facts.push(h("table", { "aria-label": "Likeliest tokens at this place" }, h("tbody", {}, rows)));
    showPopover(target, facts);
  }
}

const popover = h("div", { class: "popover", hidden: true, role: "status" });
document.body.append(popover);

function showPopover(beside, children) {
  popover.replaceChildren(...children);
  popover.hidden = false;
  const anchor = beside.getClientRects()[0] ?? beside.getBoundingClientRect();
  const { width, height } = popover.getBoundingClientRect();
  const isBelow = anchor.bottom + height + 12 < innerHeight;
  popover.style.left = `${Math.max(8, Math.min(anchor.left, innerWidth - width - 8))}px`;
  popover.style.top = `${isBelow ? anchor.bottom + 6 : Math.max(8, anchor.top - height - 6)}px`;
}

function hidePopover() {
  popover.hidden = true;
}
