// One job: its groups and allocations, why not all is placed, roll-outs, versions, and what can be done to it.

import { get, put, del, q, session } from "../api.js";
import { act, Action, Ago, Badge, Copy, count, Empty, Facts, go, HealthBar, html, level, links, Listing, Loading, ms, of, Page, Panel, short, span, Stale, Table, Tabs, useLive, useMay } from "../parts.js";
import { allocColumns, STATUSES } from "./allocations.js";
import { Diff, isSame, NotPlaced } from "./diff.js";
import { JOB_COLUMNS } from "./jobs.js";
import { JobUse } from "./use.js";

const path = (namespace, id, what = "", more = "") => `/v1/job/${q(id)}${what && `/${what}`}?namespace=${q(namespace)}${more}`;

export default function Job({ parts: [namespace, id, tab = ""] }) {
  const mine = of.job(namespace, id);
  const key = [namespace, id, session.token];
  const found = useLive(async (signal) => {
    const [job, summary, deployment] = await Promise.all([get(path(namespace, id), { signal }), get(path(namespace, id, "summary"), { signal }), get(path(namespace, id, "deployment"), { signal })]);
    return { job, summary, deployment };
  }, key, mine);
  const may = useMay({ namespace, job: id });
  const crumbs = [["Jobs", "/ui/jobs"]];
  if (!found.data) return html`<${Page} title=${id} lead="One job, its allocations and how it is doing." crumbs=${crumbs}><${Loading} found=${found} what=${`job ${id}`} /><//>`;
  const { job, summary, deployment } = found.data;
  const isParent = Boolean(job.Periodic) || (job.ParameterizedJob && !job.Dispatched);
  if (job.ParentID) crumbs.push([job.ParentID, links.job(namespace, job.ParentID)]);
  const tabs = [["", "Overview"], ...(isParent ? [["children", "Children"]] : [["allocations", "Allocations"], ["deployments", "Deployments"], ["checks", "Services and checks"]]), ["versions", "Versions"], ["evaluations", "Evaluations"], ["definition", "Definition"]]
    .map(([name, text]) => [name, text, links.job(namespace, id, name)]);
  const shown = { namespace, id, job, summary, deployment, may, mine, reload: found.reload, isParent };
  const Tab = { "": Overview, allocations: Allocations, deployments: Deployments, versions: Versions, evaluations: Evaluations, definition: Definition, children: Children, checks: Checks }[tab] || Overview;
  return html`<${Page} title=${job.Name || id} crumbs=${crumbs} lead=${LEADS[tab] || LEADS[""]} actions=${html`<${Actions} ...${shown} />`}>
    <${Stale} found=${found} />
    <${Tabs} tabs=${tabs} current=${tab} label="Parts of this job" />
    <${Tab} ...${shown} />
  <//>`;
}

const LEADS = {
  "": "How this job is doing: its groups, what is not placed and why, how it is spread, and what it uses.",
  allocations: "Every allocation of this job, the newest first.",
  deployments: "How this job's roll-outs went, and the one under way.",
  checks: "What Consul's health checks say of each instance, with their output.",
  versions: "What changed from version to version; any of them can be submitted again.",
  evaluations: "What drover decided about this job, and when.",
  definition: "The job as it was submitted, and as drover keeps it.",
  children: "What this job has started, and how it went.",
};

