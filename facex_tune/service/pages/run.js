// One run while it goes on: how far it has come, its trials, its charts, its console.
import { $, act, api, brief, cell, clock, counted, draw, link, make, pairs, runPath, say, show, shown, sortable, stateOf, table, text, words } from "./base.js";
import { runNames } from "./runs.js";

const AT_ONCE = 12, MORE = 100; // trials: few at first, so that the charts are not far
const CHARTS_EVERY_MS = 5000, CONSOLE_EVERY_MS = 2000, TRIALS_EVERY_MS = 2000;
const CONSOLE_KEPT = 256 * 1024; // characters on the page

let now = null; // what is shown: the run, its document, when that came, and what was asked for of it

// What has changed is asked for again, but no more often than this; one question at a time.
function paced(every, ask) {
  let timer = null, going = false, wanted = false, last = 0;
  const go = async () => {
    timer = null;
    if (going) { wanted = true; return; }
    going = true;
    wanted = false;
    last = Date.now();
    await ask();
    going = false;
    if (wanted) want();
  };
  const want = () => { timer ??= setTimeout(go, Math.max(0, last + every - Date.now())); };
  return { want, at_once: () => { clearTimeout(timer); timer = setTimeout(go, 0); }, end: () => clearTimeout(timer) };
}

export function showRun(name) {
  const shownNow = { name, run: null, came: 0, stamp: "", charts: "", columns: [], by: "rank", falling: false, count: AT_ONCE, end: null };
  const isNow = () => now === shownNow;
  const guarded = (ask) => async () => {
    if (!isNow()) return;
    try { await ask(shownNow); } catch (error) { if (isNow()) say(error.message, true); }
  };
  now = shownNow;
  shownNow.trials = paced(TRIALS_EVERY_MS, guarded(askTrials));
  shownNow.views = paced(CHARTS_EVERY_MS, guarded(askViews));
  shownNow.console = guarded(askConsole);
  for (const each of ["#board tbody", "#views", "#console pre", "#study pre", "#same"]) $(each).replaceChildren();
  $("#trials-filter").value = "";
  let source = null;
  api(runPath(name)).then((run) => {
    if (!isNow()) return;
    show("run");
    take(run);
    beside(name);
    if ($("#study").open) askStudy();
    source = new EventSource(`api/${runPath(name)}/events`);
    source.onmessage = (message) => take(JSON.parse(message.data));
    source.onopen = () => { if (isNow()) standing(); };
    source.onerror = () => { if (isNow()) say("connection lost; trying again", true); };
  }, (error) => { if (isNow()) say(error.message, true); });
  const ticking = setInterval(() => { if (isNow() && now.run) { headline(); runsNow(); } }, 1000);
  const listening = setInterval(() => { if ($("#console").open) shownNow.console(); }, CONSOLE_EVERY_MS);
  return () => {
    now = null;
    source?.close();
    clearInterval(ticking);
    clearInterval(listening);
    shownNow.trials.end();
    shownNow.views.end();
  };
}

const isWritten = (run) => ["going", "elsewhere"].includes(run.place);

// Only what somebody writes is live.
function standing() {
  say(isWritten(now.run) ? "live" : now.run.place === "waiting" ? "waiting for room" : "");
}

function take(run) {
  const before = now.run;
  Object.assign(now, { run, came: Date.now() });
  if (!before || before.place !== run.place) standing();
  facts(run);
  headline();
  progress(run);
  models(run);
  scores($("#scores"), run.evaluation);
  now.trials.want();
  now.views.want();
}

function facts(run) {
  const room = $("#run");
  room.querySelector("h2").textContent = run.run;
  const budget = Object.entries(run.budget).map(([name, value]) => `${words(name)} ${name === "time" ? clock(value) : value}`).join(", ");
  room.querySelector(".facts").textContent =
    `${stateOf(run)} · study ${run.study} on ${run.data} · ${counted(run.trials) || "no trials yet"} · budget: ${budget} · objective: ${words(run.objective)}`;
  room.querySelector("[data-act=stop]").disabled = !["going", "waiting"].includes(run.place);
  room.querySelector("[data-act=resume]").disabled = run.place !== "idle" || run.state === "finished";
  const path = "api/" + runPath(run.run);
  const report = room.querySelector("[data-file=report]");
  report.hidden = !run.has_report;
  report.href = path + "/report/index.html";
  room.querySelector("[data-file=archive]").href = path + "/archive";
  room.querySelector("[data-file=faceless]").href = path + "/archive?faces=false";
}

