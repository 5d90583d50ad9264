"use strict";
// Runs, one run, and what can be done with it. Everything shown is set as text, never as markup.

const $ = (selector) => document.querySelector(selector);
const SVG = "http://www.w3.org/2000/svg";
const RUNS_ASKED_EVERY_MS = 3000;
let watching = null; // the open event source
let asking = null; // the timer of the list of runs
const rows = new Map(); // of the list of runs, by name: only what has changed is asked for
let stamp = "";
let current = null; // the run shown last

function say(text, wrong = false) {
  $("#said").textContent = text;
  $("#said").classList.toggle("wrong", wrong);
}

async function api(path, options = {}) {
  const answer = await fetch("api/" + path, { ...options, cache: "no-store", credentials: "same-origin" });
  if (answer.status === 401) {
    show("enter");
    throw new Error("enter the service's token");
  }
  const body = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(typeof body.detail === "string" ? body.detail : JSON.stringify(body.detail));
  return body;
}

function show(section) {
  for (const id of ["enter", "runs", "run"]) $("#" + id).hidden = id !== section;
  $("#leave").hidden = section === "enter" || document.body.dataset.asks !== "true";
}

function cell(row, text, name = "") {
  const made = row.insertCell();
  made.textContent = text ?? "";
  made.className = name;
  return made;
}

const shown = (value) => (typeof value === "number" ? value.toFixed(3) : "");
const counted = (trials) => Object.entries(trials ?? {}).map(([state, n]) => `${n} ${state}`).join(", ");

async function listRuns() {
  const changed = await api("runs" + (stamp ? "?since=" + encodeURIComponent(stamp) : ""));
  stamp = changed.stamp;
  for (const run of changed.runs) rows.set(run.run, rowOf(run));
  for (const name of rows.keys()) if (!changed.names.includes(name)) rows.delete(name);
  if (changed.runs.length || $("#runs tbody").rows.length !== rows.size)
    $("#runs tbody").replaceChildren(...changed.names.map((name) => rows.get(name)));
  $("#none").hidden = rows.size > 0;
}

function rowOf(run) {
  const row = document.createElement("tr");
  const link = document.createElement("a");
  link.textContent = run.run;
  link.href = "#" + encodeURIComponent(run.run);
  cell(row, "").append(link);
  cell(row, run.problem ?? stateOf(run));
  cell(row, typeof run.trials === "object" ? counted(run.trials) : run.trials);
  cell(row, shown(run.best?.value ?? run.best), "n");
  cell(row, (run.created_utc ?? "").slice(0, 16).replace("T", " "));
  return row;
}

function stateOf(run) {
  const places = { going: "running", waiting: "waiting for room", elsewhere: "running in another program" };
  return places[run.place] ?? run.state ?? "idle";
}