function Actions({ namespace, id, job, may, reload, isParent }) {
  if (!may.WriteJob) return html`<a class="button" href=${links.job(namespace, id, "definition")}>Definition</a>`;
  const done = (answer) => { if (answer) reload(); };
  const name = `Job ${id}`;
  const stop = () => act(`Stop ${id}`, (fields) => del(path(namespace, id, "", fields.purge ? "&purge=true" : "")), {
    title: `Stop ${id}?`, verb: "Stop the job", danger: true, text: `All of its allocations end${isParent ? ", and it starts nothing more" : ""}. It can be started again as long as it is not forgotten.`,
    fields: [{ name: "purge", type: "checkbox", text: "Forget it altogether (purge)" }],
  }).then(done);
  const start = () => act(`Start ${id}`, () => put(`/v1/jobs?namespace=${q(namespace)}`, { Job: { ...job, Stop: false } }), { title: `Start ${id}?`, verb: "Start the job", text: `Version ${job.Version} is submitted again.` }).then(done);
  const restart = () => act(`Restart ${id}`, () => put(path(namespace, id, "restart")), { title: `Restart all of ${id}?`, verb: "Restart in the rolling manner", text: "Its allocations are replaced a few at a time, as its update block says.", danger: true }).then(done);
  const force = () => act(`Run ${id} now`, () => put(path(namespace, id, "periodic/force")), { title: `Run ${id} now?`, verb: "Run now", text: "A child is started now, besides those that its schedule starts." }).then(done);
  const dispatch = () => {
    const { MetaRequired = [], MetaOptional = [], Payload } = job.ParameterizedJob;
    const meta = [...(MetaRequired || []).map((key) => [key, true]), ...(MetaOptional || []).map((key) => [key, false])];
    return act(`Dispatch ${id}`, async (fields) => {
      const given = Object.fromEntries(meta.map(([key]) => [key, fields[`meta.${key}`]]).filter(([, value]) => value));
      const bytes = new TextEncoder().encode(fields.payload || "");
      const answer = await put(path(namespace, id, "dispatch"), { Meta: given, Payload: btoa(String.fromCharCode(...bytes)) });
      go(links.job(namespace, answer.DispatchedJobID));
      return answer;
    }, {
      title: `Dispatch ${id}`, verb: "Start an instance", text: "Starts one instance of this job with what you give it.",
      fields: [...meta.map(([key, required]) => ({ name: `meta.${key}`, text: required ? `${key} (required)` : key, required })), ...(Payload === "forbidden" ? [] : [{ name: "payload", text: `Payload${Payload === "required" ? " (required)" : ""}`, type: "textarea" }])],
    });
  };
  const evaluate = () => act(`Evaluate ${id}`, () => put(path(namespace, id, "evaluate"), { EvalOptions: { ForceReschedule: true } }), { title: `Decide about ${id} again?`, verb: "Evaluate", text: "What failed is placed anew now, whatever its reschedule policy waits for." }).then(done);
  return html`
    <a class="button" href=${`/ui/run?namespace=${q(namespace)}&job=${q(id)}`}>Edit</a>
    ${job.Periodic && !job.Stop && html`<${Action} text="Run now" onClick=${force} />`}
    ${job.ParameterizedJob && !job.Dispatched && !job.Stop && html`<${Action} text="Dispatch" primary onClick=${dispatch} />`}
    ${!job.Stop && !isParent && html`<${Action} text="Restart" title=${`${name}: replaces all allocations, a few at a time`} onClick=${restart} /><${Action} text="Evaluate" onClick=${evaluate} />`}
    ${job.Stop ? html`<${Action} text="Start" primary onClick=${start} />` : html`<${Action} text="Stop" danger onClick=${stop} />`}`;
}

