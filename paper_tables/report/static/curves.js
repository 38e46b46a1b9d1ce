// The curves: which are drawn against what, kept in the address, and read point by point.
(() => {
  const { data, theme, ink, onTheme } = window.page;
  const filters = document.getElementById("filters"), reader = document.getElementById("reader");
  const panels = [...document.querySelectorAll(".panel")];
  const seen = new WeakMap(); // chart -> { view, made }
  const ALL = "all";

  const fixed = (value, digits = 2) => (value === null ? "not recorded" : (Number(value.toFixed(digits)) + 0).toFixed(digits).replace("-", "−"));
  const end = (value) => fixed(value, value !== 0 && Math.abs(value) < 0.005 ? 3 : 2); // which side of 0 it is on
  const span = (point, name) => fixed(point[name])
    + (point[`${name}_low`] === null ? "" : ` [${end(point[`${name}_low`])}, ${end(point[`${name}_high`])}]`);
  const whole = (value) => (value === null ? "not recorded" : Number(value.toPrecision(4)).toLocaleString("en"));
  const seedOf = (point) => (point.seed === ALL ? "mean of seeds" : `seed ${point.seed}`);

  // What is asked for, from the form and to the address: #?against=images&task=text
  const boxes = (name) => [...filters.querySelectorAll(`[name=${name}]`)];
  const ticked = (name) => new Set(boxes(name).filter((box) => box.checked).map((box) => box.value));
  const state = () => ({
    x: filters.elements.x.value, seeds: filters.elements.seeds?.value ?? ALL,
    backbone: ticked("backbone"), task: ticked("task"), method: ticked("method"),
  });
  const keep = () => {
    const asked = state(), words = new URLSearchParams({ x: asked.x, seeds: asked.seeds });
    for (const name of ["backbone", "task", "method"]) words.set(name, [...asked[name]].join(","));
    history.replaceState(null, "", `#?${words}`);
  };
  const choose = (select, value) => {
    if (value !== null && [...select.options].some((option) => option.value === value)) select.value = value;
  };
  const recall = () => {
    if (!location.hash.startsWith("#?")) return;
    const words = new URLSearchParams(location.hash.slice(2));
    choose(filters.elements.x, words.get("x"));
    if (filters.elements.seeds) choose(filters.elements.seeds, words.get("seeds"));
    for (const name of ["backbone", "task", "method"]) {
      if (words.has(name)) boxes(name).forEach((box) => { box.checked = words.get(name).split(",").includes(box.value); });
    }
  };

  const wanted = (asked) => data.points.filter((point) => asked.backbone.has(point.backbone) && asked.task.has(point.task)
    && asked.method.has(point.method)
    && (asked.seeds === "each" ? point.seed !== ALL : point.seed === asked.seeds));
  // Where a band ends; at the point itself where there is none, or x does not grow with training.
  const edge = (point, y, x, side) => (x === "proxy" ? point[y] : point[`${y}_${side}`] ?? point[y]);
  const drawn = (point, y, x) => ({
    x: point[x], y: point[y], order: point.update, curve: `${point.row}/${point.seed}`, ink: ink(point.method),
    low: edge(point, y, x, "low"), high: edge(point, y, x, "high"),
    dash: data.inks[point.method].dash.length ? data.inks[point.method].dash : [1, 0], shape: data.inks[point.method].shape,
    marked: Number(point === reading()), method: point.method, seed: seedOf(point), update: point.update, budget: whole(point[x]), proxy: span(point, "proxy"),
    "gold average": span(point, "gold"), parted: point.hacking ?? "not recorded",
  });

  // The chart's template with the words of this axis and the colours of this theme.
  const specOf = (title, height) => {
    const spec = structuredClone(data.chart), look = data.themes[theme()];
    const visit = (node) => {
      if (node === null || typeof node !== "object") return;
      if (node.axis?.title === "x") node.axis.title = title;
      Object.values(node).forEach(visit);
    };
    visit(spec);
    Object.assign(spec, { width: "container", height, background: "transparent", autosize: { type: "fit-x", contains: "padding" } });
    spec.config = {
      ...data.chart_config, rule: { color: look.rule },
      axis: { ...data.chart_config.axis, labelColor: look.text, titleColor: look.text, gridColor: look.grid, tickColor: look.grid },
    };
    return spec;
  };
  const options = () => ({
    renderer: "svg", actions: false, ast: true, tooltip: { theme: theme(), disableDefaultStyle: false },
  });

  // A chart that only gets other points keeps its view; another axis or theme makes it anew.
  const show = async (chart, points, asked) => {
    const y = chart.dataset.y, lines = points.filter((point) => point[y] !== null && point[asked.x] !== null);
    if (!lines.length) { // as where no base model was judged
      seen.get(chart)?.view.finalize();
      seen.delete(chart);
      chart.replaceChildren();
      return;
    }
    const base = lines.filter((point) => point.update === 0).map((point) => point[y]);
    const sets = {
      points: lines.map((point) => drawn(point, y, asked.x)),
      base_model: [{ y: base.length ? base.reduce((sum, value) => sum + value) / base.length : lines[0][y] }],
    };
    const height = asked.x === "proxy" ? 240 : 115, made = `${asked.x}/${theme()}`, old = seen.get(chart);
    if (old?.made === made) {
      for (const [name, values] of Object.entries(sets)) old.view.data(name, values);
      await old.view.resize().runAsync();
      return;
    }
    const { view } = await vegaEmbed(chart, { ...specOf(y === "gold" ? data.axes[asked.x] : null, height), datasets: sets }, options());
    chart.querySelector("svg").setAttribute("aria-hidden", "true"); // the chart's own label says what it shows
    old?.view.finalize();
    seen.set(chart, { view, made });
  };

  // Reading a curve point by point.
  let curves = new Map();
  const reading = () => (reader.dataset.used ? curves.get(reader.elements.curve.value)?.[reader.elements.point.value] : undefined);
  const list = (points) => {
    const before = reader.elements.curve.value;
    curves = new Map();
    for (const point of points) {
      const name = `${point.row}/${point.seed}`;
      curves.set(name, [...(curves.get(name) ?? []), point]);
    }
    reader.elements.curve.replaceChildren(...[...curves].map(([name, [first]]) => {
      const words = `${first.method}, ${data.backbones[first.backbone]} ${first.task}, ${seedOf(first)}`;
      return Object.assign(document.createElement("option"), { value: name, textContent: words });
    }));
    choose(reader.elements.curve, before);
    reader.elements.point.max = Math.max(0, (curves.get(reader.elements.curve.value)?.length ?? 1) - 1);
  };
  const tell = () => {
    const point = reading();
    const words = point && `Update ${point.update}: proxy ${span(point, "proxy")}, gold average ${span(point, "gold")}, `
      + `√KL ${fixed(point.sqrt_kl)}, parted: ${point.hacking ?? "not recorded"}.`;
    document.getElementById("reading").textContent = words ?? "";
    reader.elements.point.setAttribute("aria-valuetext", point ? `update ${point.update}` : "");
  };

  // One drawing at a time; what is asked for meanwhile is drawn once, when that is done.
  let running = Promise.resolve(), waiting = null;
  const draw = () => {
    waiting ??= running.then(() => { waiting = null; running = redraw(); return running; });
    return waiting;
  };
  const redraw = async () => {
    const asked = state(), points = wanted(asked);
    list(points);
    tell();
    for (const line of document.querySelectorAll(".findings li")) line.hidden = !asked.method.has(line.dataset.method);
    const jobs = [];
    for (const panel of panels) {
      const mine = points.filter((point) => point.backbone === panel.dataset.backbone && point.task === panel.dataset.task);
      panel.hidden = !mine.length;
      for (const part of panel.querySelectorAll("[data-y=proxy]")) part.hidden = asked.x === "proxy";
      const unrecorded = mine.every((point) => point[asked.x] === null);
      panel.classList.toggle("unrecorded", unrecorded);
      if (panel.hidden || unrecorded) continue;
      for (const chart of panel.querySelectorAll(".chart:not([hidden])")) jobs.push(show(chart, mine, asked));
    }
    await Promise.all(jobs);
    const number = new Set(points.map((point) => `${point.row}/${point.seed}`)).size;
    document.getElementById("shown").textContent = number ? `${number} curve${number > 1 ? "s" : ""} drawn.` : "No curve fits these filters.";
    if (!performance.getEntriesByName("drawn").length) performance.mark("drawn");
  };

  filters.addEventListener("change", () => { keep(); draw(); });
  filters.addEventListener("reset", () => setTimeout(() => { keep(); draw(); }));
  filters.addEventListener("submit", (event) => event.preventDefault());
  reader.addEventListener("submit", (event) => event.preventDefault());
  reader.addEventListener("input", (event) => {
    reader.dataset.used = "yes";
    if (event.target.name === "curve") reader.elements.point.value = 0;
    draw();
  });
  addEventListener("hashchange", () => { if (location.hash.startsWith("#?")) { recall(); draw(); } });
  onTheme(draw);
  window.page.settled = () => waiting ?? running; // for those who wait until it is drawn
  document.getElementById("fold").open = !matchMedia("(max-width: 40rem)").matches;
  recall();
  draw();
})();
