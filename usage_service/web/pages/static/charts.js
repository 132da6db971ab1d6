// Charts: drawn by Vega; read by pointer or keyboard; those of time are zoomed together, and the address says to what.
"use strict";

const COLOURS = ["--one", "--two", "--three", "--four", "--five", "--six", "--seven", "--eight"];
const LEAST_DRAG = 8;  // pixels: less is a click
const drawn = new Map();  // of each plot its chart

function colourOf(name) {
  const shown = document.createElement("i");
  shown.style.color = `var(${name})`;
  document.body.append(shown);
  const colour = getComputedStyle(shown).color;
  shown.remove();
  return colour;
}

function theme() {
  const [ink, faint, line] = ["--ink", "--faint", "--line"].map(colourOf);
  const axis = { labelColor: faint, titleColor: faint, gridColor: line, domainColor: line, tickColor: line };
  return {
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: null }, axis,
    mark: { color: colourOf("--one") },
    legend: { labelColor: ink, titleColor: faint }, text: { color: ink }, range: { category: COLOURS.map(colourOf) },
  };
}

let vega;
function loaded() {
  vega ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.vega;
    script.onload = done;
    script.onerror = () => failed(new Error("the charts could not be loaded; their tables are below"));
    document.head.append(script);
  });
  return vega;
}

async function draw(within = document) {
  const plots = [...within.querySelectorAll("[data-plot]")];
  for (const [plot, { view }] of drawn) if (!plot.isConnected) { view.finalize(); drawn.delete(plot); }
  if (!plots.length) return;
  plots.forEach((plot) => plot.classList.add("waits"));
  try {
    await loaded();
    for (const plot of plots) {
      await drawOne(plot);
      plot.classList.remove("waits");
    }
  } catch (error) {
    plots.forEach((plot) => { plot.classList.remove("waits"); });
    say(`Charts: ${error.message}`);
  }
}

async function drawOne(plot) {
  const specification = JSON.parse(plot.nextElementSibling.textContent);
  const canvas = document.createElement("div");
  canvas.className = "canvas";
  canvas.setAttribute("aria-hidden", "true");  // the plot and its table tell what is drawn
  plot.replaceChildren(canvas);
  // `ast` is Vega's interpreter: the page's Content-Security-Policy forbids to run text as code.
  const options = { ast: true, actions: false, renderer: "canvas", config: theme(), defaultStyle: false, tooltip: false };
  const { view } = await vegaEmbed(canvas, specification, options);
  plot.view = view;  // it is taken away as a picture
  const { tips, zooms, width = 0 } = specification.usermeta;
  const chart = { plot, view, zooms, half: width * 500, tips: tips.map(([at, title, lines]) => ({ at: zooms ? Date.parse(at) : at, title, lines })), read: -1, anchor: null };
  drawn.get(plot)?.view.finalize();  // it was drawn in other colours
  drawn.set(plot, chart);
  for (const name of ["cursor", "brush"]) {
    chart[name] = layer(plot, name);
    Object.assign(chart[name].style, { top: `${view.origin()[1] + view.padding().top}px`, height: `${view.height()}px` });
  }
  chart.tip = layer(plot, "tip");
  listen(chart);
  if (zooms) await show(chart, zoomed());
}

function layer(plot, name) {
  const made = document.createElement("div");
  made.className = name;
  made.hidden = true;
  if (name === "tip") made.setAttribute("role", "status");
  plot.append(made);
  return made;
}

// --- where things are -------------------------------------------------------------------------------------------------

const left = ({ view }) => view.origin()[0] + view.padding().left;
const placeOf = (chart, at) => left(chart) + chart.view.scale("x")(at);
const within = (chart, x) => Math.max(left(chart), Math.min(x, left(chart) + chart.view.width()));
const valueAt = (chart, x) => Number(chart.view.scale("x").invert(within(chart, x) - left(chart)));
const isShown = (chart, { at }) => placeOf(chart, at) >= left(chart) - 1 && placeOf(chart, at) <= left(chart) + chart.view.width() + 1;

function nearest(chart, x) {
  let found = -1;
  const distance = (tip) => Math.abs(placeOf(chart, tip.at) - x);
  chart.tips.forEach((tip, place) => {
    if (isShown(chart, tip) && (found < 0 || distance(tip) < distance(chart.tips[found]))) found = place;
  });
  return found;
}

// --- reading ----------------------------------------------------------------------------------------------------------

function read(chart, place) {
  chart.read = place;
  const tip = chart.tips[place];
  chart.tip.hidden = chart.cursor.hidden = !tip;
  if (!tip) return;
  const title = document.createElement("strong"), list = document.createElement("dl");
  title.textContent = tip.title;
  for (const [name, value] of tip.lines) {
    const [term, told] = ["dt", "dd"].map((tag) => document.createElement(tag));
    const part = document.createElement("bdi");
    part.textContent = name;
    term.append(part);
    told.textContent = value;
    list.append(term, told);
  }
  chart.tip.replaceChildren(title, list);
  const x = placeOf(chart, tip.at);
  chart.cursor.style.left = `${x}px`;
  const room = chart.plot.clientWidth - chart.tip.offsetWidth;
  chart.tip.style.left = `${Math.max(0, Math.min(x + 12 > room ? x - 12 - chart.tip.offsetWidth : x + 12, room))}px`;
}

