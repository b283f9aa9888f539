// A small markdown that makes elements, never markup. What it does not know stays text.

import { h } from "./dom.js";

const INLINE = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|\*(?=[^\s*])([^*]*[^\s*])\*|\[([^\]\n]+)\]\(([^()\s]+)\)/g;
const LONG = 4000; // characters of an unfinished block: beyond them it grows as plain text until it is whole

/** Text with code, emphasis and links. */
function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(text.slice(end, match.index));
    end = match.index + match[0].length;
    if (match[1]) nodes.push(h("code", {}, match[2].trim() || match[2]));
    else if (match[3]) nodes.push(h("strong", {}, inline(match[3])));
    else if (match[4]) nodes.push(h("em", {}, inline(match[4])));
    else nodes.push(link(match[5], match[6], match[0]));
  }
  nodes.push(text.slice(end));
  return nodes.filter((node) => node !== "");
}

/** A link that leads to the web, and nothing else: no script, no data. */
function link(label, target, source) {
  if (!/^https?:\/\//i.test(target) || !URL.canParse(target)) return source;
  return h("a", { href: target, target: "_blank", rel: "noopener noreferrer" }, label);
}

/** Where each block of a text ends: at an empty line, or behind its fence. */
function blockEnds(text) {
  const ends = [];
  let fence = null;
  let start = 0;
  while (start < text.length) {
    const newline = text.indexOf("\n", start);
    const next = newline < 0 ? text.length : newline + 1;
    const line = text.slice(start, next).trim();
    const mark = /^(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence) {
      if (mark?.startsWith(fence) && line === mark) {
        fence = null;
        ends.push(next);
      }
    } else if (mark) {
      if (ends.at(-1) !== start) ends.push(start);
      fence = mark;
    } else if (line === "" && newline >= 0) ends.push(next);
    start = next;
  }
  if (ends.at(-1) !== text.length) ends.push(text.length);
  return ends.filter((end) => end > 0);
}

function block(source) {
  const text = source.replace(/^\n+|\s+$/g, "");
  const fence = /^\s*(`{3,}|~{3,})\s*([^\n`]*)\n?([\s\S]*)$/.exec(text);
  if (fence) {
    const code = fence[3].replace(new RegExp(`\\n?${fence[1]}+\\s*$`), "");
    return h("pre", { tabIndex: 0 }, h("code", { dataset: { language: fence[2].trim() } }, code));
  }
  const nodes = [];
  let lines = [];
  const flush = () => lines.length && nodes.push(h("p", {}, inline(lines.join("\n"))));
  let list = null;
  for (const line of text.split("\n")) {
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    const item = /^\s*(?:([-*+])|(\d{1,9})[.)])\s+(.*)$/.exec(line);
    const quote = /^>\s?(.*)$/.exec(line);
    if (!heading && !item && !quote) {
      if (list && /^\s+\S/.test(line)) list.lastChild.append("\n", ...inline(line.trim()));
      else lines.push(line);
      continue;
    }
    flush();
    lines = [];
    if (heading) nodes.push(h(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2])));
    else if (quote) nodes.push(h("blockquote", {}, inline(quote[1])));
    else {
      const tag = item[1] ? "UL" : "OL";
      if (nodes.at(-1)?.tagName !== tag) nodes.push(h(tag, Number(item[2] ?? 1) === 1 ? {} : { start: Number(item[2]) }));
      nodes.at(-1).append(h("li", {}, inline(item[3])));
    }
    list = item ? nodes.at(-1) : null;
  }
  flush();
  return h("div", {}, nodes);
}

/** An element that shows a growing text; blocks that are whole are made once. */
export class Markdown {
  constructor() {
    this.element = h("div", { class: "markdown" });
    this.#reset();
  }

  #reset() {
    this.element.replaceChildren();
    this.shown = 0; // characters of the text in blocks that are whole
    this.open = null; // the element of the last block, which still grows
    this.plain = null; // a text node, and how far it goes, where that block is long
  }

  /** Shows `text`, which begins with what it showed before; `isWhole` says that no more will come. */
  update(text, isWhole = false) {
    if (isWhole && this.plain) this.#reset();
    if (this.plain && !isWhole) {
      this.plain.node.appendData(text.slice(this.plain.end));
      this.plain.end = text.length;
      return;
    }
    const tail = text.slice(this.shown);
    const ends = blockEnds(tail);
    this.open?.remove();
    this.open = null;
    let start = 0;
    ends.forEach((end, index) => {
      const source = tail.slice(start, end);
      start = end;
      const isOpen = index === ends.length - 1;
      if (!isOpen || isWhole) this.#append(source);
      else if (source.length > LONG) this.#appendPlain(source, text.length);
      else this.open = this.#append(source);
      if (!isOpen) this.shown += source.length;
    });
  }

  #append(source) {
    if (source.trim() === "") return null;
    const element = block(source);
    this.element.append(element);
    return element;
  }

  #appendPlain(source, end) {
    const node = document.createTextNode(source);
    this.open = h("pre", { class: "growing" }, node);
    this.element.append(this.open);
    this.plain = { node, end };
  }
}
