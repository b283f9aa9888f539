// The form beside the conversation: what each request asks for besides its messages.

import { $, h, whenQuiet } from "./dom.js";
import { FormError } from "./json.js";
import { readTools, showTools } from "./tools.js";
import { auditSoon, readSchema, showSchema } from "./schema.js";

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty"];

let methods = []; // in the order in which they were chosen: the one to be trusted most first

/** The request's fields by the form. Raises FormError for one that is wrong. */
export function readSettings() {
  return { ...readNumbers(), ...readStops(), ...readSpeculation(), ...readSchema(), ...readTools(), ...readDetails() };
}

function readNumbers() {
  const fields = {};
  for (const name of NUMBERS) {
    const input = $(`#${name}`);
    if (input.validity.badInput || !input.validity.valid) throw new FormError(`${name}: ${input.validationMessage}`, input);
    if (input.value !== "") fields[name] = Number(input.value);
  }
  return fields;
}

function readStops() {
  const stop = $("#stop").value.split("\n").filter((line) => line !== "");
  return stop.length ? { stop } : {};
}

function readDetails() {
  const count = $("#top_logprobs").value;
  return count === "off" ? {} : { logprobs: true, top_logprobs: Number(count) };
}

function readSpeculation() {
  const choice = chosenSpeculation();
  const prediction = $("#prediction").value;
  const fields = prediction ? { prediction: { type: "content", content: prediction } } : {};
  if (choice === "default") return fields;
  if (choice === "off") return { ...fields, speculation: "off" };
  const depth = Number($("#depth").value);
  const minimum = Number($("#min_probability").value);
  const asked = choice === "auto" ? ["auto"] : methods;
  if (!asked.length) throw new FormError("Speculation: choose a method, or another mode", $("#methods input"));
  const speculation = { methods: asked, max_tokens: depth };
  if (choice === "methods" && !$("#tree").checked) speculation.tree = false;
  if (choice === "methods" && minimum > 0) speculation.min_probability = minimum;
  return { ...fields, speculation };
}

const chosenSpeculation = () => $("input[name=speculation]:checked").value;

/** The system prompt as a message, or none. */
export function systemMessages() {
  const content = $("#system").value.trim();
  return content ? [{ role: "system", content }] : [];
}

/** Names what is chosen, for the comparison. */
export function speculationName() {
  const choice = chosenSpeculation();
  return choice === "methods" ? methods.join(" + ") : choice === "default" ? "the server's default" : choice;
}

/** Whether there is anything to compare with `off`. */
export const isSpeculating = () => chosenSpeculation() !== "off";

/** Fits the form to what the server has. */
export function fitToServer(server) {
  const offered = server.methods;
  methods = methods.filter((method) => offered.includes(method));
  const boxes = offered.map((method) =>
    h("label", { class: "chip" }, h("input", { type: "checkbox", value: method, checked: methods.includes(method) }), method));
  $("#methods").replaceChildren(...boxes);
  const depth = $("#depth");
  const isUntouched = depth.value === depth.max;
  depth.max = server.max_draft_tokens;
  if (isUntouched || Number(depth.value) > server.max_draft_tokens) depth.value = server.max_draft_tokens;
  $("#speculation-default").textContent = server.default_speculation.join(", ");
  $("#max_tokens").max = server.max_model_len;
  for (const input of document.querySelectorAll("input[name=speculation]")) {
    input.disabled = !offered.length && (input.value === "auto" || input.value === "methods");
  }
  showSpeculation();
}

function showSpeculation() {
  const choice = chosenSpeculation();
  $("#methods").hidden = choice !== "methods";
  $("#depth-row").hidden = choice === "off" || choice === "default";
  $("#tree-row").hidden = choice !== "methods";
  $("#depth-value").textContent = `${$("#depth").value} tokens`;
  $("#min_probability-value").textContent = Number($("#min_probability").value).toFixed(2);
}

/** Puts a preset into the form; what it does not name is emptied. */
export function applyPreset(preset) {
  $("#system").value = preset.system ?? "";
  $("#prediction").value = preset.prediction ?? "";
  for (const name of NUMBERS) $(`#${name}`).value = preset[name] ?? "";
  $("#stop").value = "";
  showSchema(preset.schema);
  showTools(preset.tools);
  const boxes = [...document.querySelectorAll("#methods input")];
  methods = (preset.methods ?? []).filter((method) => boxes.some((box) => box.value === method));
  for (const box of boxes) box.checked = methods.includes(box.value);
  const radio = $(`input[name=speculation][value=${methods.length ? "methods" : "auto"}]`);
  if (!radio.disabled) radio.checked = true;
  showSpeculation();
}

/** Listens to the form. `changed` is called when its fields may have changed. */
export function watchSettings() {
  const form = $("#settings");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => {
    const box = event.target;
    if (box.closest("#methods")) {
      methods = methods.filter((method) => method !== box.value);
      if (box.checked) methods.push(box.value);
    }
    showSpeculation();
  });
  form.addEventListener("input", (event) => {
    event.target.removeAttribute("aria-invalid");
    showSpeculation();
  });
  $("#schema").addEventListener("input", whenQuiet(auditSoon, 300));
  $("#tools").addEventListener("input", whenQuiet(() => showToolsState(), 300));
  for (const radio of document.querySelectorAll("input[name=format]")) radio.addEventListener("change", auditSoon);
  $("#strict").addEventListener("change", auditSoon);
  showSpeculation();
}

function showToolsState() {
  try {
    readTools();
  } catch {
    // readTools has said in its place what is wrong
  }
}
