// One answer on its way: what has come of it, and its card on the page.

import { announce, copy, duration, eachFrame, h, shown } from "./dom.js";
import { pretty } from "./json.js";
import { Markdown } from "./markdown.js";
import { TokenList, TokenView } from "./tokens.js";
import { traceView } from "./trace.js";

const VIEW = "outrider.view";

/** Grows by chunks. Its card shows text or tokens; a frame draws what came since the last one. */
export class Answer {
  /** @param options `title` above the card, `hasTraces`: whether the server tells of traces */
  constructor({ title = null, hasTraces = false } = {}) {
    this.text = "";
    this.toolCalls = [];
    this.tokens = new TokenList();
    this.usage = null;
    this.metrics = null;
    this.finishReason = null;
    this.traceId = null;
    this.hasTraces = hasTraces;
    this.began = performance.now();
    this.ended = null;
    this.draw = eachFrame(() => this.#draw());
    this.#build(title);
  }

  #build(title) {
    this.markdown = new Markdown();
    this.tokenView = new TokenView(this.tokens);
    this.body = h("div", { class: "answer-body" }, h("span", { class: "waiting", role: "img", "aria-label": "Waiting for the first token" }));
    this.status = h("p", { class: "answer-status" });
    this.tools = h("div", { class: "tool-calls" });
    this.actions = h("div", { class: "actions", hidden: true });
    this.extra = h("div", {});
    const head = title ? h("h3", { class: "answer-title" }, title) : null;
    this.element = h("article", { class: "answer", "aria-label": title ?? "Answer" }, head, this.body, this.tools, this.status, this.actions, this.extra);
    this.view = localStorage.getItem(VIEW) ?? "tokens";
  }

  /** Whether anything has come that is worth keeping. */
  get hasContent() {
    return this.text !== "" || this.toolCalls.length > 0;
  }

  /** As the conversation goes on with it. */
  get message() {
    const message = { role: "assistant", content: this.text };
    if (this.toolCalls.length) message.tool_calls = this.toolCalls;
    return message;
  }

  add(chunk) {
    if (chunk.usage) this.usage = chunk.usage;
    if (chunk.metrics) this.metrics = chunk.metrics;
    for (const choice of chunk.choices ?? []) {
      const { delta = {}, logprobs, token_origins: origins = [] } = choice;
      if (delta.content) this.text += delta.content;
      for (const call of delta.tool_calls ?? []) this.#addToolCall(call);
      this.tokens.add(logprobs?.content ?? [], origins);
      if (choice.finish_reason) this.finishReason = choice.finish_reason;
    }
    this.draw();
  }

  #addToolCall({ index = 0, id, function: called = {} }) {
    const call = (this.toolCalls[index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
    if (id) call.id = id;
    call.function.name += called.name ?? "";
    call.function.arguments += called.arguments ?? "";
  }

  /** No more will come. `problem` says why, where that is not the end of the answer. */
  finish(problem = null) {
    this.ended = performance.now();
    this.#draw();
    this.#showStatus();
    if (problem) this.status.append(h("span", { class: "error" }, problem));
    this.actions.hidden = !this.hasContent;
    this.#showActions();
    announce(problem ?? `Answer complete, ${this.numTokens} tokens`);
  }

  get numTokens() {
    return this.usage?.completion_tokens ?? this.tokens.tokens.length;
  }

  get hasTokens() {
    return this.tokens.tokens.length > 0;
  }

  #draw() {
    const isDone = this.ended !== null;
    const shows = this.view === "tokens" && this.hasTokens ? this.tokenView.element : this.#textElement(isDone);
    if (this.hasContent || this.hasTokens || isDone) {
      if (this.body.firstChild !== shows || this.body.childNodes.length > 1) this.body.replaceChildren(shows);
    }
    if (shows === this.tokenView.element && !this.tokenView.update()) this.draw();
    this.#drawToolCalls();
    this.element.dispatchEvent(new CustomEvent("grown", { bubbles: true }));
  }

  #textElement(isDone) {
    if (isDone && /^\s*[[{]/.test(this.text)) {
      try {
        return (this.json ??= h("pre", { tabIndex: 0 }, h("code", { dataset: { language: "json" } }, pretty(JSON.parse(this.text)))));
      } catch {
        // It only begins like JSON.
      }
    }
    if (!isDone || !this.isWhole) this.markdown.update(this.text, isDone);
    this.isWhole = isDone;
    return this.markdown.element;
  }

  #drawToolCalls() {
    this.tools.replaceChildren(...this.toolCalls.filter(Boolean).map((call) => {
      let given = call.function.arguments;
      try {
        given = pretty(JSON.parse(given));
      } catch {
        // not whole yet
      }
      return h("div", { class: "tool-call" }, h("p", {}, "Calls ", h("code", {}, call.function.name)), h("pre", { tabIndex: 0 }, h("code", {}, given)));
    }));
  }

  #showStatus() {
    const { metrics, usage } = this;
    const speculative = metrics?.speculative_decoding;
    const facts = [[`${this.numTokens}`, "tokens"]];
    if (metrics?.tokens_per_second) facts.push([shown(metrics.tokens_per_second), "tokens/s"]);
    if (metrics) facts.push([duration(metrics.time_to_first_token_ms), "to the first"], [`${metrics.num_steps}`, "steps"]);
    if (speculative) facts.push([shown(speculative.mean_acceptance_length), "tokens per verified step"], [`${Math.round(100 * speculative.draft_acceptance_rate)} %`, "of guesses right"]);
    if (usage?.prompt_tokens_details?.cached_tokens) facts.push([`${usage.prompt_tokens_details.cached_tokens}`, "prompt tokens cached"]);
    if (this.finishReason === "length") facts.push(["cut", "at its length limit"]);
    this.status.replaceChildren(...facts.map(([value, unit]) => h("span", { class: "fact" }, h("b", {}, value), ` ${unit}`)));
  }

  #showActions() {
    const view = (name, label) => h("button", { type: "button", class: "small", "aria-pressed": String(this.view === name), onclick: () => this.show(name) }, label);
    const buttons = [];
    if (this.hasTokens) buttons.push(h("div", { class: "segmented", role: "group", "aria-label": "How the answer is shown" }, view("tokens", "Tokens"), view("text", "Text")));
    buttons.push(h("button", { type: "button", class: "small", onclick: (event) => copy(this.text, event.target) }, "Copy"));
    if (this.hasTraces && this.traceId) buttons.push(h("button", { type: "button", class: "small", "aria-expanded": String(this.extra.hasChildNodes()), onclick: (event) => this.#toggleTrace(event.target) }, "Trace"));
    this.actions.replaceChildren(...buttons);
  }

  /** Shows it as `tokens` or `text`, and later ones too. */
  show(name) {
    this.view = name;
    localStorage.setItem(VIEW, name);
    this.#draw();
    const pressed = [...this.actions.querySelectorAll(".segmented button")];
    pressed.forEach((button, index) => button.setAttribute("aria-pressed", String((index === 0) === (name === "tokens"))));
  }

  #toggleTrace(button) {
    const isOpen = this.extra.hasChildNodes();
    this.extra.replaceChildren(...(isOpen ? [] : [traceView(this.traceId)]));
    button.setAttribute("aria-expanded", String(!isOpen));
  }
}
