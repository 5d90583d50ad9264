// Runs beside each other: how their searches went, what won, and paired differences on the same faces.
import { $, api, brief, clock, draw, link, make, say, show, shown, table, words } from "./base.js";

const METRICS = ["accuracy", "macro_f1", "worst_class_recall", "log_loss"];

export function showCompared(names) {
  let ended = false;
  const query = names.map((name) => "run=" + encodeURIComponent(name)).join("&");
  say("comparing");
  api("comparison?" + query).then((told) => {
    if (ended) return;
    say("");
    show("compare");
    $("#compare h2").textContent = names.join(" and ");
    $("#compare .page").href = "api/comparison/page?" + query;
    $("#compared").replaceChildren(...parts(told));
    for (const chart of document.querySelectorAll("[data-figure]")) draw(chart, told.figures[chart.dataset.figure]).catch((error) => say(error.message, true));
  }, (error) => { if (!ended) say(error.message, true); });
  return () => { ended = true; };
}

const heading = (textContent) => make("h3", { textContent });
const wide = (child) => make("div", { className: "wide" }, child);
const interval = (found) => (found ? ` [${shown(found[0])}, ${shown(found[1])}]` : "");
const signed = (value) => (value > 0 ? "+" : "") + shown(value);
const label = (trial) => `t${String(trial).padStart(4, "0")}`;

function parts(told) {
  const made = [heading("Runs"), wide(runs(told.runs))];
  made.push(heading("Where the winners and their training differ"), wide(differing(told.runs)));
  const protocols = [...new Set(told.runs.flatMap((run) => Object.keys(run.evaluation)))];
  made.push(heading("Sealed sets: means over the winner's seeds, with 95 % intervals over faces"));
  if (!protocols.length) made.push(make("p", { className: "none", textContent: "None of these runs was evaluated yet." }));
  for (const protocol of protocols) made.push(make("p", { textContent: protocol }), wide(scored(told.runs, protocol)));
  made.push(heading("Differences on the same faces"));
  if (!told.differences.length) made.push(make("p", { className: "none", textContent: "No two of these runs scored the same faces of the same prepared set." }));
  for (const each of told.differences) made.push(...difference(each));
  return made;
}

function runs(rows) {
  const made = table(
    [["Run"], ["Study"], ["Data"], ["Trials", "n"], ["Search", "n"], ["Best of the search"]],
    rows.map((run) => ["", run.study, run.data, run.trials, clock(run.seconds), run.best ? `${label(run.best.trial)}, ${words(run.best.objective)} ${shown(run.best.value)}` : "–"]),
  );
  rows.forEach((run, at) => made.tBodies[0].rows[at].cells[0].append(make("a", { textContent: run.run, href: link(run.run) })));
  return made;
}

function differing(rows) {
  const configs = rows.map((run) => ({ ...run.training, ...(run.best?.config ?? {}) }));
  const names = [...new Set(configs.flatMap((config) => Object.keys(config)))];
  const apart = names.filter((name) => new Set(configs.map((config) => JSON.stringify(config[name]))).size > 1);
  const told = (value) => (value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : brief(value));
  return table([["Knob"], ...rows.map((run) => [run.run])], apart.map((name) => [name, ...configs.map((config) => told(config[name]))]));
}

function scored(rows, protocol) {
  const found = rows.filter((run) => run.evaluation[protocol]);
  return table(
    [["Run"], ["Faces", "n"], ["Seeds", "n"], ...METRICS.map((name) => [words(name), "n"]), ["Opened", "n"]],
    found.map((run) => {
      const { n, seeds, metrics, opened } = run.evaluation[protocol];
      return [run.run, n, seeds.length, ...METRICS.map((name) => shown(metrics[name].mean) + interval(metrics[name].interval)), `${opened}×`];
    }),
  );
}

function difference(each) {
  const few = each.metrics.accuracy.seeds_interval ? "" : "; too few seeds to tell configurations apart, only these models";
  const p = each.p_value === null ? "" : `; accuracy: p = ${each.p_value.toPrecision(3)}`;
  return [
    make("p", { textContent: `${each.first} minus ${each.second} on ${each.protocol}, n = ${each.n}${few}${p}` }),
    wide(table([["Metric"], ["Difference", "n"], ["95 % over faces", "n"], ["95 % over seeds", "n"]],
      Object.entries(each.metrics).map(([name, value]) => [words(name), signed(value.mean), interval(value.interval), interval(value.seeds_interval) || "–"]))),
  ];
}