// The terminal's headline; between two events the clock goes on here.
function headline() {
  const { progress: told, max_epochs: most } = now.run, since = isWritten(now.run) ? (Date.now() - now.came) / 1000 : 0;
  const parts = [told.stage ? `stage: ${told.stage}` : "not begun"];
  if (told.stage === "retrain") parts.push(`${told.models.done}/${told.models.of} models${told.models.failed ? `, ${told.models.failed} failed` : ""}`);
  if (told.stage) parts.push(`elapsed ${clock(told.elapsed_s + since)}`);
  if (told.remaining_s !== null) parts.push(`about ${clock(Math.max(0, told.remaining_s - since))} left`);
  if (told.images_per_second) parts.push(`${Math.round(told.images_per_second).toLocaleString("en")} images/s`);
  $("#progress .headline").textContent = parts.join(" · ");
  const bar = $("#progress progress");
  bar.hidden = told.share === null || !isWritten(now.run);
  if (!bar.hidden) bar.value = told.share;
  $("#progress").dataset.epochs = most;
}

// What runs, and how far into its epoch: one is taken to last as long as the one before, and is never told as done.
function underWay() {
  const since = (Date.now() - now.came) / 1000;
  const within = ({ passed_s, epoch_s }) => {
    if (passed_s === null) return "";
    const passed = passed_s + since;
    return epoch_s ? ` (next: about ${Math.floor(100 * Math.min(0.99, passed / epoch_s))} %)` : ` (next: ${clock(passed)} so far)`;
  };
  return now.run.progress.epochs_now.map((each) => `${each.name} epoch ${each.epoch}/${each.epochs}${within(each)}`).join(", ");
}

function runsNow() {
  const told = [...document.querySelectorAll("#progress dt")].find((name) => name.textContent === "runs now");
  if (told) told.nextElementSibling.textContent = underWay();
}

function progress(run) {
  const told = run.progress;
  const rungs = told.rungs.map(({ epoch, seen, cut }) => `epoch ${epoch}: ${seen} trial${seen === 1 ? "" : "s"}${cut === null ? "" : `, cut ${shown(cut)}`}`);
  pairs($("#progress dl"), {
    "runs now": underWay(),
    used: told.used,
    rungs: rungs.join(" · "),
    ended: told.ended,
    "went on after": Object.entries(told.went_on).map(([why, n]) => `${n} ${words(why)}`).join(", "),
    "sealed sets opened": told.opened.join(", "),
    notes: told.notes.join(" · "),
  });
}

// Trials

const FIXED = [
  { key: "rank", name: "Rank", kind: "n" },
  { key: "trial", name: "Trial" },
  { key: "state", name: "State" },
  { key: "epochs", name: "Epochs", kind: "n" },
  { key: "value", name: "Value", kind: "n" },
  { key: "seconds", name: "Time", kind: "n" },
];

async function askTrials(mine) {
  const filter = $("#trials-filter").value.trim();
  const query = new URLSearchParams({ sort: mine.by, order: mine.falling ? "descending" : "ascending", count: Math.min(500, mine.count), text: filter });
  const told = await api(`${runPath(mine.name)}/trials?${query}`);
  if (now !== mine) return;
  const falls = new Set(["epochs", "value", "seconds", ...told.metrics]);
  const others = [...told.metrics, ...told.knobs].map((key) => ({ key, name: key }));
  const change = (by, falling) => {
    Object.assign(mine, { by, falling: falling ?? falls.has(by) });
    mine.trials.at_once();
  };
  sortable($("#board thead tr"), $("#trials-sort"), [...FIXED, ...others], mine, change);
  const heads = [...$("#board thead tr").cells].slice(0, FIXED.length);
  $("#board thead tr").replaceChildren(...heads, make("th", { textContent: "Configuration" }));
  const differing = differingKnobs(told.trials);
  $("#board tbody").replaceChildren(...told.trials.map((trial) => rowOf(mine.name, trial, differing)));
  $("#trials-count").textContent = filter ? `${told.matching} of ${told.of} trials` : `${told.of} trial${told.of === 1 ? "" : "s"}`;
  $("#more").hidden = told.trials.length >= told.matching || mine.count >= 500;
  $("#unreported").hidden = told.trials.some((trial) => trial.epochs > 0) || filter !== "";
  const first = told.trials[0]?.config ?? {}, same = Object.keys(first).filter((knob) => !differing.includes(knob));
  $("#same").hidden = !same.length;
  $("#same").textContent = "The same in all that are shown: " + told_(first, same);
}

function rowOf(run, trial, differing) {
  const row = make("tr", { dataset: { trial: trial.trial } });
  // a rank without an epoch would be the order in which trials were suggested
  cell(row, trial.repeats === null && trial.epochs ? trial.rank : "", "n");
  cell(row).append(make("a", { textContent: trial.trial, href: link(run, trial.trial) }));
  cell(row, trial.reason ? `${trial.state} (${words(trial.reason)})` : trial.state);
  cell(row, trial.epochs, "n", "epochs");
  const mean = trial.n > 1 && trial.repeats === null ? ` (mean of ${trial.n} seeds ${shown(trial.mean)})` : "";
  cell(row, shown(trial.value) + mean, "n", "value");
  cell(row, trial.seconds ? clock(trial.seconds) : "", "n wideonly");
  cell(row, told_(trial.config, differing), "config");
  return row;
}

