// What pages are made of. Texts are put in as texts: nothing here or elsewhere sets HTML.

import { html, render, useEffect, useRef, useState } from "./vendor/preact-htm.js";
import { ask, Live, pulse, query, session, watchPulse } from "./api.js";

export { html, render, useEffect, useRef, useState };

// -- where we are

export function here() {
  const path = location.pathname.replace(/^\/ui\/?/, "");
  return { parts: path.split("/").filter(Boolean).map(decodeURIComponent), params: Object.fromEntries(new URLSearchParams(location.search)) };
}

const moves = new Set();

export function go(path, { isReplaced = false } = {}) {
  if (path !== location.pathname + location.search) history[isReplaced ? "replaceState" : "pushState"](null, "", path);
  for (const moved of moves) moved();
}

export function useHere() {
  const [, again] = useState(0);
  useEffect(() => {
    const moved = () => again((n) => n + 1);
    moves.add(moved);
    addEventListener("popstate", moved);
    return () => { moves.delete(moved); removeEventListener("popstate", moved); };
  }, []);
  return here();
}

export function setParams(changed) {
  go(query(location.pathname, { ...here().params, ...changed }), { isReplaced: true });
}

const e = encodeURIComponent;
export const links = {
  job: (namespace, id, tab = "") => `/ui/job/${e(namespace)}/${e(id)}${tab && `/${tab}`}`,
  alloc: (id, tab = "") => `/ui/alloc/${e(id)}${tab && `/${tab}`}`,
  node: (id, tab = "") => `/ui/node/${e(id)}${tab && `/${tab}`}`,
};

// -- what is asked for

export function useLive(load, deps, concerns = () => true) {
  const [found, setFound] = useState({});
  useEffect(() => {
    setFound({});
    live.current = new Live(load, concerns, (told) => setFound((before) => ({ ...before, ...told, at: told.error ? before.at : Date.now() })));
    return () => live.current.end();
  }, deps);
  const live = useRef(null);
  return { ...found, reload: () => live.current?.wake(true) };
}

export function usePulse() {
  const [, again] = useState(0);
  useEffect(() => watchPulse(() => again((n) => n + 1)), []);
  return pulse;
}

const NOTHING = { ReadJob: false, WriteJob: false, Exec: false, ReadNode: false, WriteNode: false, WriteOperator: false };

// What the token allows, less what changes something while the page is read-only.
export function useMay({ namespace = "default", job = "", node = "" } = {}) {
  const [may, setMay] = useState(NOTHING);
  useEffect(() => {
    let isOver = false;
    const look = () => ask("GET", query("/v1/ui/may", { namespace: namespace === "*" ? "default" : namespace, job, node })).then((a) => a.json()).then(
      (found) => { if (!isOver) setMay(found); },
      (error) => { if (!isOver && error.status !== 403) setTimeout(() => isOver || look(), 3000); },
    );
    look();
    return () => { isOver = true; };
  }, [namespace, job, node, session.token]);
  return session.readOnly ? { ...may, WriteJob: false, Exec: false, WriteNode: false, WriteOperator: false } : may;
}

export const of = {
  jobs: (event) => event.Topic !== "Node",
  job: (namespace, id) => (event) => event.Namespace === namespace && (event.Key === id || event.FilterKeys.includes(id)),
  alloc: (id) => (event) => event.Topic === "Allocation" && event.Key === id,
  nodes: (event) => event.Topic === "Node",
  node: (id) => (event) => (event.Topic === "Node" && event.Key === id) || (event.Topic === "Allocation" && event.Payload.Allocation.NodeID === id),
  never: () => false,
};

// -- words

export const short = (id) => (id || "").slice(0, 8);
export const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

