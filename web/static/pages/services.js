// What jobs register in Consul.

import { get, q, session } from "../api.js";
import { Copy, count, html, links, Listing, Loading, of, Page, Panel, useLive } from "../parts.js";
import { Instances } from "./job.js";

const COLUMNS = [
  { text: "Service", sort: "name", show: (one) => html`<a href=${`/ui/services/${q(one.Namespace)}/${q(one.JobID)}/${q(one.Name)}`}>${one.Name}</a> ${one.Tags.map((tag) => html`<span class="tag">${tag}</span> `)}` },
  { text: "Job", sort: "job", show: (one) => html`<a href=${links.job(one.Namespace, one.JobID, "checks")}>${one.JobID}</a> <span class="dim">${one.TaskName || one.TaskGroup}</span>` },
  { text: "Live", sort: "live", show: (one) => count(one.Live, "instance") },
  { text: "Port", hide: "wide", show: (one) => one.PortLabel || "–" },
  { text: "Checks", hide: "wide", show: (one) => one.Checks.join(", ") || "none" },
  { text: "DNS names", show: (one) => one.DNS.map((name) => html`<div class="dns"><code>${name}</code> <${Copy} text=${name} /></div>`) },
];

export default function Services({ parts: [namespace, job, name] }) {
  if (name) return html`<${Service} ...${{ namespace, job, name }} />`;
  return html`<${Page} title="Services" lead="What running jobs register in Consul, and the names under which Consul's DNS answers for it.">
    <${Listing} path="/v1/ui/services" what="services" columns=${COLUMNS} fixed=${{ namespace: "*" }} sort="name" concerns=${of.jobs} keyOf=${(one) => [one.Namespace, one.JobID, one.TaskGroup, one.TaskName, one.Name, one.PortLabel].join("/")} empty="No running job registers a service." />
  <//>`;
}

function Service({ namespace, job, name }) {
  const found = useLive((signal) => get(`/v1/job/${q(job)}/checks?namespace=${q(namespace)}`, { signal }), [namespace, job, session.token], of.job(namespace, job));
  const dns = `${name}.service.consul`;
  return html`<${Page} title=${name} lead="The instances of this service, and what Consul's checks say of them." crumbs=${[["Services", "/ui/services"], [job, links.job(namespace, job)]]}>
    <p>In DNS: <code>${dns}</code> <${Copy} text=${dns} /></p>
    ${!found.data ? html`<${Loading} found=${found} what="the instances" />` : html`<${Panel} title="Instances"><${Instances} instances=${found.data.filter((one) => one.Service === name)} /><//>`}
  <//>`;
}