function Overview({ namespace, id, job, summary, deployment, may, mine, reload, isParent }) {
  const facts = [
    ["Status", html`<${Badge} status=${job.Stop ? `stopped, ${job.Status}` : job.Status} as=${job.Stop ? "none" : level(job.Status)} /> ${job.StatusDescription}`],
    ["Type", job.Type], ["Namespace", namespace], ["Version", `${job.Version}${job.Stable ? ", stable" : ""}`], ["Priority", job.Priority],
    ["Datacenters", (job.Datacenters || []).join(", ")], ["Submitted", html`<${Ago} time=${job.SubmitTime} />`],
    ["Schedule", job.Periodic && `${(job.Periodic.Specs?.length ? job.Periodic.Specs : [job.Periodic.Spec]).join("; ")} (${job.Periodic.TimeZone || "UTC"})`],
    ...Object.entries(job.Meta || {}).map(([name, value]) => [`meta ${name}`, value]),
  ];
  if (isParent) return html`<${Panel} title="This job"><${Facts} facts=${facts} /><//><${Children} ...${{ namespace, id, mine }} />`;
  return html`
    <div class="columns"><div>
      <${Groups} ...${{ namespace, id, job, summary, may, reload }} />
      <${Why} ...${{ namespace, id, mine }} />
    </div><div>
      <${Panel} title="This job"><${Facts} facts=${facts} /><//>
      ${deployment && ["running", "paused"].includes(deployment.Status) && html`<${Panel} title="Deployment under way"><${Deployment} ...${{ deployment, may, reload }} /><//>`}
      <${Spread} ...${{ namespace, id, mine }} />
    </div></div>
    <${Panel} title="Allocations"><${AllocList} ...${{ namespace, id, mine }} perPage=${20} /><//>
    <${JobUse} ...${{ namespace, id, mine }} />`;
}

function Groups({ namespace, id, job, summary, may, reload }) {
  const scale = (group) => act(`Scale ${group.Name}`, (fields) => put(path(namespace, id, "scale"), { Count: Number(fields.count), Target: { Group: group.Name }, Message: "from the web UI" }), {
    title: `Scale group ${group.Name}`, verb: "Scale", text: `${id} has ${group.Count} of it now. With less, some are stopped.`,
    fields: [{ name: "count", text: "How many", type: "number", value: group.Count, min: 0, required: true }],
  }).then((answer) => answer && reload());
  return html`<${Panel} title="Groups">
    <${Table} of="groups" keyOf=${(group) => group.Name} rows=${job.TaskGroups} columns=${[
      { text: "Group", show: (group) => html`<strong>${group.Name}</strong><div class="dim">${group.Tasks.map((task) => `${task.Name} (${task.Driver})`).join(", ")}</div>` },
      { text: "Allocations", show: (group) => html`<${HealthBar} counts=${summary.Summary[group.Name] || {}} />` },
      { text: "Wanted", show: (group) => (job.Type === "system" || job.Type === "sysbatch" ? "each node" : group.Count) },
      { text: "Each gets", hide: "wide", show: (group) => html`${sum(group, "CPU")} MHz, ${sum(group, "MemoryMB")} MiB` },
      ...(may.WriteJob && !job.Stop && !job.Type.startsWith("sys") ? [{ text: "Do", show: (group) => html`<${Action} text="Scale" onClick=${() => scale(group)} />` }] : []),
    ]} /><//>`;
}

const sum = (group, name) => group.Tasks.reduce((n, task) => n + (task.Resources?.[name] || 0), 0);

function Why({ namespace, id, mine }) {
  const found = useLive((signal) => get(path(namespace, id, "why"), { signal }), [namespace, id], mine);
  const why = found.data;
  if (!why) return null;
  const groups = why.Groups.filter((group) => group.Missing || group.Withheld || group.Failed || group.Preempted?.length);
  if (!groups.length && !why.Waits) return null;
  return html`<${Panel} title="Why not all of it runs">
    ${why.Waits && html`<p><${Badge} status="waits" as="warn" /> ${why.Waits}</p>`}
    ${groups.map((group) => html`<div class="why"><h3>${group.Name}</h3>
      <p>${[group.Missing && `${group.Missing} of ${group.Wanted} find no place`, group.Withheld && `${group.Withheld} wait for the others (all_at_once)`, group.Failed && `${group.Failed} failed and are not tried again yet`].filter(Boolean).join(", ")}.</p>
      ${group.Missing > 0 && html`<p class="dim">Each asks for ${Object.entries(group.Asks).filter(([, n]) => n).map(([name, n]) => `${name} ${n}`).join(", ")}; ${count(group.NodesAsked, "node")} looked at.</p>`}
      ${group.Filters?.length > 0 && html`<${Table} of="reasons" keyOf=${(one) => JSON.stringify(one)} rows=${group.Filters} columns=${FILTERS} />`}
      ${group.Remedies?.length > 0 && html`<p><strong>What would make it fit:</strong></p><ul>${group.Remedies.map((text) => html`<li>${text}</li>`)}</ul>`}
      ${(group.Preempted || []).map((one) => html`<p>Allocation <a href=${links.alloc(one.AllocID)}><code>${short(one.AllocID)}</code></a> was pushed away${one.ByJob && html` by job <a href=${links.job(namespace, one.ByJob)}>${one.ByJob}</a>`}.</p>`)}
    </div>`)}
    ${why.RetryAt && html`<p>The next try is <${Ago} time=${why.RetryAt} until />.</p>`}
  <//>`;
}