const told_ = (config, knobs) => knobs.filter((knob) => knob in config).map((knob) => `${knob}=${brief(config[knob])}`).join("  ");

// What tells trials apart; of a single one, everything.
function differingKnobs(trials) {
  const knobs = [...new Set(trials.flatMap((trial) => Object.keys(trial.config)))];
  if (trials.length < 2) return knobs;
  return knobs.filter((knob) => new Set(trials.map((trial) => JSON.stringify(trial.config[knob]))).size > 1);
}

let typed = null;
$("#trials-filter").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => now?.trials.at_once(), 200);
});
$("#more").addEventListener("click", () => { now.count += MORE; now.trials.at_once(); });

// Charts

const near = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    target.near = isIntersecting;
    if (isIntersecting && target.waits) { target.waits = false; draw(target, ...target.given); }
  }
}, { rootMargin: "400px" });

function chart(name, className = "") {
  const made = make("div", { className: `chart ${className}`, dataset: { view: name } });
  near.observe(made);
  return made;
}

const figure = (caption, ...charts) => make("figure", {}, ...charts, make("figcaption", { textContent: caption }));

async function askViews(mine) {
  if (!$("#charts").open || document.hidden) return;
  const told = await api(`${runPath(mine.name)}/views?since=${encodeURIComponent(mine.charts)}`);
  if (now !== mine || !("views" in told)) return;
  mine.charts = told.stamp;
  const views = told.views;
  $("#charts-said").textContent = views ? explained(views) : "No trial has completed an epoch yet.";
  if (!views) return;
  const room = $("#views"), kinds = JSON.stringify([Object.keys(views.figures), views.figures.slices?.length, views.contours.names, views.contours.pairs.length > 0]);
  if (room.dataset.run !== mine.name || room.dataset.kinds !== kinds || !room.children.length) {
    for (const old of room.querySelectorAll(".chart")) near.unobserve(old);
    mine.shown = views;
    room.replaceChildren(...arranged(mine));
    Object.assign(room.dataset, { run: mine.name, kinds });
  }
  mine.shown = views;
  const texts = charts.texts(views), open = (number) => { location.hash = link(mine.name, views.trials[number].label); };
  mine.give = (each) => {
    each.given = [charts.figure(mine.shown, each.dataset), texts, open];
    if (each.near) draw(each, ...each.given); else each.waits = true;
  };
  for (const each of room.querySelectorAll(".chart")) if (!each.chosen) mine.give(each);
  for (const each of room.querySelectorAll(".chart")) each.chosen?.();
}

function explained(views) {
  const drawn = views.shown < views.with_value ? ` The best ${views.shown} of ${views.with_value} trials are drawn.` : "";
  const by = views.ranked_by === "importance" ? "the most important knobs first (PED-ANOVA)" : "parts first, then the other knobs that vary; too few trials to say which are important";
  return `A click on a point opens its trial. Knobs: ${by}. Observational: a sampler chose these trials.${drawn}`;
}

// A chart of two knobs, or of two objectives, and the boxes that choose them; what was chosen stays.
function pair(mine, family, caption) {
  const { names, first } = mine.shown[family], kept = mine.chosen?.[family] ?? first;
  const boxes = kept.map((name, side) => {
    const box = make("select", {}, ...Object.entries(names).map(([value, textContent]) => make("option", { value, textContent })));
    box.value = name in names ? name : first[side];
    return box;
  });
  const labels = boxes.map((box, side) => make("label", { className: "beside", hidden: Object.keys(names).length < 3 }, ["Across ", "Up "][side], box));
  const made = make("figure", { className: "pair" }, make("p", { className: "choose" }, ...labels, make("output")), chart(family), make("figcaption", { textContent: caption }));
  made.querySelector(".chart").chosen = charts.choose(() => mine.shown, made, (each) => {
    mine.chosen = { ...mine.chosen, [family]: boxes.map((box) => box.value) };
    mine.give?.(each);
  });
  return made;
}

