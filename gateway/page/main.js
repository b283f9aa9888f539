// Brings the page's parts together.

import { key } from "./api.js";
import { Chat } from "./chat.js";
import { $, announce, h } from "./dom.js";
import { FormError } from "./json.js";
import { PRESETS } from "./presets.js";
import { setAudit } from "./schema.js";
import { followServer } from "./server.js";
import { applyPreset, fitToServer, watchSettings } from "./settings.js";
import { offerExample } from "./tools.js";

const composer = $("#composer");
const input = $("#input");

const chat = new Chat($("#turns"), {
  running: (isRunning) => {
    $("#send").hidden = isRunning;
    $("#stop-button").hidden = !isRunning;
    $("#turns").setAttribute("aria-busy", String(isRunning));
    showWelcome();
  },
  refused: (error) => askForKey(error.message),
  wrongForm: showFormError,
  edit: (text) => {
    input.value = text;
    grow();
    input.focus();
    showWelcome();
  },
});

function showWelcome() {
  $("#welcome").hidden = $("#turns").hasChildNodes();
}

function grow() {
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight, innerHeight / 3)}px`;
}

async function send() {
  const text = input.value.trim();
  if (!text || chat.running) return;
  showFormError(null);
  try {
    const sent = chat.send([{ role: "user", content: text }], { compare: $("#compare").checked });
    if (!chat.running) return await sent; // the form was wrong: nothing was sent
    input.value = "";
    grow();
    await sent;
  } catch (error) {
    showFormError(error);
  }
}

/** Says beside the input what is wrong with the form, and leads there. */
function showFormError(error) {
  if (error && !(error instanceof FormError)) throw error;
  $("#form-error").textContent = error?.message ?? "";
  $("#form-error").hidden = !error;
  if (!error) return;
  error.element?.setAttribute("aria-invalid", "true");
  const section = error.element?.closest("details");
  if (section) section.open = true;
  announce(error.message);
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
input.addEventListener("input", grow);
input.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$("#stop-button").addEventListener("click", () => chat.stop());
$("#new-chat").addEventListener("click", () => {
  chat.clear();
  showWelcome();
  input.focus();
});

// Presets

$("#presets").append(...PRESETS.map((preset) =>
  h("li", {}, h("button", { type: "button", class: "preset", onclick: () => choose(preset) }, h("b", {}, preset.name), h("span", {}, preset.hint)))));

function choose(preset) {
  applyPreset(preset);
  input.value = preset.text;
  grow();
  input.focus();
}

// The server, and the key

const STATES = { live: "Connected", gone: "No connection, trying again", key: "A key is needed" };
let following = new AbortController();

function follow() {
  following.abort();
  following = new AbortController();
  followServer({ facts: showServer, state: showState }, following);
}

function showServer(server) {
  chat.server = server;
  $("#model").textContent = server.model;
  $("#context").textContent = `context ${server.max_model_len.toLocaleString("en-US")}`;
  fitToServer(server);
  setAudit(server.paths.includes("/v1/schemas/audit"));
}

function showState(state, error) {
  const status = $("#connection");
  if (status.dataset.state === state) return;
  status.dataset.state = state;
  status.textContent = STATES[state];
  if (state === "key") askForKey(key.get() ? error.message : "This server asks for a key.");
}

function askForKey(reason) {
  $("#key-reason").textContent = reason;
  $("#key").value = key.get();
  if (!$("#key-dialog").open) $("#key-dialog").showModal();
}

$("#key-button").addEventListener("click", () => askForKey("Sent with every request, and kept in this tab alone."));
$("#key-cancel").addEventListener("click", () => $("#key-dialog").close());
$("#key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set($("#key").value.trim());
  $("#key-dialog").close();
  $("#connection").dataset.state = "";
  follow();
});

// Panels on narrow windows, and light or dark

for (const button of document.querySelectorAll("[data-panel]")) {
  const panel = $(`#${button.dataset.panel}`);
  button.addEventListener("click", () => {
    const isOpen = panel.classList.toggle("is-open");
    button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) panel.querySelector("button, input, select, textarea, summary")?.focus();
  });
}
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const button of document.querySelectorAll("[data-panel][aria-expanded=true]")) button.click();
});

const THEME = "outrider.theme";
const THEMES = ["system", "light", "dark"];

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("#theme").textContent = { system: "◐", light: "☀", dark: "☾" }[theme];
  $("#theme").setAttribute("aria-label", `Colours: ${theme}`);
  localStorage.setItem(THEME, theme);
}

$("#theme").addEventListener("click", () => {
  const now = THEMES.indexOf(document.documentElement.dataset.theme);
  setTheme(THEMES[(now + 1) % THEMES.length]);
});
setTheme(THEMES.includes(localStorage.getItem(THEME)) ? localStorage.getItem(THEME) : "system");

offerExample();
watchSettings();
follow();
input.focus();