const FILTERS = [
  { text: "Nodes ruled out", show: (one) => one.Nodes },
  { text: "By", show: (one) => one.Filter },
  { text: "Because", show: (one) => one.Reason },
];

function Spread({ namespace, id, mine }) {
  const found = useLive((signal) => get(path(namespace, id, "spread"), { signal }), [namespace, id], mine);
  if (!found.data) return null;
  const blocks = found.data.filter((block) => block.Values.length && (block.IsAsked || block.Values.length > 1 || found.data.length === 1));
  if (!blocks.length) return null;
  return html`<${Panel} title="Spread">${blocks.map((block) => {
    const most = Math.max(1, ...block.Values.map((one) => Math.max(one.Actual, one.Target || 0)));
    return html`<figure class="spread"><figcaption>${block.Group} over <code>${block.Attribute}</code>${!block.IsAsked && html`<span class="dim"> (no spread block asks for it)</span>`}</figcaption>
      ${block.Values.map((one) => html`<div class="spread-row"><span class="spread-name">${one.Value}</span>
        <span class="bar" role="img" aria-label=${`${one.Value}: ${one.Actual} allocations${one.Target === null ? "" : `, ${one.Target} wanted`}`}><span class="part good" style=${{ width: `${(100 * one.Actual) / most}%` }}></span>${one.Target !== null && html`<span class="target" style=${{ left: `${(100 * one.Target) / most}%` }}></span>`}</span>
        <span class="spread-text">${one.Actual}${one.Target !== null ? ` of ${one.Target}` : ""}</span></div>`)}</figure>`;
  })}<//>`;
}

export function AllocList({ namespace, id, mine, perPage = 50 }) {
  return html`<${Listing} path="/v1/ui/allocations" what="allocations" fixed=${{ namespace, job: id }} columns=${allocColumns({ isOfJob: true })} sort="newest" concerns=${mine} perPage=${perPage}
    filters=${[{ name: "status", text: "Status", options: STATUSES }]} empty="Nothing of this job was placed yet." />`;
}

function Allocations(shown) {
  return html`<${AllocList} ...${shown} />`;
}

function Deployments({ namespace, id, mine, may }) {
  const found = useLive((signal) => get(path(namespace, id, "deployments"), { signal }), [namespace, id], mine);
  if (!found.data) return html`<${Loading} found=${found} what="deployments" />`;
  if (!found.data.length) return html`<${Empty}>This job has no deployments.<//>`;
  return html`${found.data.map((deployment) => html`<section class="panel" key=${deployment.ID}><header><h2>Version ${deployment.JobVersion}</h2><div class="aside"><${Ago} time=${deployment.CreateTime} /> <code>${short(deployment.ID)}</code></div></header><${Deployment} ...${{ deployment, may, reload: found.reload }} /></section>`)}`;
}

export function Deployment({ deployment, may, reload }) {
  const isActive = ["running", "paused"].includes(deployment.Status);
  const groups = Object.entries(deployment.TaskGroups || {});
  const waits = groups.some(([, group]) => group.DesiredCanaries > 0 && !group.Promoted);
  const name = `Deployment ${short(deployment.ID)}`;
  const done = (answer) => answer && reload();
  const promote = () => act(`Promote ${short(deployment.ID)}`, () => put(`/v1/deployment/promote/${deployment.ID}`, { All: true }), { title: "Promote the canaries?", verb: "Promote", text: `${name}: the canaries take over, and the older version is replaced.` }).then(done);
  const fail = () => act(`Fail ${short(deployment.ID)}`, () => put(`/v1/deployment/fail/${deployment.ID}`), { title: "Call this deployment failed?", verb: "Fail it", danger: true, text: `${name} ends. With auto_revert the last stable version is brought back.` }).then(done);
  const pause = () => act(deployment.Status === "paused" ? "Resume" : "Pause", () => put(`/v1/deployment/pause/${deployment.ID}`, { Pause: deployment.Status !== "paused" })).then(done);
  return html`<p><${Badge} status=${deployment.Status} /> ${deployment.StatusDescription}</p>
    <${Table} of="groups of the deployment" keyOf=${([group]) => group} rows=${groups} columns=${[
      { text: "Group", show: ([group]) => group },
      { text: "Healthy", show: ([, group]) => html`<progress max=${group.DesiredTotal || 1} value=${group.HealthyAllocs} aria-label="healthy"></progress> ${group.HealthyAllocs} of ${group.DesiredTotal}` },
      { text: "Placed", show: ([, group]) => group.PlacedAllocs },
      { text: "Unhealthy", show: ([, group]) => group.UnhealthyAllocs },
      { text: "Canaries", show: ([, group]) => (group.DesiredCanaries ? `${(group.PlacedCanaries || []).length} of ${group.DesiredCanaries}${group.Promoted ? ", promoted" : ""}` : "–") },
      { text: "Progress by", show: ([, group]) => (isActive && ms(group.RequireProgressBy) > 0 ? html`<${Ago} time=${group.RequireProgressBy} until />` : "–") },
    ]} />
    ${isActive && may.WriteJob && html`<div class="actions">${waits && html`<${Action} text="Promote" primary onClick=${promote} />`}<${Action} text=${deployment.Status === "paused" ? "Resume" : "Pause"} onClick=${pause} /><${Action} text="Fail" danger onClick=${fail} /></div>`}`;
}

