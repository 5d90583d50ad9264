// The list of runs: sorted, filtered, some of them chosen to be compared.
import { $, api, cell, clock, counted, link, make, say, show, shown, sortable, stateOf } from "./base.js";

const ASKED_EVERY_MS = 3000;
const COLUMNS = [
  { key: "chosen", name: "", sorts: false },
  { key: "run", name: "Run", value: (run) => run.run },
  { key: "state", name: "State", value: stateOf },
  { key: "study", name: "Study", value: (run) => run.study },
  { key: "data", name: "Data", value: (run) => run.data },
  { key: "trials", name: "Trials", value: (run) => Object.values(run.trials ?? {}).reduce((sum, n) => sum + n, 0) },
  { key: "best", name: "Best", kind: "n", value: (run) => run.best?.value },
  { key: "seconds", name: "Search", kind: "n", value: (run) => run.search_seconds },
  { key: "begun", name: "Begun (UTC)", value: (run) => run.created_utc },
];
const FALLING = new Set(["best", "begun", "trials", "seconds"]); // what one looks for comes first
const known = new Map(); // runs by name: only what has changed is asked for
const chosen = new Set();
const sorted = { by: "begun", falling: true };
let stamp = "", names = [];

async function ask() {
  const changed = await api("runs" + (stamp ? "?since=" + encodeURIComponent(stamp) : ""));
  stamp = changed.stamp;
  for (const run of changed.runs) known.set(run.run, run);
  const gone = [...known.keys()].filter((name) => !changed.names.includes(name));
  for (const name of gone) { known.delete(name); chosen.delete(name); }
  names = changed.names;
  if (changed.runs.length || gone.length || !$("#runs-table tbody").rows.length) draw();
}

// The names of all runs, for whoever wants to choose one.
export async function runNames() {
  await ask();
  return names;
}

function draw() {
  sortable($("#runs-table thead tr"), $("#runs-sort"), COLUMNS, sorted, (by, falling) => {
    Object.assign(sorted, { by, falling: falling ?? FALLING.has(by) });
    draw();
  });
  const { value } = COLUMNS.find(({ key }) => key === sorted.by);
  const wanted = $("#runs-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [...known.values()].filter((run) => {
    const text = [run.run, stateOf(run), run.study, run.data, run.problem].join(" ").toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
  found.sort((one, other) => compared(value(one), value(other)));
  $("#runs-table tbody").replaceChildren(...found.map(rowOf));
  $("#runs-count").textContent = wanted.length ? `${found.length} of ${known.size} runs` : "";
  $("#none").hidden = known.size > 0;
  $("#compare-chosen").disabled = chosen.size < 2;
}

// What is not there comes last, whichever way.
function compared(one, other) {
  const lacks = (each) => each === undefined || each === null || each === "";
  if (lacks(one) || lacks(other)) return lacks(one) - lacks(other);
  const order = typeof one === "number" ? one - other : String(one).localeCompare(String(other));
  return sorted.falling ? -order : order;
}

function rowOf(run) {
  const row = make("tr");
  const box = make("input", { type: "checkbox", checked: chosen.has(run.run), disabled: Boolean(run.problem) });
  box.setAttribute("aria-label", `choose ${run.run}`);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(run.run); else chosen.delete(run.run);
    $("#compare-chosen").disabled = chosen.size < 2;
  });
  cell(row).append(box);
  cell(row).append(make("a", { textContent: run.run, href: link(run.run) }));
  cell(row, run.problem ?? stateOf(run), run.problem ? "long" : "");
  cell(row, run.study, "wideonly");
  cell(row, run.data);
  cell(row, counted(run.trials));
  cell(row, shown(run.best?.value), "n", "best");
  cell(row, run.search_seconds ? clock(run.search_seconds) : "", "n", "search");
  cell(row, (run.created_utc ?? "").slice(0, 16).replace("T", " "));
  return row;
}

export function showRuns() {
  show("runs");
  let failed = false; // what was said of an action stays, until the next one or another page
  const again = () => ask().then(
    () => { if (failed) say(""); failed = false; },
    (error) => { say(error.message, true); failed = true; },
  );
  draw();
  again();
  const timer = setInterval(again, ASKED_EVERY_MS);
  return () => clearInterval(timer);
}

$("#runs-filter").addEventListener("input", draw);
$("#compare-chosen").addEventListener("click", () => {
  location.hash = "#/compare/" + [...chosen].map(encodeURIComponent).join("/");
});
