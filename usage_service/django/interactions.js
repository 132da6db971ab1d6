// Tells the app's own back end what people do on its pages: links that they follow to other tools, controls that they
// change, searches, and pages that are opened without loading them. A page reports what this script cannot see:
//   recordUsage("control_changed", { control: "os", value: "Windows" }, { product: "fog", probe: "gc_ms" });
//   recordUsage("probe_searched", { query: "gc", results: 3 });
(() => {
  const address = new URL("interactions/", document.currentScript.src);
  const SEARCH_MILLISECONDS = 1000; // after the last letter
  const MOST = 2000; // characters of a text
  const MOST_OF_NAME = 100;
  let search;
  let page = location.pathname;

  // Whole characters: half of one is no text.
  function cut(text, most) {
    return [...text.slice(0, 2 * most)].slice(0, most).join("");
  }

  function send(event) {
    const body = JSON.stringify(event);
    if (!navigator.sendBeacon || !navigator.sendBeacon(address, body)) {
      fetch(address, { method: "POST", body, keepalive: true }).catch(() => {});
    }
  }

  function sendSearch() {
    if (search) {
      clearTimeout(search.timer);
      send(search.event);
      search = undefined;
    }
  }

  // A search is what somebody meant once they stop typing, or go on.
  function record(type, data, about) {
    const event = { ...about, type, data };
    if (typeof data?.query === "string") {
      event.data = { ...data, query: cut(data.query, MOST) };
    }
    if (type === "probe_searched") {
      clearTimeout(search && search.timer);
      search = { event, timer: setTimeout(sendSearch, SEARCH_MILLISECONDS) };
    } else {
      sendSearch();
      send(event);
    }
  }

  function followed({ type, button, target }) {
    const link = target.closest && target.closest("a[href]");
    const opens = type === "click" || button === 1; // the middle button opens a tab
    if (opens && link && link.origin !== location.origin && /^https?:$/.test(link.protocol)) {
      const tool = link.dataset.tool || link.hostname;
      record("link_followed", { tool: cut(tool, MOST_OF_NAME), url: cut(link.href, MOST) });
    }
  }

  // What is chosen, never what is typed: a text may be of anything.
  function changed({ target }) {
    const control = target.name || target.id;
    if (control && target.matches("select, input[type=checkbox], input[type=radio], input[type=range]")) {
      const value = target.type === "checkbox" ? target.checked : cut(target.value, MOST);
      record("control_changed", { control: cut(control, MOST_OF_NAME), value });
    }
  }

  function moved() {
    if (location.pathname !== page) {
      page = location.pathname;
      record("page_viewed", { page: cut(page, MOST) });
    }
  }

  for (const name of ["pushState", "replaceState"]) {
    const change = history[name];
    history[name] = function () {
      change.apply(this, arguments);
      moved();
    };
  }
  addEventListener("popstate", moved);
  addEventListener("pagehide", sendSearch);
  document.addEventListener("click", followed, true);
  document.addEventListener("auxclick", followed, true);
  document.addEventListener("change", changed, true);
  window.recordUsage = record;
})();
