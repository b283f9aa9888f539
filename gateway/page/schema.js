// The form that an answer must have: free text, any JSON object, or a schema with its audit beside it.

import { json } from "./api.js";
import { $, h } from "./dom.js";
import { FormError, parseEditor, pretty } from "./json.js";

const AUDIT = "v1/schemas/audit";
let hasAudit = false;
let audit = new AbortController();

const chosenFormat = () => $("input[name=format]:checked").value;

/** The request's `response_format`. */
export function readSchema() {
  const type = chosenFormat();
  if (type === "text") return {};
  if (type === "json_object") return { response_format: { type } };
  const json_schema = { name: "answer", schema: parsed() };
  if ($("#strict").checked) json_schema.strict = true;
  return { response_format: { type, json_schema } };
}

function parsed() {
  try {
    return parseEditor($("#schema"), $("#schema-status"), "object");
  } catch (error) {
    throw new FormError(`Schema: ${error.message}`, $("#schema"));
  }
}

/** Puts a schema into the editor, or goes back to free text. */
export function showSchema(schema) {
  $(`input[name=format][value=${schema ? "json_schema" : "text"}]`).checked = true;
  if (schema) $("#schema").value = pretty(schema);
  auditSoon();
}

/** Whether the server can audit schemas. */
export function setAudit(isThere) {
  hasAudit = isThere;
  auditSoon();
}

/** Checks what the editor holds, and has the server tell what it makes of each keyword. */
export async function auditSoon() {
  audit.abort();
  audit = new AbortController();
  const { signal } = audit;
  const isOpen = chosenFormat() === "json_schema";
  $("#schema-editor").hidden = !isOpen;
  if (!isOpen || !$("#schema").value.trim()) return hideAudit();
  let schema;
  try {
    schema = parsed();
  } catch {
    return hideAudit();
  }
  if (!hasAudit) return hideAudit();
  try {
    showAudit(await json(AUDIT, { body: { schema }, signal }));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 404 || error.status === 405) return hideAudit();
    $("#audit").hidden = false;
    $("#audit").replaceChildren(h("p", { class: "error" }, error.message));
  }
}

function hideAudit() {
  $("#audit").hidden = true;
}

const ROUTES = {
  exact: "The grammar enforces every keyword.",
  validated: "The grammar enforces what it can; the rest is checked once the answer is whole.",
  refused: "A request with this schema is refused.",
};

function showAudit(result) {
  const route = String(result.route ?? result.verdict ?? "unknown");
  const keywords = result.findings ?? result.keywords ?? [];
  const rows = keywords.map((one) => {
    const verdict = String(one.verdict ?? "");
    return h("tr", {},
      h("td", {}, h("code", {}, String(one.keyword ?? "")), h("div", { class: "pointer" }, String(one.pointer || "/"))),
      h("td", {}, h("span", { class: `verdict ${badge(verdict)}` }, verdict)),
      h("td", { class: "reason" }, String(one.reason ?? "")));
  });
  const head = h("p", { class: "audit-head" }, h("span", { class: `verdict ${badge(route)}` }, route), ` ${ROUTES[route] ?? ""}`);
  const table = h("table", {},
    h("thead", {}, h("tr", {}, ...["Keyword", "Verdict", "Reason"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows));
  $("#audit").replaceChildren(head, ...(rows.length ? [h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Keywords of the schema" }, table)] : []));
  $("#audit").hidden = false;
}

const badge = (verdict) => ({ exact: "good", enforced: "good", validated: "fair", refused: "bad" })[verdict] ?? "fair";
