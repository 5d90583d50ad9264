// How charts look, in a report and on the page of `serve`: in the page's own colours, a trial told on hover.
const charts = {
  plain: (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"),
  // What a hover tells of each trial, by its number.
  texts(views) {
    const shown = new Set(views.knobs.slice(0, 10));
    const told = (trial) => [
      `<b>${trial.label}</b> ${this.plain(views.objective)} ${trial.value ?? "not measured"} after epoch ${trial.epochs}, ${this.plain(trial.ended)}`,
      ...Object.entries(trial.knobs).filter(([knob]) => shown.has(knob)).map(([knob, value]) => `${this.plain(knob)} ${this.plain(value)}`),
    ].join("<br>");
    return Object.fromEntries(Object.entries(views.trials).map(([number, trial]) => [number, told(trial)]));
  },
  figure(views, { view, across, up }) {
    if (across !== undefined) return this.pair(views, view, across, up).figure;
    const [family, number] = view.split("-");
    return number === undefined ? views.figures[view] : views.figures[`${family}s`]?.[number];
  },
  // Of two knobs ("contours") or objectives ("fronts"): the figure, or null, and what is said beside it.
  pair(views, family, across, up) {
    if (across === up) return { figure: null, said: "The same twice: choose two." };
    const of = (one, other) => views[family].pairs.find((each) => each.across === one && each.up === other);
    const found = of(across, up), turned = found ?? of(up, across);
    if (!turned) return { figure: null, said: "No trial tells of these two." };
    const figure = views.figures[family]?.[turned.figure] ?? null;
    return { figure: figure && (found ? figure : this.turned(figure)), said: turned.said };
  },
  // x and y change places.
  turned({ data, layout }) {
    const shapes = { hv: "vh", vh: "hv" };
    const trace = (each) => ({
      ...each, x: each.y, y: each.x, ...(each.z && { z: each.z[0].map((_, column) => each.z.map((row) => row[column])) }),
      ...(each.line?.shape && { line: { ...each.line, shape: shapes[each.line.shape] } }),
    });
    return { data: data.map(trace), layout: { ...layout, xaxis: layout.yaxis, yaxis: layout.xaxis } };
  },
  // Two select boxes choose what a chart is of; `drawn` is asked to draw it, or to leave it.
  choose(views, pair, drawn) {
    const chart = pair.querySelector(".chart"), [across, up] = pair.querySelectorAll("select");
    const chosen = () => {
      Object.assign(chart.dataset, { across: across.value, up: up.value });
      const { figure, said } = this.pair(views(), chart.dataset.view, across.value, up.value);
      pair.querySelector("output").textContent = said;
      chart.hidden = !figure;
      if (figure) drawn(chart);
    };
    for (const each of [across, up]) each.addEventListener("change", chosen);
    chosen();
    return chosen;
  },
  // The names of colours become the colours themselves.
  coloured(value, style) {
    if (Array.isArray(value)) return value.map((each) => this.coloured(each, style));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, this.coloured(each, style)]));
    return (typeof value === "string" && /^--\w+$/.test(value) && style.getPropertyValue(value).trim()) || value;
  },
  dressed({ data, layout }, texts = {}) {
    const grid = { gridcolor: "--line", linecolor: "--soft", zeroline: false, automargin: true, exponentformat: "power" };
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", bargap: .2,
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      font: { color: "--ink", size: 12, family: "Helvetica Neue, Arial, Liberation Sans, sans-serif" },
      margin: { l: 56, r: 14, t: 34, b: 44 }, legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom" },
      hoverlabel: { align: "left", bgcolor: "--band", bordercolor: "--soft", font: { color: "--ink" } },
    };
    const own = { ...base, ...layout, xaxis: { ...grid, ...layout.xaxis }, yaxis: { ...grid, ...layout.yaxis } };
    const traces = data.map((trace) => trace.customdata
      ? { hoverinfo: "text", ...trace, hovertext: trace.customdata.map((number) => texts[number]) } : trace);
    return this.coloured([traces, own], getComputedStyle(document.documentElement));
  },
  curve: (trial, objective) => ({
    data: [{ type: "scatter", mode: "lines+markers", x: trial.curve[0], y: trial.curve[1], line: { color: "--best" }, hovertemplate: "epoch %{x}: %{y:.3f}<extra></extra>" }],
    layout: { xaxis: { title: { text: "epoch" }, tickformat: "d", ...(trial.epochs <= 10 && { dtick: 1 }) }, yaxis: { title: { text: objective } }, margin: { l: 50, r: 8, t: 8, b: 38 }, showlegend: false },
  }),
  // plotly.js 4 has a button that sends a chart to its maker unless told otherwise.
  settings: () => ({ showSendToCloud: false, plotlyServerURL: "", responsive: true, displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false, displaylogo: false, modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d"] }),
};
