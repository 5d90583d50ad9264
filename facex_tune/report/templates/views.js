const views = JSON.parse(document.getElementById("views-data").textContent);
if (window.Plotly) {
  document.documentElement.classList.add("live");
  const texts = charts.texts(views);
  const dressed = (figure) => charts.dressed(figure, texts);
  const settings = charts.settings();
  const draw = async (chart) => {
    await Plotly.react(chart, ...dressed(charts.figure(views, chart.dataset)), settings);
    if (chart.dataset.drawn) return;
    chart.dataset.drawn = "yes";
    chart.on("plotly_click", ({ points }) => points[0].customdata !== undefined && open(points[0].customdata));
  };

  const panel = document.getElementById("trial");
  const put = (parent, tag, text) => parent.appendChild(Object.assign(document.createElement(tag), { textContent: text }));
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
    const measured = trial.value !== null;
    put(panel, "p", measured
      ? `${views.objective} ${trial.value} after epoch ${trial.epochs}; ${trial.ended}; rank ${trial.rank}; ${trial.time}.`
      : `It has no value, as it came to ${trial.epochs ? `epoch ${trial.epochs} without one` : "the end of no epoch"}; ${trial.ended}; ${trial.time}.`);
    if (trial.detail) put(panel, "p", trial.detail).className = "soft";
    if (trial.rungs.length) put(panel, "p", `Rungs: ${trial.rungs.join(", ")}.`);
    if (row) {
      const link = put(put(panel, "p", ""), "a", "Its row in the leaderboard");
      link.href = `#${trial.label}`;
    }
    if (measured) {
      const chart = put(panel, "div", "");
      chart.className = "chart";
      Plotly.newPlot(chart, ...dressed(charts.curve(trial, views.objective)), { ...settings, displayModeBar: false });
    }
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

  for (const pair of document.querySelectorAll("figure.chosen")) {
    charts.choose(() => views, pair, (chart) => { if (chart.dataset.drawn) draw(chart); });
  }
  const every = [...document.querySelectorAll("[data-view]")];
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) if (isIntersecting) { near.unobserve(target); draw(target); }
  }, { rootMargin: "400px" });
  every.forEach((chart) => near.observe(chart));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    every.filter((chart) => chart.dataset.drawn && !chart.hidden).forEach(draw);
    if (opened !== null) open(opened);
  });
}
