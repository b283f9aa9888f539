// The conversation: its messages, the request that runs, and what can be done with them.

import { ApiError, stream } from "./api.js";
import { Answer } from "./answer.js";
import { comparison } from "./compare.js";
import { announce, copy, h } from "./dom.js";
import { isSpeculating, readSettings, speculationName, systemMessages } from "./settings.js";
import { traceId } from "./trace.js";

/** Owns the messages and the list on the page. One request runs at a time. */
export class Chat {
  /** @param handlers `running(isRunning)`, `refused(error)` for a key that is wrong, `wrongForm(error)`, `edit(text)` */
  constructor(list, handlers) {
    this.list = list;
    this.handlers = handlers;
    this.turns = []; // {message, element, answer?}
    this.server = null;
    this.running = null; // the AbortController of the request that runs
    list.addEventListener("grown", () => this.#follow());
    list.parentElement.addEventListener("scroll", () => (this.isFollowing = this.#isAtEnd()));
    this.isFollowing = true;
  }

  /** Sends a text, or several tool results. Raises FormError, before anything changes, where the form is wrong. */
  async send(messages, { compare = false } = {}) {
    const fields = readSettings();
    this.#sweep();
    for (const message of messages) this.#push(message, messageView(message, this, this.turns.length));
    this.isFollowing = true;
    await this.#answer(fields, compare);
  }

  /** Ends the request that runs; what has come of it stays. */
  stop() {
    this.running?.abort();
  }

  clear() {
    this.stop();
    this.turns = [];
    this.list.replaceChildren();
  }

  /** Takes back everything from turn `index` on, and gives its text to be edited. */
  edit(index) {
    this.stop();
    const text = this.turns[index].message.content;
    this.#cut(index);
    this.handlers.edit(text);
  }

  async #retry(index, compare) {
    const fields = readSettings();
    this.#cut(index);
    await this.#answer(fields, compare);
  }

  #push(message, element) {
    this.turns.push({ message, element });
    this.list.append(element);
  }

  #cut(index) {
    this.turns.splice(index);
    this.#sweep();
  }

