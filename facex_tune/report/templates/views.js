const views = JSON.parse(document.getElementById("views-data").textContent);
if (window.Plotly) {
  document.documentElement.classList.add("live");
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const shown = (knob) => views.knobs.slice(0, 10).includes(knob);
  const told = (trial) => [
    `<b>${trial.label}</b> ${plain(views.objective)} ${trial.value} after epoch ${trial.epochs}, ${plain(trial.ended)}`,
    ...Object.entries(trial.knobs).filter(([knob]) => shown(knob)).map(([knob, value]) => `${plain(knob)} ${plain(value)}`),
  ].join("<br>");
  const texts = Object.fromEntries(Object.entries(views.trials).map(([number, trial]) => [number, told(trial)]));
  const coloured = (value, style) => {
    if (Array.isArray(value)) return value.map((each) => coloured(each, style));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each, style)]));
    return (typeof value === "string" && /^--\w+$/.test(value) && style.getPropertyValue(value).trim()) || value;
  };
  const figureOf = (name) => name.startsWith("slice-") ? views.figures.slices[name.slice(6)] : views.figures[name];
  const dressed = ({ data, layout }) => {
    const style = getComputedStyle(document.documentElement);
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
    return coloured([traces, own], style);
  };
  // plotly.js 4 has a button that sends a chart to its maker unless told otherwise.
  const settings = { showSendToCloud: false, plotlyServerURL: "", responsive: true, displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false, displaylogo: false, modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d"] };
  const draw = async (chart) => {
    await Plotly.react(chart, ...dressed(figureOf(chart.dataset.view)), settings);
    if (chart.dataset.drawn) return;
    chart.dataset.drawn = "yes";
    chart.on("plotly_click", ({ points }) => points[0].customdata !== undefined && open(points[0].customdata));
  };

  const panel = document.getElementById("trial");
  const put = (parent, tag, text) => parent.appendChild(Object.assign(document.createElement(tag), { textContent: text }));
  const curve = (trial) => ({
    data: [{ type: "scatter", mode: "lines+markers", x: trial.curve[0], y: trial.curve[1], line: { color: "--best" }, hovertemplate: "epoch %{x}: %{y:.3f}<extra></extra>" }],
    layout: { xaxis: { title: { text: "epoch" }, tickformat: "d", ...(trial.epochs <= 10 && { dtick: 1 }) }, yaxis: { title: { text: views.objective } }, margin: { l: 50, r: 8, t: 8, b: 38 }, showlegend: false },
  });
  let opened = null, from = null;
  const close = () => {
    document.querySelector("tr.opened")?.classList.remove("opened");
    panel.hidden = true;
    opened = null;
    from?.focus();
  };
  const open = (number) => {
    const trial = views.trials[number];
    document.querySelector("tr.opened")?.classList.remove("opened");
    const row = document.getElementById(trial.label);
    row?.classList.add("opened");
    opened = number;
    panel.hidden = false;
    panel.replaceChildren();
    const shut = put(panel, "button", "×");
    shut.setAttribute("aria-label", "Close");
    shut.addEventListener("click", close);
    put(panel, "h3", trial.label);
    put(panel, "p", `${views.objective} ${trial.value} after epoch ${trial.epochs}; ${trial.ended}; rank ${trial.rank}; ${trial.time}.`);
    if (trial.detail) put(panel, "p", trial.detail).className = "soft";
    if (trial.rungs.length) put(panel, "p", `Rungs: ${trial.rungs.join(", ")}.`);
    if (row) {
      const link = put(put(panel, "p", ""), "a", "Its row in the leaderboard");
      link.href = `#${trial.label}`;
    }
    const chart = put(panel, "div", "");
    chart.className = "chart";
    Plotly.newPlot(chart, ...dressed(curve(trial)), { ...settings, displayModeBar: false });
    const knobs = put(panel, "dl", "");
    for (const [knob, value] of Object.entries(trial.knobs)) { put(knobs, "dt", knob); put(knobs, "dd", value); }
    panel.scrollTop = 0;
    shut.focus({ preventScroll: true });
  };
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !panel.hidden) close(); });
  for (const name of document.querySelectorAll("#board [data-trial]")) {
    if (!views.trials[name.dataset.trial]) continue;
    name.setAttribute("role", "button");
    name.tabIndex = 0;
    const act = () => { open(name.dataset.trial); from = name; };
    name.addEventListener("click", act);
    name.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); } });
  }

  const charts = [...document.querySelectorAll("[data-view]")];
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) if (isIntersecting) { near.unobserve(target); draw(target); }
  }, { rootMargin: "400px" });
  charts.forEach((chart) => near.observe(chart));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    charts.filter((chart) => chart.dataset.drawn).forEach(draw);
    if (opened !== null) open(opened);
  });
}