export function ms(time) {
  if (!time) return 0;
  return typeof time === "number" ? time / 1e6 : Date.parse(time) || 0;
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

export function mib(bytes) {
  const n = bytes / 1048576;
  return n >= 1024 ? `${(n / 1024).toFixed(1)} GiB` : `${n < 10 ? n.toFixed(1) : Math.round(n)} MiB`;
}

export const ofMib = (n) => mib(n * 1048576);

export function size(bytes) {
  return bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${(bytes / 1024).toFixed(1)} KiB` : mib(bytes);
}

// "12 s ago", kept so; the whole moment is in its title.
export function Ago({ time, until = false }) {
  const at = ms(time);
  const [, again] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => again((n) => n + 1), 10000);
    return () => clearInterval(timer);
  }, []);
  if (!at || at < 0) return html`<span class="dim">–</span>`;
  const left = (at - Date.now()) / 1000;
  const text = until || left > 5 ? (left > 0 ? `in ${span(left)}` : "now") : `${span(-left)} ago`;
  return html`<time datetime=${new Date(at).toISOString()} title=${new Date(at).toLocaleString()}>${text}</time>`;
}

// -- statuses. Never by colour alone: the word is there, and a sign before it.

const LEVELS = {
  good: ["running", "ready", "successful", "passing", "complete", "success", "healthy", "ok", "succeeded", "eligible"],
  warn: ["pending", "starting", "draining", "ineligible", "warning", "paused", "unknown", "disconnected", "blocked", "flapping", "initializing", "stopping", "queued", "restarting", "retrying"],
  bad: ["failed", "lost", "critical", "down", "unhealthy", "error", "missed"],
};
const SIGNS = { good: "●", warn: "▲", bad: "■", none: "○" };

export function level(word) {
  return Object.keys(LEVELS).find((name) => LEVELS[name].includes(String(word).toLowerCase())) || "none";
}

export function Badge({ status, as }) {
  const found = as || level(status);
  return html`<span class=${`badge ${found}`}><span aria-hidden="true">${SIGNS[found]}</span> ${status}</span>`;
}

const COLUMNS = [
  ["Running", "good"], ["Complete", "done"], ["Starting", "warn"], ["Queued", "queued"], ["Unknown", "unknown"], ["Failed", "bad"], ["Lost", "lost"],
];

// How many allocs are how, as one bar.
export function HealthBar({ counts }) {
  const parts = COLUMNS.map(([name, kind]) => [name.toLowerCase(), kind, counts[name] || 0]).filter(([, , n]) => n);
  const text = parts.map(([name, , n]) => `${n} ${name}`).join(", ") || "no allocations";
  return html`<span class="health"><span class="bar" role="img" aria-label=${text}>
    ${parts.map(([name, kind, n]) => html`<span class=${`part ${kind}`} style=${{ flexGrow: n }} title=${`${n} ${name}`}></span>`)}
  </span><span class="health-text">${text}</span></span>`;
}

export function Meter({ used, total, text }) {
  const share = total ? Math.min(1, used / total) : 0;
  const kind = share > 0.95 ? "bad" : share > 0.8 ? "warn" : "good";
  return html`<span class="meter"><span class="bar" role="img" aria-label=${`${Math.round(share * 100)} % used`}><span class=${`part ${kind}`} style=${{ flexGrow: share }}></span><span style=${{ flexGrow: 1 - share }}></span></span>
    <span class="health-text">${text ?? `${Math.round(share * 100)} %`}</span></span>`;
}

// -- the page and its parts

export function Page({ title, lead, actions, children, crumbs = [] }) {
  useEffect(() => { document.title = `${title} · drover`; }, [title]);
  return html`<article>
    ${crumbs.length > 0 && html`<nav class="crumbs" aria-label="Where this is">${crumbs.map(([text, href]) => html`<a href=${href}>${text}</a> <span aria-hidden="true">›</span> `)}</nav>`}
    <header class="title"><h1 tabindex="-1">${title}</h1><div class="actions">${actions}</div></header>
    <p class="lead">${lead}</p>
    ${children}
  </article>`;
}

export function Panel({ title, aside, children, id }) {
  return html`<section class="panel" id=${id} aria-label=${title}><header><h2>${title}</h2><div class="aside">${aside}</div></header>${children}</section>`;
}

export function Loading({ found, what }) {
  const now = usePulse();
  if (found.error && found.data === undefined) return html`<${Fault} error=${found.error} what=${what} retry=${found.reload} />`;
  if (now.fault) return html`<p class="loading" role="status">Waiting for ${what}: ${now.fault}.</p>`;
  return html`<p class="loading" role="status">Loading ${what} …</p>`;
}

export function Fault({ error, what, retry }) {
  const words = error.status === 403 ? `Your token does not allow to read ${what}.` : error.status === 404 ? `There is no such thing: ${error.message}.` : `${what} cannot be read: ${error.message}`;
  return html`<div class="fault" role="alert"><p>${words}</p>
    ${error.status === 403 && html`<p><a class="button" href="/ui/login">Use another token</a></p>`}
    ${retry && error.status !== 404 && error.status !== 403 && html`<button onClick=${retry}>Try again</button>`}</div>`;
}

// What could not be brought up to date, above what was known before.
export function Stale({ found }) {
  if (!found.error || found.data === undefined) return null;
  return html`<p class="stale" role="status">Not fresh since ${new Date(found.at || Date.now()).toLocaleTimeString()}: ${found.error.message}.</p>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

export function Tabs({ tabs, current, label }) {
  return html`<nav class="tabs" aria-label=${label}>${tabs.map(([name, text, href]) => html`<a href=${href} aria-current=${name === current ? "page" : undefined}>${text}</a>`)}</nav>`;
}

export function Facts({ facts }) {
  return html`<dl class="facts">${facts.filter((one) => one && one[1] !== undefined && one[1] !== "" && one[1] !== null && one[1] !== false).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

export function Copy({ text }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // without TLS there is no clipboard: by way of a field that is selected
      const field = document.createElement("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button class="small" onClick=${copy} aria-label=${`Copy ${text}`}>${isDone ? "Copied" : "Copy"}</button>`;
}

// columns: [{name, text, sort, show(row), hide: "phone"}]. sort and page are in the address.
export function Table({ columns, rows, of: what, keyOf = (row) => row.ID, sort, isReverse, onSort }) {
  const head = (column) => {
    if (!column.sort || !onSort) return html`<th scope="col" class=${column.hide}>${column.text}</th>`;
    const isMine = sort === column.sort;
    return html`<th scope="col" class=${column.hide} aria-sort=${isMine ? (isReverse ? "descending" : "ascending") : "none"}>
      <button class="sort" onClick=${() => onSort(column.sort, isMine && !isReverse)}>${column.text}<span aria-hidden="true">${isMine ? (isReverse ? " ▼" : " ▲") : ""}</span></button></th>`;
  };
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${`Table of ${what}`}><table><thead><tr>${columns.map(head)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${keyOf(row)} data-row>${columns.map((column) => html`<td class=${column.hide} data-label=${column.text}>${column.show(row)}</td>`)}</tr>`)}</tbody></table></div>`;
}

// A list that the leader filters, sorts and cuts. filters: [{name, text, options: [[value, text]]}].
export function Listing({ path, what, columns, filters = [], fixed = {}, sort: usual, concerns, perPage = 50, search = true, empty, prefix = "", keyOf }) {
  const { params } = useHere();
  const name = (key) => prefix + key;
  const [text, setText] = useState(params[name("q")] || "");
  const asked = { ...fixed, q: params[name("q")], page: params[name("page")], sort: params[name("sort")] || usual, reverse: params[name("reverse")], per_page: perPage };
  for (const filter of filters) asked[filter.name] = params[name(filter.name)];
  const found = useLive(async (signal) => {
    const answer = await ask("GET", query(path, asked), { signal });
    return { rows: await answer.json(), total: Number(answer.headers.get("X-Total-Count") || 0) };
  }, [path, JSON.stringify(asked), session.token], concerns);
  const timer = useRef(0);
  const change = (key, value) => setParams({ [name(key)]: value, [name("page")]: "" });
  const type = (event) => {
    setText(event.target.value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => change("q", event.target.value.trim()), 80);
  };
  const page = Number(asked.page || 0);
  const pages = found.data ? Math.max(1, Math.ceil(found.data.total / perPage)) : 1;
  const turn = (to) => setParams({ [name("page")]: to || "" });
  const before = useRef(null);
  if (found.data) before.current = found.data;
  const shown = found.data || (found.error ? null : before.current);
  return html`<div class="listing">
    <div class="filters">
      ${search && html`<label class="search"><span class="hidden">Search ${what}</span><input type="search" data-search placeholder=${`Search ${what} ( / )`} value=${text} onInput=${type} /></label>`}
      ${filters.map((filter) => html`<label>${filter.text} <select value=${params[name(filter.name)] || ""} onChange=${(event) => change(filter.name, event.target.value)}>
        ${filter.options.map(([value, words]) => html`<option value=${value}>${words}</option>`)}</select></label>`)}
      <span class="total" role="status">${shown ? count(shown.total, what.replace(/s$/, ""), what) : ""}</span>
    </div>
    <${Stale} found=${found} />
    ${!shown ? html`<${Loading} found=${found} what=${what} />`
      : shown.rows.length === 0 ? html`<${Empty}>${asked.q || filters.some((one) => asked[one.name]) ? `No ${what} match.` : empty || `There are no ${what}.`}<//>`
      : html`<${Table} columns=${columns} rows=${shown.rows} of=${what} keyOf=${keyOf} sort=${asked.sort} isReverse=${asked.reverse === "true"}
          onSort=${(by, isReverse) => setParams({ [name("sort")]: by, [name("reverse")]: isReverse ? "true" : "", [name("page")]: "" })} />`}
    ${pages > 1 && html`<nav class="pager" aria-label=${`Pages of ${what}`}>
      <button disabled=${page <= 0} onClick=${() => turn(page - 1)}>Previous</button>
      <span>Page ${page + 1} of ${pages}</span>
      <button disabled=${page >= pages - 1} onClick=${() => turn(page + 1)}>Next</button></nav>`}
  </div>`;
}

// -- asking back, and telling what came of it

let showDialog = () => {};
let showNote = () => {};

// Resolves with the fields' values once it is confirmed, with null when not. fields: [{name, text, value, type, options}].
export function confirm({ title, text, verb, danger = false, fields = [] }) {
  return new Promise((done) => showDialog({ title, text, verb, danger, fields, done }));
}

export function note(text, kind = "good") {
  showNote({ text, kind });
}

// Runs an action, after asking back where `asks` is given, and tells its outcome.
export async function act(what, work, asks) {
  const values = asks ? await confirm(asks) : {};
  if (values === null) return undefined;
  try {
    const answer = await work(values);
    note(`${what}: done`);
    return answer ?? true;
  } catch (error) {
    note(`${what}: ${error.message}`, "bad");
    return undefined;
  }
}

export function Dialogs() {
  const [asked, setAsked] = useState(null);
  const [notes, setNotes] = useState([]);
  const box = useRef(null);
  useEffect(() => {
    showDialog = setAsked;
    showNote = (one) => {
      const known = { ...one, id: Math.random() };
      setNotes((before) => [...before.slice(-3), known]);
      setTimeout(() => setNotes((before) => before.filter((other) => other.id !== known.id)), one.kind === "bad" ? 15000 : 5000);
    };
  }, []);
  useEffect(() => { if (asked && !box.current.open) box.current.showModal(); }, [asked]);
  const answer = (values) => {
    box.current.close();
    setAsked(null);
    asked.done(values);
  };
  const submit = (event) => {
    event.preventDefault();
    const values = {};
    for (const field of asked.fields) {
      const input = event.target.elements[field.name];
      values[field.name] = field.type === "checkbox" ? input.checked : input.value;
    }
    answer(values);
  };
  return html`
    <div class="notes" role="status" aria-live="polite">${notes.map((one) => html`<p key=${one.id} class=${`note ${one.kind}`}>${one.text}</p>`)}</div>
    ${asked && html`<dialog ref=${box} aria-labelledby="asked" onCancel=${(event) => { event.preventDefault(); answer(null); }}>
      <form onSubmit=${submit}><h2 id="asked">${asked.title}</h2><p>${asked.text}</p>
        ${asked.fields.map((field) => html`<label class=${field.type === "checkbox" ? "check" : "field"}>
          ${field.type !== "checkbox" && html`<span>${field.text}</span>`}
          ${field.options ? html`<select name=${field.name}>${field.options.map(([value, text]) => html`<option value=${value} selected=${value === field.value}>${text}</option>`)}</select>`
            : field.type === "textarea" ? html`<textarea name=${field.name} rows="4">${field.value || ""}</textarea>`
            : field.type === "checkbox" ? html`<input type="checkbox" name=${field.name} checked=${field.value} />`
            : html`<input name=${field.name} type=${field.type || "text"} value=${field.value} required=${field.required} min=${field.min} />`}
          ${field.type === "checkbox" && html`<span>${field.text}</span>`}</label>`)}
        <div class="actions"><button type="button" onClick=${() => answer(null)}>Cancel</button><button class=${asked.danger ? "danger" : "primary"} type="submit">${asked.verb}</button></div>
      </form></dialog>`}`;
}

export function Action({ text, onClick, danger, primary, disabled, title }) {
  const [isBusy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    try { await onClick(); } finally { setBusy(false); }
  };
  return html`<button class=${danger ? "danger" : primary ? "primary" : ""} title=${title} disabled=${disabled || isBusy} onClick=${run}>${text}</button>`;
}