function Versions({ namespace, id, job, may, mine, reload }) {
  const found = useLive((signal) => get(path(namespace, id, "versions", "&diffs=true"), { signal }), [namespace, id], (event) => mine(event) && event.Topic === "Job");
  if (!found.data) return html`<${Loading} found=${found} what="versions" />`;
  const { Versions: versions, Diffs: diffs } = found.data;
  const revert = (version) => act(`Revert ${id}`, () => put(path(namespace, id, "revert"), { JobVersion: version }), { title: `Revert to version ${version}?`, verb: "Revert", danger: true, text: `Version ${version} is submitted again, as the newest one.` }).then((answer) => { if (answer) { reload(); found.reload(); } });
  return html`${versions.map((one, n) => html`<section class="panel" key=${one.Version}><header><h2>Version ${one.Version}</h2><div class="aside">${one.Stable && html`<${Badge} status="stable" as="good" /> `}<${Ago} time=${one.SubmitTime} />
      ${one.Version !== job.Version && may.WriteJob && html` <${Action} text="Revert to it" onClick=${() => revert(one.Version)} />`}${one.Version === job.Version && html` <span class="tag">current</span>`}</div></header>
    ${diffs?.[n] ? (isSame(diffs[n]) ? html`<${Empty}>Nothing differs from the one before.<//>` : html`<${Diff} diff=${diffs[n]} />`) : html`<${Empty}>The oldest that is kept.<//>`}</section>`)}`;
}

function Evaluations({ namespace, id, mine }) {
  const found = useLive((signal) => get(path(namespace, id, "evaluations"), { signal }), [namespace, id], mine);
  if (!found.data) return html`<${Loading} found=${found} what="evaluations" />`;
  if (!found.data.length) return html`<${Empty}>There are no evaluations left of this job.<//>`;
  return html`<${Table} of="evaluations" rows=${found.data.slice(0, 100)} columns=${[
    { text: "Evaluation", show: (one) => html`<code>${short(one.ID)}</code>` },
    { text: "Why", show: (one) => one.TriggeredBy },
    { text: "Status", show: (one) => html`<${Badge} status=${one.Status} /> ${one.StatusDescription}` },
    { text: "When", show: (one) => html`<${Ago} time=${one.CreateTime} />` },
    { text: "Not placed", show: (one) => (one.FailedTGAllocs ? html`<${NotPlaced} failed=${one.FailedTGAllocs} />` : "–") },
  ]} />`;
}

function Checks({ namespace, id, mine }) {
  const found = useLive((signal) => get(path(namespace, id, "checks"), { signal }), [namespace, id], mine);
  if (!found.data) return html`<${Loading} found=${found} what="checks" />`;
  return html`<${Stale} found=${found} /><${Instances} instances=${found.data} />`;
}

