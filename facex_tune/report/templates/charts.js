// How charts look, in a report and on the page of `serve`: in the page's own colours, a trial told on hover.
const charts = {
  plain: (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"),
  // What a hover tells of each trial, by its number.
  texts(views) {
    const shown = new Set(views.knobs.slice(0, 10));
    const told = (trial) => [
      `<b>${trial.label}</b> ${this.plain(views.objective)} ${trial.value} after epoch ${trial.epochs}, ${this.plain(trial.ended)}`,
      ...Object.entries(trial.knobs).filter(([knob]) => shown.has(knob)).map(([knob, value]) => `${this.plain(knob)} ${this.plain(value)}`),
    ].join("<br>");
    return Object.fromEntries(Object.entries(views.trials).map(([number, trial]) => [number, told(trial)]));
  },
  figure(views, name) {
    const [family, number] = name.split("-");
    return number === undefined ? views.figures[name] : views.figures[`${family}s`]?.[number];
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