const unread = (chart) => { read(chart, -1); chart.anchor = null; chart.brush.hidden = true; };

// --- zooming ----------------------------------------------------------------------------------------------------------

function brush(chart, from, to) {
  const [start, end] = [within(chart, Math.min(from, to)), within(chart, Math.max(from, to))];
  chart.brush.hidden = end - start < 1;
  Object.assign(chart.brush.style, { left: `${start}px`, width: `${end - start}px` });
}

const asText = (time) => `${new Date(Math.round(time / 60000) * 60000).toISOString().slice(0, 16)}Z`;

function zoomed() {
  const [from, to] = (new URLSearchParams(location.search).get("zoom") ?? "").split("/").map(Date.parse);
  return from < to ? [from, to] : null;
}

async function show(chart, range) {
  const inside = range && chart.tips.filter(({ at }) => at >= range[0] && at <= range[1]).length > 1;
  unread(chart);
  await chart.view.signal("zoom", inside ? range : null).runAsync();
  const caption = chart.plot.parentElement.querySelector("figcaption");
  caption.querySelector(".whole")?.remove();
  if (!inside) return;
  const whole = document.createElement("button");
  Object.assign(whole, { type: "button", className: "quiet whole", textContent: "Show all days" });
  whole.addEventListener("click", () => { zoom(null); chart.plot.focus(); });
  caption.append(whole);
}

function zoomAll() {
  const range = zoomed();
  for (const [plot, chart] of drawn) {
    if (plot.isConnected && chart.zooms) show(chart, range);
  }
}

function zoom(range) {
  const address = new URL(location);
  address.searchParams.delete("zoom");
  const chosen = range?.map(asText);
  if (chosen && chosen[0] < chosen[1]) address.searchParams.set("zoom", chosen.join("/"));
  if (address.href === location.href) return;
  history.pushState(null, "", address);
  zoomAll();
}

// --- pointer and keyboard ----------------------------------------------------------------------------------------------

function listen({ plot }) {
  if (plot.dataset.listens) return;  // drawn again, in other colours
  plot.dataset.listens = "yes";
  const chart = () => drawn.get(plot);
  const x = (event) => event.clientX - plot.getBoundingClientRect().left;
  let begun = null;
  plot.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button")) return;
    begun = chart().zooms && event.pointerType !== "touch" ? x(event) : null;
    if (begun !== null) plot.setPointerCapture(event.pointerId);
    read(chart(), nearest(chart(), x(event)));
  });
  plot.addEventListener("pointermove", (event) => {
    read(chart(), nearest(chart(), x(event)));
    if (begun !== null) brush(chart(), begun, x(event));
  });
  plot.addEventListener("pointerup", (event) => {
    const from = begun;
    begun = null;
    chart().brush.hidden = true;
    if (from !== null && Math.abs(x(event) - from) >= LEAST_DRAG) zoom([from, x(event)].sort((a, b) => a - b).map((at) => valueAt(chart(), at)));
  });
  plot.addEventListener("pointercancel", () => { begun = null; unread(chart()); });
  plot.addEventListener("pointerleave", () => { if (begun === null && document.activeElement !== plot) unread(chart()); });
  plot.addEventListener("dblclick", () => { if (chart().zooms) zoom(null); });
  plot.addEventListener("blur", () => unread(chart()));
  plot.addEventListener("keydown", (event) => { if (event.target === plot && press(chart(), event)) event.preventDefault(); });
}

function press(chart, { key, shiftKey, ctrlKey, metaKey, altKey }) {
  if (ctrlKey || metaKey || altKey) return false;
  const shown = chart.tips.map((tip, place) => place).filter((place) => isShown(chart, chart.tips[place]));
  const here = shown.indexOf(chart.read), last = shown.length - 1;
  const to = { ArrowLeft: here < 0 ? last : Math.max(here - 1, 0), ArrowRight: Math.min(here + 1, last), Home: 0, End: last }[key];
  if (to !== undefined) {
    chart.anchor = shiftKey && chart.zooms ? chart.anchor ?? chart.read : null;
    read(chart, shown[to] ?? -1);
    const anchor = chart.tips[chart.anchor ?? -1];
    if (anchor) brush(chart, placeOf(chart, anchor.at), placeOf(chart, chart.tips[chart.read].at));
    else chart.brush.hidden = true;
  } else if (key === "Enter" && chart.anchor !== null && chart.anchor !== chart.read) {
    const [from, to] = [chart.anchor, chart.read].map((place) => chart.tips[place].at).sort((a, b) => a - b);
    zoom([from - chart.half, to + chart.half]);
  } else if (key === "Escape" && (chart.read >= 0 || zoomed())) {
    if (chart.anchor === null && chart.zooms) zoom(null);
    unread(chart);
  } else return false;
  return true;
}

addEventListener("popstate", zoomAll);
// Filters keep the zoom; days that it is not of pass over it.
document.addEventListener("formdata", ({ target, formData }) => {
  const kept = new URLSearchParams(location.search).get("zoom");
  if (kept && target.matches(".filters")) formData.set("zoom", kept);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