export function Instances({ instances, hasAlloc = true }) {
  if (!instances.length) return html`<${Empty}>Nothing of it is registered in Consul.<//>`;
  return html`<${Table} of="instances" keyOf=${(one) => one.AllocID + one.Service + one.Port} rows=${instances} columns=${[
    { text: "Service", show: (one) => html`<strong>${one.Service}</strong><div class="dim">${one.Address}:${one.Port} <${Copy} text=${`${one.Address}:${one.Port}`} /></div>` },
    ...(hasAlloc ? [{ text: "Allocation", show: (one) => html`<a href=${links.alloc(one.AllocID)}><code>${short(one.AllocID)}</code></a> <span class="dim">on ${one.Node}</span>` }] : []),
    { text: "Status", show: (one) => html`<${Badge} status=${one.Status} />` },
    { text: "Checks", show: (one) => (one.Checks.length ? html`<ul class="checks">${one.Checks.map((check) => html`<li><${Badge} status=${check.Status} /> ${check.Name}<pre class="output" tabindex="0">${check.Output || "(no output yet)"}</pre></li>`)}</ul>` : "none") },
  ]} />`;
}

function Definition({ namespace, id, job }) {
  const found = useLive(async (signal) => (await get(path(namespace, id, "submission", `&optional=true&version=${job.Version}`), { signal })) || { Source: "" }, [namespace, id, job.Version], of.never);
  const json = JSON.stringify(job, null, 2);
  return html`
    <${Panel} title="As submitted" aside=${html`${found.data?.Source && html`<${Copy} text=${found.data.Source} />`} <a class="button small" href=${`/ui/run?namespace=${q(namespace)}&job=${q(id)}`}>Edit and plan</a>`}>
      ${!found.data ? html`<${Loading} found=${found} what="the submission" />` : found.data.Source ? html`<pre class="code" tabindex="0">${found.data.Source}</pre>
        ${Object.keys(found.data.VariableFlags || {}).length > 0 && html`<h3>Variables</h3><${Facts} facts=${Object.entries(found.data.VariableFlags)} />`}` : html`<${Empty}>It was submitted as JSON alone: see below.<//>`}<//>
    <${Panel} title="As drover keeps it" aside=${html`<button class="small" onClick=${() => save(`${id}.json`, json)}>Download</button>`}><pre class="code" tabindex="0">${json}</pre><//>`;
}

export function save(name, text, type = "text/plain") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(text instanceof Blob ? text : new Blob([text], { type }));
  link.download = name.replaceAll("/", "_");
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function Children({ namespace, id }) {
  const family = (event) => event.Namespace === namespace && [event.Key, ...event.FilterKeys].some((key) => key === id || key.startsWith(`${id}/`));
  const found = useLive((signal) => get(path(namespace, id, "launches"), { signal }), [namespace, id], family);
  const seen = found.data;
  return html`
    ${seen && html`<${Panel} title="Its runs"><${Facts} facts=${[
      ["Next", seen.NextLaunch ? html`<${Ago} time=${seen.NextLaunch} until />` : "not scheduled"], ["Last success", html`<${Ago} time=${seen.LastSuccess} />`], ["It took", seen.LastDuration ? span(seen.LastDuration / 1e9) : ""],
      ["Missed", seen.Missed || ""], ["Watch", seen.Status && html`<${Badge} status=${seen.Status} /> ${seen.Output}`],
    ]} />
    ${seen.Children.length > 0 && html`<${Table} of="runs" rows=${seen.Children.slice(0, 50)} columns=${[
      { text: "Run", show: (run) => (run.Removed ? html`<span class="dim">${run.ID}</span>` : html`<a href=${links.job(namespace, run.ID)}>${run.ID}</a>`) },
      { text: "Outcome", show: (run) => html`<${Badge} status=${run.Outcome} /> ${run.Reason}` },
      { text: "Started", show: (run) => html`<${Ago} time=${run.Started} />` },
      { text: "Took", show: (run) => (run.Ended && run.Started ? span((run.Ended - run.Started) / 1e9) : "–") },
    ]} />`}<//>`}
    <${Panel} title="Children"><${Listing} path="/v1/ui/jobs" what="children" fixed=${{ namespace, parent: id }} columns=${JOB_COLUMNS} sort="submitted" concerns=${family} keyOf=${(one) => one.ID} empty="It has not started anything yet." /><//>`;
}
