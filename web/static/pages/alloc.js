// One allocation: what became of its tasks, what they say, their files, and a terminal beside them.

import { get, put, q, query, session } from "../api.js";
import { act, Action, Ago, Badge, Copy, Empty, Facts, html, level, links, Loading, of, ofMib, Page, Panel, short, Stale, Tabs, useEffect, useLive, useMay, useState } from "../parts.js";
import { Instances } from "./job.js";
import { AllocUse } from "./use.js";

const LEADS = {
  "": "What runs of this allocation, what happened to its tasks and why, and what they use.",
  logs: "What its tasks write, as they write it.",
  files: "The files in this allocation's directory.",
  exec: "A command beside one of its tasks, on its node.",
};
const SIGNALS = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGKILL"];
const LAZY = { logs: () => import("./logs.js"), files: () => import("./files.js"), exec: () => import("./terminal.js") };

export default function Alloc({ parts: [id, tab = ""] }) {
  const found = useLive((signal) => get(`/v1/allocation/${q(id)}`, { signal }), [id, session.token], of.alloc(id));
  const alloc = found.data;
  const may = useMay({ namespace: alloc?.Namespace, job: alloc?.JobID });
  if (!alloc) return html`<${Page} title=${`Allocation ${short(id)}`} lead=${LEADS[""]} crumbs=${[["Allocations", "/ui/allocations"]]}><${Loading} found=${found} what="this allocation" /><//>`;
  const crumbs = [["Jobs", "/ui/jobs"], [alloc.JobID, links.job(alloc.Namespace, alloc.JobID)]];
  const tabs = [["", "Overview"], ["logs", "Logs"], ["files", "Files"], ...(may.Exec && alloc.ClientStatus === "running" ? [["exec", "Terminal"]] : [])].map(([name, text]) => [name, text, links.alloc(id, name)]);
  return html`<${Page} title=${alloc.Name} crumbs=${crumbs} lead=${LEADS[tab] || LEADS[""]} actions=${html`<${Actions} ...${{ alloc, may, reload: found.reload }} />`}>
    <${Stale} found=${found} />
    <${Tabs} tabs=${tabs} current=${tab} label="Parts of this allocation" />
    ${LAZY[tab] ? html`<${Lazy} load=${LAZY[tab]} key=${tab} alloc=${alloc} tasks=${tasksOf(alloc)} may=${may} />` : html`<${Overview} ...${{ alloc, may, reload: found.reload }} />`}
  <//>`;
}

export function tasksOf(alloc) {
  const known = Object.keys(alloc.TaskStates || {});
  return known.length ? known : Object.keys(alloc.AllocatedResources?.Tasks || {});
}

function Lazy({ load, ...shown }) {
  const [Part, setPart] = useState(null);
  useEffect(() => { load().then((module) => setPart(() => module.default)); }, []);
  return Part ? html`<${Part} ...${shown} />` : html`<p class="loading">Loading …</p>`;
}

const isOver = (alloc) => ["complete", "failed", "lost"].includes(alloc.ClientStatus);

function Actions({ alloc, may, reload }) {
  if (!may.WriteJob || isOver(alloc)) return null;
  const name = short(alloc.ID);
  const done = (answer) => { if (answer) reload(); };
  const restart = () => act(`Restart ${name}`, () => put(`/v1/client/allocation/${alloc.ID}/restart`), { title: `Restart the tasks of ${alloc.Name}?`, verb: "Restart", danger: true, text: "Its running tasks end and start again, on the same node. It does not count under the restart policy." }).then(done);
  const stop = () => act(`Stop ${name}`, () => put(`/v1/allocation/${alloc.ID}/stop`), { title: `Stop ${alloc.Name}?`, verb: "Stop the allocation", danger: true, text: "It ends, and its job gets another one in its place." }).then(done);
  const signal = () => act(`Signal ${name}`, (fields) => put(`/v1/client/allocation/${alloc.ID}/signal`, { Task: fields.task, Signal: fields.signal }), {
    title: `Send a signal to ${alloc.Name}`, verb: "Send", danger: true, text: "The main process of the task gets it; many end by it.",
    fields: [{ name: "task", text: "Task", options: tasksOf(alloc).map((task) => [task, task]) }, { name: "signal", text: "Signal", value: "SIGHUP", options: SIGNALS.map((one) => [one, one]) }],
  });
  return html`<${Action} text="Restart" onClick=${restart} /><${Action} text="Signal" onClick=${signal} /><${Action} text="Stop" danger onClick=${stop} />`;
}

