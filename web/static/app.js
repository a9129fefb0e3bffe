// The frame around every page: where one can go, whether what is shown is fresh, whose token it is, and the keys.

import { begin, session } from "./api.js";
import { Dialogs, go, html, render, useEffect, usePulse, useHere, useState, span, Badge } from "./parts.js";

// By the first part of the address. Each is loaded when it is gone to.
const PAGES = {
  "": () => import("./pages/front.js"),
  jobs: () => import("./pages/jobs.js"),
  job: () => import("./pages/job.js"),
  run: () => import("./pages/run.js"),
  allocations: () => import("./pages/allocations.js"),
  alloc: () => import("./pages/alloc.js"),
  nodes: () => import("./pages/nodes.js"),
  node: () => import("./pages/node.js"),
  topology: () => import("./pages/topology.js"),
  services: () => import("./pages/services.js"),
  login: () => import("./pages/login.js"),
};
const PLACES = [["", "Overview", "o"], ["jobs", "Jobs", "b"], ["allocations", "Allocations", "a"], ["nodes", "Nodes", "n"], ["topology", "Topology", "t"], ["services", "Services", "s"]];
const BELONGS = { job: "jobs", run: "jobs", alloc: "allocations", node: "nodes" };

const loaded = {};

function Shown({ parts }) {
  const name = parts[0] || "";
  const [, again] = useState(0);
  useEffect(() => {
    if (loaded[name] || !PAGES[name]) return;
    PAGES[name]().then((module) => { loaded[name] = module.default; }, () => { loaded[name] = Unloaded; }).then(() => again((n) => n + 1));
  }, [name]);
  if (!PAGES[name]) return html`<article><h1>There is no such page</h1><p class="lead">The address names nothing that drover shows. <a href="/ui/">To the overview</a></p></article>`;
  const Page = loaded[name];
  return Page ? html`<${Page} key=${parts.slice(0, 3).join("/")} parts=${parts.slice(1)} />` : html`<p class="loading" role="status">Loading …</p>`;
}

function Unloaded() {
  return html`<div class="fault" role="alert"><p>A part of this page cannot be loaded: the agent does not answer, or was upgraded.</p><button onClick=${() => location.reload()}>Load anew</button></div>`;
}

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}