  /** Removes what is no part of the conversation: turns that were taken back, and answers that failed. */
  #sweep() {
    const kept = new Set(this.turns.map((turn) => turn.element));
    for (const element of [...this.list.children]) if (!kept.has(element)) element.remove();
  }

  #body(fields) {
    return {
      model: this.server?.model ?? "",
      messages: [...systemMessages(), ...this.turns.map((turn) => turn.message)],
      ...fields,
      stream: true,
      stream_options: { include_usage: true },
      return_metrics: true,
      return_token_origins: true,
    };
  }

  async #answer(fields, compare) {
    const controller = new AbortController();
    this.running = controller;
    this.handlers.running(true);
    const place = this.turns.length;
    const body = this.#body(fields);
    const again = () => this.#retry(place, compare);
    try {
      if (compare && isSpeculating()) await this.#compare(body, controller.signal, again);
      else await this.#single(body, controller.signal, again);
    } finally {
      if (this.running === controller) {
        this.running = null;
        this.handlers.running(false);
      }
    }
  }

  async #single(body, signal, again) {
    const answer = this.#newAnswer();
    const element = h("li", { class: "turn" }, answer.element);
    this.list.append(element);
    const error = await this.#run(answer, body, signal);
    this.#settle(element, answer, error, again);
  }

  /** The same request twice, one after the other so that neither slows the other down. */
  async #compare(body, signal, again) {
    const seed = body.seed ?? Math.floor(Math.random() * 2 ** 31);
    const { prediction: _, ...plain } = body;
    const sides = [
      [this.#newAnswer("Speculation off"), { ...plain, seed, speculation: "off" }],
      [this.#newAnswer(`Speculation: ${speculationName()}`), { ...body, seed }],
    ];
    const verdict = h("p", { class: "verdict-line", role: "status" });
    const element = h("li", { class: "turn" }, verdict, h("div", { class: "compare" }, sides.map(([answer]) => answer.element)));
    this.list.append(element);
    verdict.textContent = "Asking twice with the same seed, one after the other …";
    let error = null;
    for (const [answer, request] of sides) {
      answer.began = performance.now();
      error ??= await this.#run(answer, request, signal);
      if (error) answer.finish();
    }
    const [off, on] = sides.map(([answer]) => answer);
    verdict.replaceChildren(...(error ? [] : comparison(off, on, seed)));
    this.#settle(element, on.hasContent ? on : off, error, again);
  }

  #newAnswer(title) {
    return new Answer({ title, hasTraces: this.server?.paths.includes("/traces") });
  }

  /** Streams one answer. Returns what went wrong, or null. */
  async #run(answer, body, signal) {
    try {
      const { response, events } = await stream("v1/chat/completions", { body, signal, end: "[DONE]" });
      answer.traceId = traceId(response);
      for await (const chunk of events) answer.add(chunk);
      answer.finish();
      return null;
    } catch (error) {
      if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
      return error;
    }
  }

  /** Makes an answer a part of the conversation, as far as it came, and says what went wrong. */
  #settle(element, answer, error, again) {
    if (!element.isConnected) return; // cleared or edited meanwhile
    const isStopped = error?.name === "AbortError";
    if (error && !answer.ended) answer.finish(isStopped ? "Stopped" : null);
    if (answer.hasContent && (!error || isStopped)) {
      this.turns.push({ message: answer.message, element, answer });
      if (answer.toolCalls.length) element.append(this.#resultForm(answer));
    } else if (!error) {
      this.turns.push({ message: answer.message, element, answer });
      if (!answer.hasContent) answer.status.prepend(h("span", { class: "fact" }, "The answer is empty."));
    }
    if (!error || (isStopped && answer.hasContent)) return;
    if (!answer.hasContent) element.querySelector(".answer, .compare").hidden = true;
    element.append(problem(isStopped ? "Stopped before the first token." : explain(error, answer), again));
    if (error.status === 401) this.handlers.refused(error);
    this.#follow();
  }

  #resultForm(answer) {
    const fields = answer.toolCalls.map((call, index) => {
      const area = h("textarea", { rows: 2, id: `result-${call.id || index}`, class: "code" });
      return [area, h("label", { htmlFor: area.id }, `Result of ${call.function.name}`), call];
    });
    const send = () => {
      const messages = fields.map(([area, , call]) => ({ role: "tool", tool_call_id: call.id, content: area.value }));
      this.send(messages).catch((error) => this.handlers.wrongForm(error));
      form.remove();
    };
    const button = h("button", { type: "submit", class: "small" }, fields.length > 1 ? "Send results" : "Send result");
    const form = h("form", { class: "results", onsubmit: (event) => (event.preventDefault(), send()) }, fields.map(([area, label]) => [label, area]).flat(), button);
    return form;
  }

  #isAtEnd() {
    const box = this.list.parentElement;
    return box.scrollHeight - box.scrollTop - box.clientHeight < 80;
  }

  #follow() {
    const box = this.list.parentElement;
    if (this.isFollowing) box.scrollTop = box.scrollHeight;
  }
}

function explain(error, answer) {
  const wait = error.status === 429 && error.retryAfter ? ` (${Math.ceil(error.retryAfter)} s)` : "";
  const kept = answer.hasContent ? ` after ${answer.numTokens} tokens; what came is kept here, and not a part of the conversation` : "";
  const field = error.param ? ` [${error.param}]` : "";
  return `${error.message}${kept}${field}${wait}`;
}

/** A line that says what went wrong, with the way out beside it. */
function problem(message, again) {
  announce(message);
  const button = h("button", { type: "button", class: "small", onclick: again }, "Try again");
  return h("div", { class: "problem", role: "alert" }, h("span", {}, message), button);
}

function messageView(message, chat, index) {
  const isUser = message.role === "user";
  const text = h("div", { class: "message-text" }, message.content || "(empty)");
  const name = isUser ? "You" : "Tool result";
  const actions = h("div", { class: "actions" },
    isUser ? h("button", { type: "button", class: "small", onclick: () => chat.edit(index) }, "Edit") : null,
    h("button", { type: "button", class: "small", onclick: (event) => copy(message.content, event.target) }, "Copy"));
  return h("li", { class: "turn user" }, h("article", { class: "message", "aria-label": name }, text, actions));
}