function showRun(run) {
  current = run;
  const room = $("#run");
  room.querySelector("h2").textContent = run.run;
  const lasting = (seconds) => (seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`);
  const budget = Object.entries(run.budget).map(([name, value]) => `${name} ${name === "time" ? lasting(value) : value}`).join(", ");
  room.querySelector(".facts").textContent =
    `${stateOf(run)} · ${counted(run.trials) || "no trials yet"} · budget: ${budget} · objective: ${run.objective}`;
  room.querySelector("[data-act=stop]").disabled = !["going", "waiting"].includes(run.place);
  room.querySelector("[data-act=resume]").disabled = run.place !== "idle" || run.state === "finished";
  const path = "api/runs/" + encodeURIComponent(run.run);
  const report = room.querySelector("[data-file=report]");
  report.hidden = !run.has_report;
  report.href = path + "/report/index.html";
  room.querySelector("[data-file=archive]").href = path + "/archive";
  room.querySelector("[data-file=faceless]").href = path + "/archive?faces=false";
  room.querySelector("figcaption").textContent = `${run.objective} by epoch, on validation; the best trial in colour`;
  room.querySelector("figure").hidden = !run.curves.length;
  $("#unreported").hidden = run.leaderboard.length > 0;
  draw(room.querySelector("svg"), run);
  const body = $("#board tbody");
  body.replaceChildren();
  const differing = differingKnobs(run.leaderboard);
  for (const trial of run.leaderboard) {
    const row = body.insertRow();
    cell(row, trial.repeats === null ? trial.rank : "", "n");
    cell(row, trial.trial);
    cell(row, trial.reason ? `${trial.state} (${trial.reason})` : trial.state);
    cell(row, trial.epochs, "n");
    const mean = trial.n > 1 && trial.repeats === null ? ` (mean of ${trial.n} seeds ${shown(trial.mean)})` : "";
    cell(row, shown(trial.value) + mean, "n");
    cell(row, told(trial.config, differing), "config");
  }
  const best = run.leaderboard[0]?.config ?? {};
  $("#same").hidden = differing.length === Object.keys(best).length;
  $("#same").textContent = "The same in all: " + told(best, Object.keys(best).filter((knob) => !differing.includes(knob)));
  scores($("#scores"), run.evaluation);
}

const brief = (value) => (typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(3) : String(value));

const told = (config, knobs) =>
  knobs.filter((knob) => knob in config).map((knob) => `${knob}=${brief(config[knob])}`).join("  ");

// What tells trials apart; of a single one, everything.
function differingKnobs(trials) {
  const knobs = [...new Set(trials.flatMap((trial) => Object.keys(trial.config)))];
  if (trials.length < 2) return knobs;
  return knobs.filter((knob) => new Set(trials.map((trial) => JSON.stringify(trial.config[knob]))).size > 1);
}

function scores(room, evaluation) {
  const protocols = Object.entries(evaluation ?? {});
  if (!protocols.length) {
    room.textContent = "None yet: the sealed sets are opened once, when the final models are trained.";
    return;
  }
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const name of ["Protocol", "n", "accuracy", "macro_f1", "worst_class_recall"]) cell(head, name, name === "Protocol" ? "" : "n");
  const body = table.createTBody();
  for (const [protocol, found] of protocols) {
    const row = body.insertRow();
    cell(row, protocol);
    cell(row, found.n, "n");
    for (const name of ["accuracy", "macro_f1", "worst_class_recall"]) {
      const metric = found.metrics?.[name];
      const interval = metric?.interval ? ` [${shown(metric.interval[0])}, ${shown(metric.interval[1])}]` : "";
      cell(row, shown(metric?.mean) + interval, "n");
    }
  }
  room.replaceChildren(table);
}

function draw(svg, run) {
  svg.replaceChildren();
  const wide = svg.clientWidth || 720, right = wide - 12; // one unit is one pixel, so that a phone's letters are legible
  svg.setAttribute("viewBox", `0 0 ${wide} 260`);
  const points = run.curves.flatMap((curve) => curve.values.filter((value) => value !== null));
  if (!points.length) return;
  const low = Math.min(...points), high = Math.max(...points), span = high - low || 1;
  const last = Math.max(run.max_epochs ?? 1, ...run.curves.flatMap((curve) => curve.epochs), 2);
  const x = (epoch) => 48 + ((epoch - 1) / (last - 1)) * (right - 48);
  const y = (value) => 232 - ((value - low) / span) * 216;
  const add = (name, attributes, text) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    svg.append(made);
  };
  add("line", { class: "axis", x1: 48, x2: right, y1: 232, y2: 232 });
  for (const value of [low, low + span / 2, low + span]) add("text", { x: 40, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2));
  for (const epoch of new Set([1, Math.round((1 + last) / 2), last])) add("text", { x: x(epoch), y: 250, "text-anchor": "middle" }, epoch);
  const best = run.leaderboard[0]?.trial;
  for (const curve of [...run.curves].reverse()) {
    const name = curve.trial === best ? " best" : "";
    const at = curve.values.map((value, i) => [curve.epochs[i], value]).filter(([, value]) => value !== null);
    if (!at.length) continue;
    add("polyline", { class: "curve" + name, points: at.map(([epoch, value]) => `${x(epoch)},${y(value)}`).join(" ") });
    const [epoch, value] = at[at.length - 1];
    add("circle", { class: "dot" + name, cx: x(epoch), cy: y(value), r: 3 });
    if (name) add("text", { x: Math.min(x(epoch) + 6, right - 36), y: y(value) - 6 }, curve.trial);
  }
}

function route() {
  watching?.close();
  clearInterval(asking);
  say("");
  const name = decodeURIComponent(location.hash.slice(1));
  if (!name) {
    show("runs");
    let failed = false; // what was said of an action stays, until the next one or another page
    const ask = () => listRuns().then(
      () => { if (failed) say(""); failed = false; },
      (error) => { say(error.message, true); failed = true; },
    );
    ask();
    asking = setInterval(ask, RUNS_ASKED_EVERY_MS);
    return;
  }
  api("runs/" + encodeURIComponent(name)).then(
    (run) => {
      show("run");
      showRun(run);
      watching = new EventSource(`api/runs/${encodeURIComponent(name)}/events`);
      watching.onmessage = (message) => showRun(JSON.parse(message.data));
      watching.onopen = () => say("live");
      watching.onerror = () => say("connection lost; trying again", true);
    },
    (error) => say(error.message, true),
  );
}

async function act(path, options, then) {
  try {
    await then(await api(path, { method: "POST", ...options }));
  } catch (error) {
    say(error.message, true);
  }
}

$("#enter").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = event.target.token.value;
  act("session", { headers: { Authorization: `Bearer ${token}` } }, () => { event.target.reset(); route(); });
});

$("#leave").addEventListener("click", () => {
  if (watching) watching.close();
  act("session", { method: "DELETE" }, () => { show("enter"); say("logged out"); });
});

$("#submit").addEventListener("submit", (event) => {
  event.preventDefault();
  const body = { study: event.target.study.value };
  if (event.target.run.value) body.run = event.target.run.value;
  say("checking the study");
  act("runs", { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }, (made) => {
    location.hash = encodeURIComponent(made.run);
  });
});

for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", () => {
    const name = decodeURIComponent(location.hash.slice(1));
    act(`runs/${encodeURIComponent(name)}/${button.dataset.act}`, {}, () => say(button.dataset.act === "stop" ? "stopping: the run saves first" : "resuming"));
  });
}

addEventListener("hashchange", route);
addEventListener("resize", () => { if (current && !$("#run").hidden) draw($("#run svg"), current); });
route();
