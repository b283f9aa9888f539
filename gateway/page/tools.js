// The functions that the model may call.

import { $ } from "./dom.js";
import { FormError, parseEditor, pretty } from "./json.js";

const EXAMPLE = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "Weather in a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

/** The request's `tools`; none where the editor is empty. */
export function readTools() {
  const editor = $("#tools");
  const status = $("#tools-status");
  if (!editor.value.trim()) {
    editor.removeAttribute("aria-invalid");
    status.textContent = "";
    return {};
  }
  try {
    const tools = parseEditor(editor, status, "list");
    const nameless = tools.findIndex((tool) => typeof tool?.function?.name !== "string");
    if (nameless >= 0) throw new Error(refuse(editor, status, `tool ${nameless + 1} has no function.name`));
    const choice = $("#tool_choice").value;
    return choice === "auto" ? { tools } : { tools, tool_choice: choice };
  } catch (error) {
    throw new FormError(`Tools: ${error.message}`, editor);
  }
}

function refuse(editor, status, message) {
  editor.setAttribute("aria-invalid", "true");
  status.className = "editor-status bad";
  status.textContent = `Not valid: ${message}`;
  return status.textContent;
}

/** Puts tools into the editor, or empties it. */
export function showTools(tools) {
  $("#tools").value = tools ? pretty(tools) : "";
  $("#tools-status").textContent = "";
  $("#tools-section").open = Boolean(tools);
}

/** A button of the editor: fills in something to begin with. */
export function offerExample() {
  $("#tools-example").addEventListener("click", () => showTools(EXAMPLE));
}
