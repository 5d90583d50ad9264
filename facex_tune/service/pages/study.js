// A study: a template to begin with, help from the schema beside it, a check, and only then a run.
import { $, api, link, make, post, runPath, say, show, text } from "./base.js";

const form = $("#submit"), study = form.elements.study;
let schema = null, filled = ""; // filled: what a template wrote, which another may replace

export function showForm(from) {
  show("new");
  if (from) copy(from); else if (!study.value) fill();
  help();
}

// What is written is not lost to a template without a question.
const mayReplace = () => !study.value || study.value === filled || confirm("Replace what is written?");

function write(said) {
  study.value = filled = said;
  told({});
  follow();
}

async function copy(run) {
  if (!mayReplace()) return;
  const before = study.value;
  try {
    const found = await text(`${runPath(run)}/study`);
    if (study.value === before) write(found.text);
  } catch (error) {
    say(error.message, true);
  }
}

async function fill() {
  const asked = new URLSearchParams(), before = study.value;
  for (const name of ["data", "machine", "time"]) if (form.elements[name].value) asked.set(name, form.elements[name].value);
  try {
    const found = await api("study-template?" + asked);
    choices("data", found.data);
    choices("machine", found.machines);
    if (!form.elements.time.value) form.elements.time.value = found.time;
    if (study.value === before) write(found.study); // what was written meanwhile stays
    say("");
  } catch (error) {
    told({ problems: error.problems ?? [error.message] });
  }
}

function choices(name, values) {
  const list = form.elements[name], before = list.value;
  list.replaceChildren(...values.map((value) => new Option(value, value)));
  if (values.includes(before)) list.value = before;
}

$("#fill").addEventListener("click", () => { if (mayReplace()) fill(); });
$("#file").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  if (file && mayReplace()) write(await file.text());
  target.value = "";
});

// The check

function submission() {
  const body = { study: study.value };
  if (form.elements.run.value) body.run = form.elements.run.value;
  return body;
}

// What is wrong stands at the button that was pressed, one a line; a line that names a key leads there.
function told({ problems = [], checked = "", notes = [] }) {
  $("#problems").hidden = !problems.length;
  $("#problems").replaceChildren(...problems.map((problem) => {
    const at = placeOf(problem);
    if (at < 0) return make("li", { textContent: problem });
    const button = make("button", { type: "button", textContent: problem });
    button.addEventListener("click", () => goTo(at));
    return make("li", {}, button);
  }));
  $("#checked").hidden = !checked;
  $("#checked").textContent = checked;
  $("#told").hidden = !notes.length;
  $("#told").replaceChildren(...notes.map((textContent) => make("li", { textContent })));
}

// Where the text of a study has what a problem names first: "space.train.lr: ...".
function placeOf(problem) {
  const named = /^([\w.]+)(?:\[\d+\])?:/.exec(problem)?.[1] ?? /unknown key '([^']+)'/.exec(problem)?.[1] ?? /line (\d+)/.exec(problem)?.[1];
  if (!named) return -1;
  if (/^\d+$/.test(named)) return study.value.split("\n").slice(0, named - 1).join("\n").length + 1;
  let at = -1;
  for (const step of named.split(".")) {
    const next = study.value.slice(Math.max(at, 0)).search(new RegExp(`(^|[\\s{,\\[-])${step}\\b`, "m"));
    if (next < 0) break;
    at = Math.max(at, 0) + next + /\W?/.exec(study.value.slice(Math.max(at, 0) + next))[0].length;
  }
  return at;
}

function goTo(at) {
  const end = study.value.indexOf("\n", at);
  study.focus();
  study.setSelectionRange(at, end < 0 ? study.value.length : end);
  const lines = study.value.slice(0, at).split("\n").length;
  study.scrollTop = (lines - 4) * (study.scrollHeight / study.value.split("\n").length);
  follow();
}

$("#check").addEventListener("click", async () => {
  if (!form.reportValidity()) return;
  $("#check").disabled = true;
  told({ checked: "checking" });
  try {
    const found = await post("check", submission());
    const what = found.goes_on ? `run ${found.run} exists with this study, and would go on` : "nothing is wrong with it";
    told({ problems: found.problems, checked: found.problems.length ? "" : `Checked: ${what}.`, notes: found.told });
  } catch (error) {
    told({ problems: error.problems ?? [error.message] });
  }
  $("#check").disabled = false;
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const made = await post("runs", submission());
    told({});
    location.hash = link(made.run);
  } catch (error) {
    told({ problems: error.problems ?? [error.message] });
  }
});

// Help

async function help() {
  try {
    schema ??= await api("study-schema");
    follow();
  } catch (error) {
    say(error.message, true);
  }
}

const resolved = (node) => (node?.$ref ? node.$ref.slice(2).split("/").reduce((found, step) => found?.[step], schema) : node) ?? {};

// A node and all forms that it may have.
function forms(node) {
  const found = resolved(node);
  return [found, ...(found.anyOf ?? []).flatMap(forms), ...(found.items ? forms(found.items) : [])];
}

