// Where an address leads: runs, a new study, a run, a trial of it, or runs beside each other.
import { $, api, say, show } from "./base.js";
import { showRuns } from "./runs.js";
import { showRun } from "./run.js";
import { showTrial } from "./trial.js";
import { showCompared } from "./compare.js";
import { showForm } from "./study.js";

let leave = () => {}; // ends what the page shown before goes on with

function route() {
  leave();
  leave = () => {};
  say("");
  const steps = location.hash.slice(1).split("/").map(decodeURIComponent);
  const [first, second, ...rest] = steps;
  if (first) leave = (second ? showTrial(first, second) : showRun(first)) ?? leave;
  else if (second === "new") leave = showForm(rest[0]) ?? leave;
  else if (second === "compare" && rest.length > 1) leave = showCompared(rest) ?? leave;
  else leave = showRuns() ?? leave;
  document.title = first ? `${steps.join(" ")} · facex_tune` : "facex_tune";
}

$("#enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = new FormData(event.target).get("token");
  try {
    await api("session", { method: "POST", headers: { Authorization: "Bearer " + token } });
    event.target.reset();
    route();
  } catch (error) {
    say(error.message, true);
  }
});

$("#leave").addEventListener("click", async () => {
  leave();
  try {
    await api("session", { method: "DELETE" });
    show("enter");
    say("logged out");
  } catch (error) {
    say(error.message, true);
  }
});

addEventListener("hashchange", route);
route();
