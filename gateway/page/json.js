// Editors of JSON: what they hold, and what is wrong with it.

/** What is wrong with the form, and where. */
export class FormError extends Error {
  constructor(message, element) {
    super(message);
    this.element = element;
  }
}

/** Parses an editor's text and says beside it what is wrong. Raises an Error with the same words. */
export function parseEditor(editor, status, kind) {
  try {
    const value = JSON.parse(editor.value);
    const isArray = Array.isArray(value);
    if (value === null || typeof value !== "object" || isArray !== (kind === "list")) throw new Error(`a JSON ${kind} is needed here`);
    editor.removeAttribute("aria-invalid");
    status.className = "editor-status good";
    status.textContent = "Valid JSON";
    return value;
  } catch (error) {
    const message = `Not valid: ${error.message}`;
    editor.setAttribute("aria-invalid", "true");
    status.className = "editor-status bad";
    status.textContent = message;
    throw new Error(message);
  }
}

/** A value as an editor shows it. */
export const pretty = (value) => JSON.stringify(value, null, 2);
