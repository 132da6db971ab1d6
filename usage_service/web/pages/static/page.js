// Script of the pages: search, and requests to the service. It connects to no other host.
"use strict";

const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function say(words) {
  const said = one("#said");
  said.textContent = words;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { said.textContent = ""; }, 8000);
}

// --- requests to the service -----------------------------------------------------------------------------------------

async function ask(method, place, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(place, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), redirect: "manual" });
  if (answer.type === "opaqueredirect" || answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `the service answered ${answer.status}` }));
  throw new Error(problem.detail);
}

// Reloads the content of the page and keeps opened details open.
async function renew() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.status >= 500) throw new Error(`The page is as it was: the service answered ${answer.status}.`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const open = all("main details[open] > summary").map((summary) => summary.textContent);
  const { to, send: method } = document.activeElement?.dataset ?? {};
  one("main").replaceChildren(...one("main", page).childNodes);
  // The choices may be new. A filter that somebody is using stays.
  if (!one(".filters")?.contains(document.activeElement)) one(".filters")?.replaceWith(one(".filters", page) ?? "");
  all("main details > summary").forEach((summary) => { summary.parentElement.open = open.includes(summary.textContent); });
  if (to) one(`main [data-to="${CSS.escape(to)}"][data-send="${method}"]`)?.focus();  // the button is a new one
  begin(one("main"));
}

async function send(button) {
  button.disabled = true;
  try {
    const { send: method, to, body, then } = button.dataset;
    await ask(method, to, body ? JSON.parse(body) : undefined);
    if (then) location.href = then; else await renew();
  } catch (error) {
    say(error.message);
    button.disabled = false;
  }
}

// Renews the page until what it shows is over: each time anew, for then the element is another. A service that is away may be back.
async function renewFor(pending) {
  while (pending.isConnected) {
    await new Promise((after) => setTimeout(after, 4000));
    if (!document.hidden && pending.isConnected) await renew().catch(() => undefined);
  }
}

// --- progress of a build ---------------------------------------------------------------------------------------------

const followed = new Map();  // of each build on the page its stream; a browser has but six connections to a host

function follow(build) {
  const events = new EventSource(`/v1/builds/${encodeURIComponent(build.dataset.build)}/events?after=${build.dataset.after}`);
  followed.set(build, events);
  const progress = one("progress", build), stage = one("[data-stage]", build);
  const over = () => { events.close(); renew().catch((error) => say(error.message)); };
  const state = one("[data-state]", build), waiting = one("[data-waiting]", build);
  const started = (words) => { state.textContent = "Being built"; waiting.replaceChildren(); stage.textContent = words; };
  events.addEventListener("build_started", () => started("A builder has started."));
  events.addEventListener("build_progressed", (event) => {
    const { data } = JSON.parse(event.data);
    if (data.stage === "handed_back") { over(); return; }
    if (data.percent != null) { progress.value = data.percent; }
    started(`${(data.stage ?? "Being built").replaceAll("_", " ")}${data.percent == null ? "" : `, ${data.percent} %`}`);
  });
  for (const end of ["build_succeeded", "build_found_no_data", "build_failed", "build_cancelled"]) events.addEventListener(end, over);
}

// Keeps what a build waits for up to date, as long as it is on the page.
async function waitFor(waiting) {
  while (waiting.isConnected) {
    await new Promise((after) => setTimeout(after, 3000));
    if (document.hidden) continue;
    const answer = await fetch(waiting.dataset.waiting, { headers: { Accept: "text/html" } }).catch(() => undefined);
    if (!answer?.ok) continue;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const focused = waiting.contains(document.activeElement);
    if (!focused && page.body.textContent.trim() !== waiting.textContent.trim()) waiting.replaceChildren(...page.body.childNodes);
  }
}

// --- search ----------------------------------------------------------------------------------------------------------