function Frame() {
  const { parts } = useHere();
  const now = usePulse();
  const [isOpen, setOpen] = useState(false);
  const [look, setLook] = useState(localStorage.getItem("drover.theme") || "");
  const [isReadOnly, setReadOnly] = useState(session.readOnly);
  const place = BELONGS[parts[0]] || parts[0] || "";
  useEffect(() => theme(look), [look]);
  useEffect(() => { setOpen(false); }, [parts.join("/")]);
  const nextLook = { "": "light", light: "dark", dark: "" }[look];
  const change = () => {
    localStorage.setItem("drover.theme", nextLook);
    setLook(nextLook);
  };
  const toggle = () => {
    session.readOnly = !isReadOnly;
    setReadOnly(!isReadOnly);
    go(location.pathname + location.search, { isReplaced: true });
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to what this page shows</a>
    <header class="top">
      <a class="brand" href="/ui/">drover</a>
      <button class="menu" aria-expanded=${isOpen} aria-controls="places" onClick=${() => setOpen(!isOpen)}>Menu</button>
      <nav id="places" class=${isOpen ? "open" : ""} aria-label="Main">
        ${PLACES.map(([name, text]) => html`<a href=${`/ui/${name}`} aria-current=${place === name ? "page" : undefined}>${text}</a>`)}
        <span class="end">
          <button onClick=${toggle} aria-pressed=${isReadOnly} title="Hides everything that changes something">${isReadOnly ? "Read-only" : "Read and write"}</button>
          <button onClick=${change} title="Light, dark, or as the machine is">${{ "": "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[look]}</button>
          <button onClick=${help}>Keys</button>
          <a href="/ui/login" aria-current=${place === "login" ? "page" : undefined}>${session.token ? "Token" : "Log in"}</a>
        </span>
      </nav>
      <${Freshness} now=${now} />
    </header>
    ${now.fault && html`<p class="banner bad" role="alert"><strong>${now.fault}.</strong> What is shown may be out of date, as it was ${span((Date.now() - now.since) / 1000)} ago; it is tried again by itself. Tasks run on meanwhile.</p>`}
    ${now.needsToken && parts[0] !== "login" && html`<p class="banner warn" role="alert">This cluster asks for a Consul token. <a href="/ui/login">Log in</a></p>`}
    ${now.data?.Brake.Engaged && html`<p class="banner warn" role="status"><strong>The brake is on.</strong> ${now.data.Brake.Scopes.map((one) => `${one.Unheard} of ${one.Total} nodes in ${one.Name} are not heard`).join("; ")}: nothing is rescheduled from them. <a href="/ui/">More</a></p>`}
    <main id="main" tabindex="-1"><${Shown} key=${isReadOnly} parts=${parts} /></main>
    <footer><span>drover ${now.data?.Version || ""}</span>${now.data && html`<span>region ${now.data.Region}</span>`}</footer>
    <${Dialogs} />`;
}

function Freshness({ now }) {
  const [, again] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => again((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  if (now.fault) return html`<span class="fresh" data-fresh="stale"><${Badge} status=${`Stale for ${span((Date.now() - now.since) / 1000)}`} as="bad" /></span>`;
  if (!now.data) return html`<span class="fresh" data-fresh="none"><${Badge} status=${now.needsToken ? "No token" : "Connecting"} as="none" /></span>`;
  return html`<span class="fresh" data-fresh=${now.isLive ? "live" : "polling"} title=${`Led by ${now.data.Leader.Name}`}><${Badge} status=${now.isLive ? "Live" : "Connecting"} as=${now.isLive ? "good" : "warn"} /> <span class="led">led by ${now.data.Leader.Name}</span></span>`;
}

function skip(event) {
  event.preventDefault();
  const main = document.getElementById("main");
  (main.querySelector("h1") || main).focus();
  main.scrollIntoView();
}

// -- keys

const KEYS = [
  ["/", "search the list"], ["j, k", "next and previous row"], ["Enter", "open the row"], ["g then o, b, a, n, t, s", "overview, jobs, allocations, nodes, topology, services"], ["?", "this help"], ["Esc", "leave a field or a dialog"],
];

function help() {
  const box = document.createElement("dialog");
  document.body.append(box);
  const close = () => { box.close(); render(null, box); box.remove(); };
  render(html`<h2>Keys</h2><dl class="facts">${KEYS.map(([key, text]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${text}</dd></div>`)}</dl><div class="actions"><button onClick=${close}>Close</button></div>`, box);
  box.addEventListener("cancel", close);
  box.showModal();
}

let isGoing = false;

function move(by) {
  const rows = [...document.querySelectorAll("[data-row]")].filter((row) => row.querySelector("a"));
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const row = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
  row?.querySelector("a").focus();
}

addEventListener("keydown", (event) => {
  const field = event.target.closest("input, textarea, select, .xterm");
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (field) {
    if (event.key === "Escape" && !field.matches(".xterm")) field.blur();
    return;
  }
  if (isGoing) {
    isGoing = false;
    const place = PLACES.find(([, , key]) => key === event.key);
    if (place) { event.preventDefault(); go(`/ui/${place[0]}`); }
    return;
  }
  const done = { "/": () => document.querySelector("[data-search]")?.focus(), j: () => move(1), k: () => move(-1), g: () => { isGoing = true; }, "?": help }[event.key];
  if (done) { event.preventDefault(); done(); }
});

// Links within the page are gone to without loading it anew.
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/ui/']");
  if (!link || link.target || link.hasAttribute("download") || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const isTab = link.closest(".tabs");
  go(link.getAttribute("href"));
  if (!isTab) {
    scrollTo(0, 0);
    // who reads by ear is told where he is
    setTimeout(() => document.querySelector("#main h1")?.focus({ preventScroll: true }), 50);
  }
});

begin();
const root = document.getElementById("app");
root.textContent = "";
render(html`<${Frame} />`, root);
