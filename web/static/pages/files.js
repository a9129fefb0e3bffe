// The directory of an allocation.

import { ask, get, query } from "../api.js";
import { Action, Ago, Empty, html, links, Loading, of, Panel, size, Table, useHere, useLive } from "../parts.js";
import { save } from "./job.js";

const SHOWN_BYTES = 256 * 1024;

export default function Files({ alloc }) {
  const { params } = useHere();
  const path = params.path || "/";
  const at = (one) => query(links.alloc(alloc.ID, "files"), { path: one });
  const names = path.split("/").filter(Boolean);
  const found = useLive(async (signal) => {
    const stat = await get(query(`/v1/client/fs/stat/${alloc.ID}`, { path }), { signal });
    if (stat.IsDir) return { rows: await get(query(`/v1/client/fs/ls/${alloc.ID}`, { path }), { signal }) };
    const answer = await ask("GET", query(`/v1/client/fs/readat/${alloc.ID}`, { path, offset: 0, limit: SHOWN_BYTES }), { signal });
    return { stat, text: await answer.text() };
  }, [alloc.ID, path], of.never);
  const download = async () => {
    const answer = await ask("GET", query(`/v1/client/fs/cat/${alloc.ID}`, { path }), { timeoutMs: 0 });
    save(names.at(-1), await answer.blob());
  };
  return html`<${Panel} title=${path} aside=${found.data?.stat && html`<${Action} text="Download" onClick=${download} />`}>
    <nav class="crumbs" aria-label="Directories"><a href=${at("")}>allocation</a> ${names.map((name, n) => html`<span aria-hidden="true">/</span> <a href=${at(`/${names.slice(0, n + 1).join("/")}`)}>${name}</a> `)}</nav>
    ${!found.data ? html`<${Loading} found=${found} what="these files" />`
      : found.data.rows ? (found.data.rows.length ? html`<${Table} of="files" keyOf=${(one) => one.Name} rows=${[...found.data.rows].sort((a, b) => Number(b.IsDir) - Number(a.IsDir) || a.Name.localeCompare(b.Name))} columns=${[
        { text: "Name", show: (one) => html`<a href=${at(`${path === "/" ? "" : path}/${one.Name}`)}>${one.Name}${one.IsDir ? "/" : ""}</a>` },
        { text: "Size", show: (one) => (one.IsDir ? "–" : size(one.Size)) },
        { text: "Mode", hide: "wide", show: (one) => html`<code>${one.FileMode}</code>` },
        { text: "Changed", show: (one) => html`<${Ago} time=${one.ModTime} />` },
      ]} />` : html`<${Empty}>This directory is empty.<//>`)
      : html`<pre class="log" tabindex="0">${found.data.text}</pre>${found.data.stat.Size > SHOWN_BYTES && html`<p class="dim">The first ${size(SHOWN_BYTES)} of ${size(found.data.stat.Size)}.</p>`}`}
  <//>`;
}