function search(form) {
  const field = one("input[type=search]", form), found = one("[role=listbox]", form);
  let asked = 0, chosen = -1;
  const options = () => all("[role=option]", found);
  const show = (is) => { found.hidden = !is; field.setAttribute("aria-expanded", String(is)); if (!is) field.removeAttribute("aria-activedescendant"); };
  const choose = (place) => {
    chosen = Math.max(-1, Math.min(place, options().length - 1));
    options().forEach((option, at) => option.setAttribute("aria-selected", String(at === chosen)));
    if (chosen >= 0) { field.setAttribute("aria-activedescendant", options()[chosen].id); options()[chosen].scrollIntoView({ block: "nearest" }); }
  };
  field.addEventListener("input", async () => {
    const turn = ++asked;
    if (!field.value.trim()) { show(false); return; }
    await new Promise((after) => setTimeout(after, 120));
    if (turn !== asked) return;
    try {
      const answer = await fetch(`/probes/found?${new URLSearchParams(new FormData(form))}`, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (turn !== asked) return;
      found.replaceChildren(...page.body.childNodes);
      choose(-1);
      show(true);
    } catch { say("The search did not answer."); }
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") choose(chosen + 1);
    else if (event.key === "ArrowUp") choose(chosen - 1);
    else if (event.key === "Escape") { show(false); return; }
    else if (event.key === "Enter" && chosen >= 0 && !found.hidden) location.href = options()[chosen].href;
    else return;
    event.preventDefault();
  });
  form.addEventListener("focusout", (event) => { if (!form.contains(event.relatedTarget)) show(false); });
}

document.addEventListener("keydown", (event) => {
  const writes = event.target.closest("input, select, textarea, [contenteditable]");
  if (event.key === "/" && !writes && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); one("#q")?.focus(); }
});

// --- the rest --------------------------------------------------------------------------------------------------------

async function load(section) {
  try {
    const answer = await fetch(section.dataset.load, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    section.replaceChildren(...(one("main", page) ?? page.body).childNodes);
    begin(section);
  } catch { section.textContent = "This section did not load."; }
  section.removeAttribute("aria-busy");
}

async function signIn(form) {
  const refusal = one("[data-refusal]", form);
  try {
    await ask("POST", "/login", { token: one("[name=token]", form).value.trim() });
    location.href = form.dataset.following;
  } catch (error) {
    refusal.textContent = error.message;
    refusal.hidden = false;
  }
}

// Names the cells of tables with many columns, which a narrow screen shows as cards; the roles stay when `display` changes.
function name(table) {
  const columns = all("thead th", table).map((head) => (one(".hidden", head) ? "" : head.textContent.trim()));
  if (columns.length <= 3) return;
  table.classList.add("cards");
  const roles = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", td: "cell", "thead th": "columnheader", "tbody th": "rowheader" };
  table.setAttribute("role", "table");
  for (const [selector, role] of Object.entries(roles)) all(selector, table).forEach((part) => part.setAttribute("role", role));
  for (const row of all("tbody tr", table)) [...row.cells].forEach((cell, place) => { cell.dataset.label = columns[place] ?? ""; });
}

function begin(within) {
  all("table:not(.matrix)", within).forEach(name);
  draw(within);
  for (const [build, events] of followed) if (!build.isConnected) { events.close(); followed.delete(build); }
  all("[data-build]", within).forEach(follow);
  all("[data-load]", within).forEach(load);
  all("[data-waiting]", within).forEach(waitFor);
  const pending = one("[data-pending]", within);
  if (pending) renewFor(pending);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-send]");
  if (button) send(button);
});
document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-login]")) { event.preventDefault(); signIn(event.target); }
});
document.addEventListener("input", (event) => {
  const { shows } = event.target.dataset;
  if (shows) one(shows).value = event.target.value;
});
// What replaces a filter clears it: chosen days give way to a window, a chosen comparison to another. Dates are typed part by part,
// so they have a button.
const REPLACED = { window: ["since", "until"], compare: ["compare_since"] };
document.addEventListener("change", ({ target }) => {
  const form = target.closest(".filters");
  if (!form || target.type === "date") return;
  for (const name of REPLACED[target.name] ?? []) if (form.elements[name]) form.elements[name].value = "";
  form.requestSubmit();
});
// What Back brings out of the cache has the choice that led away from it.
addEventListener("pageshow", () => { one(".filters")?.reset(); });
document.documentElement.classList.add("ready");
all("[data-search]").forEach(search);
begin(document);
