// What people take away from a page: the request behind a table, a chart as a picture, a link; and tables in another order.
"use strict";

async function copied(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} is copied.`);
  } catch {  // without HTTPS, or without leave: then it is there to be copied by hand
    const field = document.createElement("textarea");
    Object.assign(field, { value: text, readOnly: true, rows: 4 });
    field.setAttribute("aria-label", what);
    one("#said").replaceChildren(field);
    clearTimeout(say.timer);
    field.select();
  }
}

// A single-quoted text of a shell has every character but the single quote as it is.
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(place) {
  const token = "tokenNeeded" in document.body.dataset ? ' -H "Authorization: Bearer $USAGE_SERVICE_TOKEN"' : "";
  return `curl -sS${token} ${quoted(new URL(place, location.href).href)}`;
}

async function picture(button) {
  const plot = one("[data-plot]", button.closest("figure"));
  if (!plot.view) { say("The chart is not drawn yet."); return; }
  const ground = getComputedStyle(document.documentElement).backgroundColor;
  const shown = plot.view.background();
  const text = await plot.view.background(ground).toSVG();
  plot.view.background(shown);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  link.download = `${button.dataset.svg.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.svg`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// What few people open is loaded when somebody does.
document.addEventListener("toggle", async (event) => {
  const details = event.target, place = details.dataset?.loads;
  if (!place || !details.open) return;
  delete details.dataset.loads;
  const summary = one("summary", details);
  const answer = await fetch(place, { headers: { Accept: "text/html" } }).catch(() => undefined);
  const page = new DOMParser().parseFromString((await answer?.text()) ?? "", "text/html");
  const shown = answer?.ok ? page.body : one(".problem, main", page);
  details.replaceChildren(summary, ...(shown?.childNodes ?? ["It could not be read."]));
}, true);

// --- the order of a table -------------------------------------------------------------------------------------------

const SCALES = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, PB: 1e15, ns: 1e-9, "µs": 1e-6, ms: 1e-3, s: 1, min: 60, h: 3600, d: 86400, "%": 0.01 };
const AMOUNT = /([-+−]?\$?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)\s*([a-zA-Zµ%]*)/g;

// A number as people read it: 1,234, 12.5 %, 1.2 GB, 3 min 20 s, $0.12; null for what is none.
function amount(text) {
  const parts = [...text.matchAll(AMOUNT)];
  const units = parts.map(([, , unit]) => unit);
  if (!parts.length || text.replace(AMOUNT, "").trim() || units.some((unit) => (unit || parts.length > 1) && !(unit in SCALES))) return null;
  return parts.reduce((sum, [, digits, unit]) => sum + Number(digits.replace(/[$,]/g, "").replace("−", "-")) * (SCALES[unit] ?? 1), 0);
}

function shownIn(cell) {
  if (cell.dataset.value !== undefined) return cell.dataset.value;
  const shown = cell.cloneNode(true);
  all("small, button", shown).forEach((part) => part.remove());
  return shown.textContent.trim();
}

const orders = new Map();  // that people chose, by the name of the table: it may come anew
const named = (table) => table.closest("[aria-label]")?.getAttribute("aria-label") ?? table.closest("section")?.getAttribute("aria-labelledby");

// Cells without a value, which have a dash, come last in either order; equals stay in the order in which the page came.
function sort(table, place, descending) {
  const body = table.tBodies[0];
  table.arrived ??= [...body.rows];
  const rows = table.arrived.map((row) => ({ row, text: shownIn(row.cells[place]) }));
  const values = rows.map(({ text }) => amount(text));
  const numeric = rows.every(({ text }, at) => values[at] !== null || text === "–" || text === "");
  const empty = ({ text }) => text === "–" || text === "";
  const places = rows.map((_, at) => at).sort((one_, other) => {
    const [a, b] = [rows[one_], rows[other]];
    if (empty(a) || empty(b)) return empty(a) - empty(b);
    const found = numeric ? values[one_] - values[other] : a.text.localeCompare(b.text, "en", { numeric: true });
    return descending ? -found : found;
  });
  body.append(...places.map((at) => rows[at].row));
}

function order(table, place, descending) {
  const heads = all("thead th", table);
  if (!heads[place]) return;
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  heads[place].setAttribute("aria-sort", descending ? "descending" : "ascending");
  sort(table, place, descending);
}

function pressed(head) {
  const table = head.closest("table"), before = head.getAttribute("aria-sort"), place = all("thead th", table).indexOf(head);
  const descending = before ? before === "ascending" : head.classList.contains("n");  // the largest number first
  order(table, place, descending);
  orders.set(named(table), { place, descending });
  say(`Sorted by ${head.textContent.trim()}, ${descending ? "descending" : "ascending"}.`);
}

// The heads of a table that is on the page as a whole become buttons. One that goes on has links that sort all of it, if it can be.
function sortable(table) {
  const heads = all("thead th", table), rows = table.tBodies[0]?.rows.length ?? 0;
  if (rows < 2 || table.matches(".matrix") || table.closest("[data-paged]")) return;
  for (const head of heads) {
    if (one(".hidden, button, a", head)) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sorts";
    button.append(...head.childNodes);
    head.append(button);
  }
  const chosen = orders.get(named(table));
  if (chosen) order(table, chosen.place, chosen.descending);
}

new MutationObserver((changes) => {
  for (const { addedNodes } of changes) {
    for (const node of addedNodes) if (node.nodeType === Node.ELEMENT_NODE) all("table", node).concat(node.matches("table") ? node : []).forEach(sortable);
  }
}).observe(one("main"), { childList: true, subtree: true });

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { curl: place, share, svg } = button.dataset;
  if (place) copied(curl(place), "The command");
  else if (share) copied(new URL(share, location.href).href, "The link");
  else if (svg) picture(button);
  else if (button.matches(".sorts")) pressed(button.closest("th"));
});
all("table").forEach(sortable);
