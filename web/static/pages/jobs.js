// All jobs, those in trouble first.

import { Ago, Badge, HealthBar, html, level, links, Listing, of, Page, useMay, useHere } from "../parts.js";

export const JOB_COLUMNS = [
  { text: "Job", sort: "id", show: (job) => html`<a href=${links.job(job.Namespace, job.ID)}>${job.Name || job.ID}</a>${job.Namespace !== "default" ? html` <span class="dim">${job.Namespace}</span>` : ""}${job.Troubles.length > 0 ? html`<div class="trouble">${job.Troubles.join(", ")}</div>` : ""}` },
  { text: "Status", sort: "status", show: (job) => html`<${Badge} status=${job.Stop && job.Status === "dead" ? "stopped" : job.Status} as=${job.Severity > 1 ? "bad" : job.Severity ? "warn" : job.Status === "dead" ? "none" : level(job.Status)} />` },
  { text: "Type", sort: "type", hide: "wide", show: (job) => job.Periodic ? `${job.Type}, periodic` : job.Parameterized ? `${job.Type}, parameterized` : job.Type },
  { text: "Allocations", sort: "running", show: (job) => job.Children ? html`<${Children} job=${job} />` : html`<${HealthBar} counts=${job.Counts} />` },
  { text: "Version", hide: "wide", show: (job) => job.Version },
  { text: "Submitted", sort: "submitted", hide: "wide", show: (job) => html`<${Ago} time=${job.SubmitTime} />` },
];

function Children({ job }) {
  const children = job.Children;
  return html`<span>${children.running} running, ${children.pending} pending, ${children.dead} done</span>
    <div class="dim">last <${Ago} time=${children.LastLaunch} />${job.NextLaunch ? html`, next <${Ago} time=${job.NextLaunch} until />` : ""} ${job.Watch && html`<${Badge} status=${job.Watch.Status} />`}</div>`;
}

export const TYPES = [["", "any"], ["service", "service"], ["batch", "batch"], ["system", "system"], ["sysbatch", "sysbatch"], ["periodic", "periodic"], ["parameterized", "parameterized"]];

export default function Jobs() {
  const may = useMay();
  const { params } = useHere();
  const namespace = params.namespace || "*";
  return html`<${Page} title="Jobs" lead="Every job with how many of its allocations run; what is in trouble comes first, and the children of periodic jobs are with their parents."
    actions=${may.WriteJob && html`<a class="button primary" href="/ui/run">Run a job</a>`}>
    <${Listing} path="/v1/ui/jobs" what="jobs" columns=${JOB_COLUMNS} fixed=${{ namespace }} sort="trouble" concerns=${of.jobs}
      keyOf=${(job) => `${job.Namespace}/${job.ID}`} empty="There are no jobs yet."
      filters=${[{ name: "type", text: "Type", options: TYPES }, { name: "status", text: "Status", options: [["", "any"], ["running", "running"], ["pending", "pending"], ["dead", "dead"]] }, { name: "failing", text: "Show", options: [["", "all"], ["true", "in trouble"]] }]} />
  <//>`;
}
