// What every part of the page uses. Everything shown is set as text, never as markup.

export const $ = (selector) => document.querySelector(selector);
export const SECTIONS = ["enter", "runs", "new", "run", "trial", "compare"];

export function say(text, wrong = false) {
  $("#said").textContent = text;
  $("#said").classList.toggle("wrong", wrong);
}

export function show(section) {
  for (const id of SECTIONS) $("#" + id).hidden = id !== section;
  $("#leave").hidden = section === "enter" || document.body.dataset.asks !== "true";
}

const AGAIN_AFTER_MS = 3000, AGAIN_AT_MOST = 4; // where a storage does not answer, or there is no room

async function asked(path, options, again = AGAIN_AT_MOST) {
  const answer = await fetch("api/" + path, { cache: "no-store", credentials: "same-origin", ...options });
  if (answer.status === 503 && !options.method && again) {
    await new Promise((done) => setTimeout(done, AGAIN_AFTER_MS));
    return asked(path, options, again - 1);
  }
  if (answer.status === 401) {
    show("enter");
    throw new Error("enter the service's token");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({ detail: `the service answered ${answer.status}` }));
  const error = new Error(typeof body.detail === "string" ? body.detail : JSON.stringify(body.detail));
  throw Object.assign(error, { problems: body.problems ?? [error.message], status: answer.status });
}

export async function api(path, options = {}) {
  const answer = await asked(path, options);
  return answer.status === 204 ? null : answer.json();
}

export async function text(path) {
  const answer = await asked(path, {});
  return { text: await answer.text(), headers: answer.headers };
}

export const post = (path, body) =>
  api(path, { method: "POST", ...(body !== undefined && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }) });

// Does something for a button, and says why it could not.
export async function act(path, body, then) {
  try {
    await then(await post(path, body));
  } catch (error) {
    say(error.message, true);
  }
}

export function make(tag, said = {}, ...children) {
  const { dataset, ...rest } = said;
  const made = Object.assign(document.createElement(tag), rest);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

export const cell = (row, textContent, className = "", head = "") =>
  row.appendChild(make("td", { textContent: textContent ?? "", className, dataset: head ? { head } : {} }));

export function pairs(list, found) {
  list.replaceChildren(...Object.entries(found).filter(([, told]) => told !== "").flatMap(([name, told]) =>
    [make("dt", { textContent: name }), make("dd", { textContent: told })]));
}

export function table(heads, rows) {
  const made = make("table"), head = made.createTHead().insertRow(), body = made.createTBody();
  for (const [name, kind] of heads) head.append(make("th", { textContent: name, className: kind ?? "" }));
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((told, at) => cell(line, told, heads[at][1] ?? ""));
  }
  return made;
}

// Heads that sort, and the list of the same that a phone has; `chosen` is {by, falling}.
export function sortable(row, list, columns, chosen, changed) {
  row.replaceChildren(...columns.map(({ key, name, kind, sorts = true }) => {
    const head = make("th", { className: kind ?? "" });
    if (!sorts) { head.textContent = name; return head; }
    const button = make("button", { type: "button", textContent: name });
    button.addEventListener("click", () => changed(key, chosen.by === key ? !chosen.falling : undefined));
    head.append(button);
    if (chosen.by === key) head.setAttribute("aria-sort", chosen.falling ? "descending" : "ascending");
    return head;
  }));
  const keys = columns.filter(({ sorts = true }) => sorts);
  if (list.options.length !== keys.length || [...list.options].some((option, at) => option.value !== keys[at].key))
    list.replaceChildren(...keys.map(({ key, name }) => make("option", { value: key, textContent: name })));
  list.value = chosen.by;
  list.onchange = () => changed(list.value, undefined);
}

export const shown = (value) => {
  if (typeof value !== "number") return value ?? "";
  return Math.abs(value) < 1000 ? value.toFixed(3) : value.toLocaleString("en");
};
export const brief = (value) => (typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(3) : String(value));
export const counted = (trials) => Object.entries(trials ?? {}).map(([state, n]) => `${n} ${state}`).join(", ");
export const words = (metric) => metric.replaceAll("_", " ").replace("macro f1", "macro-F1").replace(/\bece\b/, "ECE");

// 42s, 3m05s, 2h07m: as the terminal writes it.
export function clock(seconds) {
  const all = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  if (all < 60) return `${all}s`;
  return all < 3600 ? `${Math.floor(all / 60)}m${two(all % 60)}s` : `${Math.floor(all / 3600)}h${two(Math.floor((all % 3600) / 60))}m`;
}

export function stateOf(run) {
  const places = { going: "running", waiting: "waiting for room", elsewhere: "running in another program" };
  return places[run.place] ?? run.state ?? "idle";
}

export const link = (run, trial = "") => "#" + encodeURIComponent(run) + (trial && "/" + trial);
export const runPath = (run) => "runs/" + encodeURIComponent(run);

let plotly = null; // the script that draws charts, fetched when the first one is wanted
export function drawing() {
  plotly ??= new Promise((done, failed) => {
    const script = make("script", { src: "plotly.js?v=" + document.body.dataset.plotly });
    script.addEventListener("load", () => done(window.Plotly));
    script.addEventListener("error", () => { plotly = null; failed(new Error("the script that draws charts did not come")); });
    document.head.append(script);
  });
  return plotly;
}

// Draws a figure; a chart that is drawn again keeps what the reader has enlarged or hidden.
export async function draw(chart, figure, texts = {}, opened = null) {
  const Plotly = await drawing();
  const [data, layout] = charts.dressed(figure, texts);
  chart.figure = [figure, texts, opened];
  await Plotly.react(chart, data, { ...layout, uirevision: "kept" }, charts.settings());
  if (opened && !chart.listens) {
    chart.listens = true;
    chart.on("plotly_click", ({ points }) => points[0].customdata !== undefined && chart.figure[2](points[0].customdata));
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of document.querySelectorAll(".js-plotly-plot")) draw(chart, ...chart.figure);
});