function Overview({ alloc, may, reload }) {
  const networks = (alloc.AllocatedResources?.Shared?.Ports || []);
  return html`
    <div class="columns"><div>
      ${Object.entries(alloc.TaskStates || {}).map(([name, state]) => html`<${Task} key=${name} ...${{ alloc, name, state, may, reload }} />`)}
      ${!Object.keys(alloc.TaskStates || {}).length && html`<${Empty}>Its node has not said anything of it yet.<//>`}
    </div><div>
      <${Panel} title="This allocation"><${Facts} facts=${[
        ["Id", html`<code>${alloc.ID}</code> <${Copy} text=${alloc.ID} />`],
        ["Status", html`<${Badge} status=${alloc.ClientStatus} as=${alloc.ClientStatus === "complete" ? "none" : level(alloc.ClientStatus)} /> ${alloc.ClientDescription}`],
        ["Wanted", `${alloc.DesiredStatus}${alloc.DesiredDescription ? `: ${alloc.DesiredDescription}` : ""}`],
        ["Node", html`<a href=${links.node(alloc.NodeID)}>${alloc.NodeName || short(alloc.NodeID)}</a>`],
        ["Job", html`<a href=${links.job(alloc.Namespace, alloc.JobID)}>${alloc.JobID}</a>, version ${alloc.JobVersion}, group ${alloc.TaskGroup}`],
        ["Health", alloc.DeploymentStatus && alloc.DeploymentStatus.Healthy !== null && html`<${Badge} status=${alloc.DeploymentStatus.Healthy ? "healthy" : "unhealthy"} />`],
        ["Placed", html`<${Ago} time=${alloc.CreateTime} />`], ["Changed", html`<${Ago} time=${alloc.ModifyTime} />`],
        ["In place of", alloc.PreviousAllocation && html`<a href=${links.alloc(alloc.PreviousAllocation)}><code>${short(alloc.PreviousAllocation)}</code></a>`],
        ["Followed by", alloc.NextAllocation && html`<a href=${links.alloc(alloc.NextAllocation)}><code>${short(alloc.NextAllocation)}</code></a>`],
        ["Ports", networks.length > 0 && networks.map((port) => html`<div>${port.Label}: <code>${port.HostIP}:${port.Value}</code> <${Copy} text=${`${port.HostIP}:${port.Value}`} /></div>`)],
        ["Disk", alloc.AllocatedResources && ofMib(alloc.AllocatedResources.Shared.DiskMB)],
      ]} /><//>
      <${Checks} alloc=${alloc} />
    </div></div>
    <${AllocUse} id=${alloc.ID} resources=${alloc.AllocatedResources} />`;
}

function Task({ alloc, name, state, may, reload }) {
  const given = alloc.AllocatedResources?.Tasks?.[name];
  const restart = () => act(`Restart ${name}`, () => put(`/v1/client/allocation/${alloc.ID}/restart`, { TaskName: name }), { title: `Restart task ${name}?`, verb: "Restart", danger: true, text: "It ends and starts again, on the same node." }).then((answer) => answer && reload());
  return html`<${Panel} title=${`Task ${name}`} aside=${html`<a class="button small" href=${query(links.alloc(alloc.ID, "logs"), { task: name })}>Logs</a> ${may.WriteJob && state.State === "running" && html`<button class="small" onClick=${restart}>Restart task</button>`}`}>
    <p><${Badge} status=${state.State === "dead" ? (state.Failed ? "failed" : "dead") : state.State} as=${state.State === "dead" && !state.Failed ? "none" : undefined} />
      ${state.Restarts > 0 && html` ${state.Restarts} restarts, the last <${Ago} time=${state.LastRestart} />`} ${state.StartedAt && html`<span class="dim">started <${Ago} time=${state.StartedAt} />${state.FinishedAt && html`, ended <${Ago} time=${state.FinishedAt} />`}</span>`}</p>
    ${given && html`<p class="dim">${given.Cpu.CpuShares} MHz, ${ofMib(given.Memory.MemoryMB)}${given.Memory.MemoryMaxMB ? `, at most ${ofMib(given.Memory.MemoryMaxMB)}` : ""}</p>`}
    <ol class="timeline" aria-label=${`What happened to ${name}`}>${[...(state.Events || [])].reverse().map((event) => html`<li class=${tone(event)}><span class="when"><${Ago} time=${event.Time} /></span> <strong>${event.Type}</strong> <span class="said">${event.DisplayMessage || event.Message}</span>${exit(event)}</li>`)}</ol><//>`;
}

function tone(event) {
  if (["Driver Failure", "Not Restarting", "Setup Failure", "Failed Artifact Download"].includes(event.Type)) return "bad";
  if (event.Type === "Terminated") return event.ExitCode || event.Signal ? "bad" : "plain";
  return { Started: "good", Restarting: "warn", "Restart Signaled": "warn", Killing: "warn" }[event.Type] || "plain";
}

function exit(event) {
  const details = event.Details || {};
  const said = event.Type === "Terminated" ? [`exit code ${details.exit_code ?? event.ExitCode ?? 0}`, details.signal && details.signal !== "0" && `signal ${details.signal}`, details.oom_killed === "true" && "out of memory"] : [];
  return said.filter(Boolean).length > 0 && html` <span class="tag">${said.filter(Boolean).join(", ")}</span>`;
}

function Checks({ alloc }) {
  const found = useLive((signal) => get(`/v1/job/${q(alloc.JobID)}/checks?namespace=${q(alloc.Namespace)}&alloc=${alloc.ID}`, { signal }), [alloc.ID, alloc.ClientStatus], of.alloc(alloc.ID));
  if (!found.data?.length) return null;
  return html`<${Panel} title="Services and checks"><${Instances} instances=${found.data} hasAlloc=${false} /><//>`;
}