const children = (node) => Object.assign({}, ...forms(node).map((form) => form.properties ?? {}));
const free = (node) => forms(node).map((form) => form.additionalProperties).find((more) => more && typeof more === "object");
const doc = (node) => node.description ?? resolved(node).description ?? forms(node).map((form) => form.description).find(Boolean) ?? "";

// What stands at a path, as far as the schema knows it.
export function at(path) {
  let node = schema;
  const known = [];
  for (const step of path) {
    const next = children(node)[step] ?? free(node);
    if (!next) break;
    node = next;
    known.push(step);
  }
  return { node, known };
}

// What a value may be: names of parts and options, kinds, bounds.
function values(node) {
  const found = new Set();
  for (const form of forms(node)) {
    if (form.const !== undefined) found.add(JSON.stringify(form.const));
    for (const option of form.enum ?? []) found.add(JSON.stringify(option));
    if (["integer", "number"].includes(form.type)) {
      const from = form.minimum ?? form.exclusiveMinimum, to = form.maximum ?? form.exclusiveMaximum;
      found.add(form.type + (from !== undefined ? ` from ${from}` : "") + (to !== undefined ? ` to ${to}` : ""));
    }
    if (form.type === "boolean") found.add("true or false");
  }
  return [...found];
}

// The keys around a place in a text of YAML, in blocks and in braces; enough for help, no parser.
export function pathAt(said, place) {
  const word = /^[\w.]*:?/.exec(said.slice(place))[0];
  const lines = (said.slice(0, place) + word).split("\n").map((line) => line.replace(/(^|\s)#.*$/, "$1"));
  const blocks = [];
  let flow = []; // a key or "" for each open brace
  for (const line of lines) {
    let rest = line;
    const key = flow.length ? null : /^(\s*(?:- )*)([\w.]+):(?=\s|$)/.exec(line);
    if (key) {
      while (blocks.length && blocks.at(-1).indent >= key[1].length) blocks.pop();
      blocks.push({ indent: key[1].length, key: key[2] });
      rest = line.slice(key[0].length);
    } else if (!flow.length && line.trim()) {
      const indent = /^\s*/.exec(line)[0].length; // a value below its key, or a key half written
      while (blocks.length && blocks.at(-1).indent >= indent) blocks.pop();
    }
    for (const piece of rest.match(/[\w.]+(?=:)|[{}[\],]/g) ?? []) {
      if (piece === "{" || piece === "[") flow.push("");
      else if (piece === "}" || piece === "]") flow.pop();
      else if (piece === ",") { if (flow.length) flow[flow.length - 1] = ""; }
      else if (flow.length) flow[flow.length - 1] = piece;
    }
  }
  return [...blocks.map(({ key }) => key), ...flow.filter(Boolean)];
}

const follow = () => { if (schema && !$("#find").value) tell(pathAt(study.value, study.selectionStart)); };

function tell(path) {
  const { node, known } = at(path), room = $("#told-key");
  const steps = [make("button", { type: "button", textContent: "study" }), ...known.map((textContent) => make("button", { type: "button", textContent }))];
  steps.forEach((button, place) => button.addEventListener("click", () => tell(known.slice(0, place))));
  const parts = [make("p", { className: "key" }, ...steps)];
  if (path.length > known.length) parts.push(make("p", { className: "wrong", textContent: `${path[known.length]}: no key there` }));
  for (const line of doc(node).split("; ")) if (line) parts.push(make("p", { className: "key", textContent: line }));
  const own = resolved(node), least = node.default ?? own.default;
  if (least !== undefined && least !== null && !doc(node).includes("default: ")) parts.push(make("p", { className: "soft key", textContent: `default: ${JSON.stringify(least)}` }));
  const may = values(node);
  if (may.length) parts.push(make("p", { className: "key", textContent: `may be: ${may.slice(0, 40).join(", ")}${may.length > 40 ? " …" : ""}` }));
  const below = Object.entries(children(node));
  if (below.length) parts.push(make("p", { className: "soft key", textContent: "Keys:" }), ...below.map(([name, child]) => keyLine([...known, name], name, child)));
  room.replaceChildren(...parts);
}

function keyLine(path, name, child) {
  const button = make("button", { type: "button", textContent: name });
  button.addEventListener("click", () => { $("#find").value = ""; tell(path); });
  return make("p", { className: "key" }, button, make("span", { className: "soft", textContent: doc(child).split("; ")[0] }));
}

// Every key that has a word of the search in its name or its help.
function found(wanted, node = schema, path = [], into = []) {
  for (const [name, child] of Object.entries(children(node))) {
    const there = [...path, name];
    if (there.length > 6 || into.length >= 30) return into;
    if (there.join(".").toLowerCase().includes(wanted) || doc(child).toLowerCase().includes(wanted)) into.push([there, child]);
    found(wanted, child, there, into);
  }
  return into;
}

$("#find").addEventListener("input", ({ target }) => {
  const wanted = target.value.trim().toLowerCase();
  if (!schema || !wanted) return follow();
  const lines = found(wanted).map(([path, child]) => keyLine(path, path.join("."), child));
  $("#told-key").replaceChildren(...(lines.length ? lines : [make("p", { className: "soft", textContent: "no key, part or knob is called or told so" })]));
});
for (const kind of ["keyup", "click", "input"]) study.addEventListener(kind, follow);
