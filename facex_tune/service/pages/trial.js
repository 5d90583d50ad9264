// A trial: its knobs, its curve by any metric, what rungs decided, why it ended.
import { $, api, clock, draw, link, pairs, runPath, say, show, shown, table, words } from "./base.js";

let metric = ""; // stays from one trial to the next
let told = null;

export function showTrial(run, label) {
  let ended = false, source = null, stamp = "";
  const ask = async () => {
    const trial = await api(`${runPath(run)}/trials/${encodeURIComponent(label)}`);
    if (ended) return;
    const first = told === null || told.trial !== trial.trial;
    told = trial;
    stamp = trial.stamp;
    show("trial");
    render(run, trial);
    if (first) scrollTo(0, 0);
  };
  told = null;
  ask().then(() => {
    if (ended || told.state !== "running") return;
    source = new EventSource(`api/${runPath(run)}/events`);
    source.onopen = () => say("live");
    source.onerror = () => say("connection lost; trying again", true);
    source.onmessage = (message) => {
      const now = JSON.parse(message.data);
      if (now.stamp === stamp) return;
      ask().then(() => { if (told?.state !== "running") { source.close(); say(""); } }, (error) => say(error.message, true));
    };
  }, (error) => say(error.message, true));
  return () => { ended = true; source?.close(); };
}

function render(run, trial) {
  const room = $("#trial"), up = room.querySelector(".up");
  up.textContent = `Run ${run}`;
  up.href = link(run);
  room.querySelector("h2").textContent = trial.trial;
  const rank = trial.epochs && trial.repeats === null ? `rank ${trial.rank} of ${trial.of}` : trial.repeats ? `repeats ${trial.repeats} with another seed` : "no rank before its first epoch";
  room.querySelector(".facts").textContent =
    [`${words(trial.objective)} ${shown(trial.value) || "not yet measured"}`, `epoch ${trial.epochs}/${trial.max_epochs}`, trial.ended, rank, clock(trial.seconds), `from ${words(trial.source)}`].join(" · ");
  for (const way of ["better", "worse"]) {
    const there = room.querySelector("." + way);
    there.hidden = !trial[way];
    if (trial[way]) there.href = link(run, trial[way]);
  }
  room.querySelector(".detail").textContent = trial.detail;
  room.querySelector(".rungs").textContent = trial.rungs.length ? trial.rungs.join(", ") : "No rung has decided about it.";
  pairs(room.querySelector(".knobs"), Object.fromEntries(Object.entries(trial.config).map(([knob, value]) => [knob, String(value)])));
  const metrics = [...new Set(trial.curve.flatMap((each) => Object.keys(each)))].filter((name) => name !== "epoch");
  const list = $("#metric");
  list.replaceChildren(...metrics.map((name) => new Option(words(name), name)));
  if (!metrics.includes(metric)) metric = metrics.includes(trial.objective) ? trial.objective : metrics[0] ?? "";
  list.value = metric;
  $("#curve").hidden = !metrics.length;
  if (metrics.length) curve(trial);
  const heads = metrics.filter((name) => !name.includes(".") || name === metric); // those by emotion: on the chart
  $("#epochs").replaceChildren(table(
    [["epoch", "n"], ...heads.map((name) => [words(name), "n"])],
    trial.curve.map((each) => [each.epoch, ...heads.map((name) => shown(each[name]))]),
  ));
}

function curve(trial) {
  const points = trial.curve.filter((each) => typeof each[metric] === "number");
  const given = { curve: [points.map(({ epoch }) => epoch), points.map((each) => each[metric])], epochs: trial.epochs };
  draw($("#curve"), charts.curve(given, words(metric))).catch((error) => say(error.message, true));
}

$("#metric").addEventListener("change", (event) => { metric = event.target.value; if (told) render(decodeURIComponent(location.hash.slice(1).split("/")[0]), told); });
