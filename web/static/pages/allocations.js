// The allocations of the whole cluster.

import { Ago, Badge, html, links, Listing, Page, short } from "../parts.js";

export const STATUSES = [["", "any"], ["live", "live"], ["pending", "pending"], ["running", "running"], ["complete", "complete"], ["failed", "failed"], ["lost", "lost"], ["unknown", "unknown"]];

export const allocColumns = ({ isOfJob = false, isOfNode = false } = {}) => [
  { text: "Allocation", sort: "id", show: (alloc) => html`<a href=${links.alloc(alloc.ID)}><code>${short(alloc.ID)}</code></a> <span class="name">${alloc.Name}</span>${alloc.Canary ? html` <span class="tag">canary</span>` : ""}${alloc.Apart ? html` <span class="tag">${alloc.Apart}</span>` : ""}` },
  { text: "Status", sort: "status", show: (alloc) => html`<${Badge} status=${alloc.ClientStatus} as=${alloc.ClientStatus === "complete" ? "none" : undefined} />${alloc.DesiredStatus !== "run" ? html` <span class="dim">${alloc.DesiredStatus}</span>` : ""}${alloc.Healthy === false ? html` <${Badge} status="unhealthy" />` : ""}${alloc.Said && alloc.ClientStatus !== "complete" ? html`<div class="said">${alloc.Said}</div>` : ""}` },
  ...(isOfJob ? [] : [{ text: "Job", hide: "wide", show: (alloc) => html`<a href=${links.job(alloc.Namespace, alloc.JobID)}>${alloc.JobID}</a>` }]),
  ...(isOfNode ? [] : [{ text: "Node", sort: "node", show: (alloc) => html`<a href=${links.node(alloc.NodeID)}>${alloc.NodeName || short(alloc.NodeID)}</a>` }]),
  { text: "Version", hide: "wide", show: (alloc) => alloc.JobVersion },
  { text: "Restarts", hide: "wide", show: (alloc) => alloc.Restarts },
  { text: "Changed", sort: "modified", show: (alloc) => html`<${Ago} time=${alloc.ModifyTime} />` },
  { text: "Logs", show: (alloc) => html`<a href=${links.alloc(alloc.ID, "logs")} aria-label=${`Logs of ${alloc.Name}`}>Logs</a>` },
];

export default function Allocations() {
  return html`<${Page} title="Allocations" lead="Every allocation of every job, the newest first: what runs where, and what became of it.">
    <${Listing} path="/v1/ui/allocations" what="allocations" columns=${allocColumns()} fixed=${{ namespace: "*" }} sort="newest"
      concerns=${(event) => event.Topic === "Allocation"} filters=${[{ name: "status", text: "Status", options: STATUSES }]} />
  <//>`;
}
