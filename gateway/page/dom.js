// Elements are made here and nowhere from markup: text stays text, whatever it says.

export const $ = (selector, root = document) => root.querySelector(selector);

/** An element. `properties` are set as properties, those with a dash or not known to it as attributes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") element.className = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element with attributes. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A number for people: three significant digits, thousands apart. */
export function shown(number) {
  if (!Number.isFinite(number)) return "–";
  const digits = Math.abs(number) >= 100 ? 0 : Math.abs(number) >= 10 ? 1 : 2;
  return number.toLocaleString("en-US", { maximumFractionDigits: digits });
}

/** Milliseconds as `4.2 ms` or `1.3 s`. */
export const duration = (ms) => (ms >= 1000 ? `${shown(ms / 1000)} s` : `${shown(ms)} ms`);

/** Calls `work` at the next frame, once however often it was asked for until then. */
export function eachFrame(work) {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    const run = () => {
      if (!isAsked) return;
      isAsked = false;
      work();
    };
    // A hidden page has no frames, and what arrives must still be shown in the end.
    if (document.hidden) setTimeout(run, 100);
    else requestAnimationFrame(run);
  };
}

/** Calls `work` when nobody asked for `ms` milliseconds. */
export function whenQuiet(work, ms) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, ms);
  };
}

/** Says something to screen readers. */
export function announce(text) {
  $("#announcer").textContent = text;
}

/** Puts text on the clipboard and says so on the button. */
export async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed"; // a page without https has no clipboard
  }
  setTimeout(() => (button.textContent = label), 1500);
}