function arranged(mine) {
  const views = mine.shown;
  const made = [make("div", { className: "charts-2" },
    figure("Learning curves, on validation", chart("learning")),
    ...(views.figures.history ? [figure("Each trial's last value, and the best so far of those that finished", chart("history"))] : []))];
  if (views.figures.parallel) {
    const wide = make("div", { className: "sideways" }, chart("parallel", "parallel"));
    made.push(figure(`Parallel coordinates: from knobs to ${views.objective}, in fifths of the trials that finished`, wide));
    const slices = make("div", { className: "slices" }, ...views.figures.slices.map((_, at) => chart(`slice-${at}`)));
    made.push(figure("Slices: each trial's value by one knob. Rings have not finished, and their values are of an earlier epoch.", slices));
  }
  if (views.figures.importance) made.push(figure("Importance: how much each knob has to do with being in the best tenth (PED-ANOVA). A sampler chose these trials, so that knobs go together; this is no effect.", chart("importance", "importance")));
  if (views.contours.pairs.length) made.push(pair(mine, "contours", `Contours: the mean ${views.objective} of the finished trials near each place, blank where none is near; two knobs at a time, of trials that have both. Dots are the trials.`));
  if (views.fronts.pairs.length) made.push(pair(mine, "fronts", "Objectives against each other. Diamonds: finished trials that keep every constraint and that no other such trial beats in all of them; a star is the winner. Rings have not finished, and their values are of an earlier epoch."));
  made.push(figure("When each trial held a worker", chart("timeline")));
  return made;
}

$("#charts").addEventListener("toggle", () => now?.views.at_once());
document.addEventListener("visibilitychange", () => now?.views.want());

// Final models and test scores

function models(run) {
  const rows = run.models.map(({ candidate, seed, validation }) => [`t${String(candidate).padStart(4, "0")}`, seed, shown(validation[run.objective]), shown(validation.accuracy), ""]);
  rows.push(...run.failed_models.map(({ candidate, seed, reason }) => [`t${String(candidate).padStart(4, "0")}`, seed, "", "", words(reason)]));
  $("#models").hidden = !rows.length;
  $("#models .wide").replaceChildren(table([["Trial"], ["Seed", "n"], [`${words(run.objective)}, validation`, "n"], ["accuracy", "n"], ["Failed"]], rows));
}

function scores(room, evaluation) {
  const protocols = Object.entries(evaluation ?? {});
  if (!protocols.length) {
    room.textContent = "None yet: the sealed sets are opened once, when the final models are trained.";
    return;
  }
  const told = (metric) => shown(metric?.mean) + (metric?.interval ? ` [${shown(metric.interval[0])}, ${shown(metric.interval[1])}]` : "");
  const names = ["accuracy", "macro_f1", "worst_class_recall"];
  room.replaceChildren(table(
    [["Protocol"], ["n", "n"], ...names.map((name) => [words(name), "n"]), ["", "long"]],
    protocols.map(([protocol, found]) => [protocol, found.n, ...names.map((name) => told(found.metrics?.[name])), found.constant ?? ""]),
  ));
}

// Console, study, actions

async function askConsole(mine) {
  const from = mine.end === null ? "" : `?after=${mine.end}`;
  const { text: said, headers } = await text(`${runPath(mine.name)}/console${from}`);
  if (now !== mine) return;
  const room = $("#console pre"), begin = Number(headers.get("X-Console-Begin"));
  const atEnd = room.scrollTop + room.clientHeight >= room.scrollHeight - 8;
  const goesOn = mine.end !== null && begin === mine.end;
  if (goesOn && !said) return;
  room.textContent = ((goesOn ? room.textContent : "") + said).slice(-CONSOLE_KEPT) || "Nothing was printed here: another program began this run, or it has not begun.";
  mine.end = said || goesOn ? Number(headers.get("X-Console-End")) : null;
  if (atEnd || !goesOn) room.scrollTop = room.scrollHeight;
}

$("#console").addEventListener("toggle", () => now?.console());

async function askStudy() {
  const mine = now;
  try {
    const { text: said } = await text(`${runPath(mine.name)}/study`);
    if (now === mine) $("#study pre").textContent = said;
  } catch (error) {
    say(error.message, true);
  }
}

$("#study").addEventListener("toggle", () => { if ($("#study").open && now) askStudy(); });
$("#reuse").addEventListener("click", () => { location.hash = "#/new/" + encodeURIComponent(now.name); });

async function beside(name) {
  const others = (await runNames().catch(() => [])).filter((other) => other !== name);
  $("#beside").replaceChildren(make("option", { value: "", textContent: "another run" }), ...others.map((value) => make("option", { value, textContent: value })));
  $("#beside").disabled = !others.length;
}

$("#beside").addEventListener("change", (event) => {
  if (event.target.value) location.hash = "#/compare/" + [now.name, event.target.value].map(encodeURIComponent).join("/");
});

for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", () =>
    act(`${runPath(now.name)}/${button.dataset.act}`, undefined, () => say(button.dataset.act === "stop" ? "stopping: the run saves first" : "resuming")));
}
