// One machine.

import { get, put, q, session } from "../api.js";
import { act, Action, Ago, Badge, Copy, Empty, Facts, html, level, links, Listing, Loading, Meter, of, ofMib, Page, Panel, short, Stale, Table, Tabs, useLive, useMay } from "../parts.js";
import { allocColumns, STATUSES } from "./allocations.js";
import { NodeUse } from "./use.js";

const LEADS = {
  "": "One machine: what it offers, what runs on it, and what happened to it.",
  allocations: "Everything that runs, or ran, on this machine.",
  attributes: "What its agent found on it, and its metadata: what constraints can ask for.",
};

export default function Node({ parts: [id, tab = ""] }) {
  const found = useLive(async (signal) => {
    const [node, rows] = await Promise.all([get(`/v1/node/${q(id)}`, { signal }), get(`/v1/ui/nodes?per_page=1&q=${q(id)}`, { signal })]);
    return { node, row: rows[0] };
  }, [id, session.token], of.node(id));
  const may = useMay({ node: id });
  const crumbs = [["Nodes", "/ui/nodes"]];
  if (!found.data) return html`<${Page} title=${`Node ${short(id)}`} lead=${LEADS[""]} crumbs=${crumbs}><${Loading} found=${found} what="this node" /><//>`;
  const { node, row } = found.data;
  const tabs = [["", "Overview"], ["allocations", "Allocations"], ["attributes", "Attributes"]].map(([name, text]) => [name, text, links.node(id, name)]);
  return html`<${Page} title=${node.Name} crumbs=${crumbs} lead=${LEADS[tab] || LEADS[""]} actions=${may.WriteNode && html`<${Actions} ...${{ node, reload: found.reload }} />`}>
    <${Stale} found=${found} />
    <${Tabs} tabs=${tabs} current=${tab} label="Parts of this node" />
    ${tab === "attributes" ? html`<${Attributes} node=${node} />` : tab === "allocations" ? html`<${Allocs} id=${id} />` : html`<${Overview} ...${{ node, row }} />`}
  <//>`;
}

function Actions({ node, reload }) {
  const done = (answer) => { if (answer) reload(); };
  const drain = () => act(`Drain ${node.Name}`, (fields) => put(`/v1/node/${node.ID}/drain`, { DrainSpec: { Deadline: fields.deadline === "" ? 0 : Number(fields.deadline) <= 0 ? -1 : Number(fields.deadline) * 60e9, IgnoreSystemJobs: fields.ignore } }), {
    title: `Drain ${node.Name}?`, verb: "Drain", danger: true, text: "Nothing new is placed here, and what runs here is placed elsewhere, as the jobs' migrate blocks say. What is left at the deadline is stopped.",
    fields: [{ name: "deadline", text: "Deadline in minutes (0: at once, empty: none)", type: "number", value: 60, min: 0 }, { name: "ignore", type: "checkbox", text: "Leave system jobs alone" }],
  }).then(done);
  const undrain = () => act(`End the drain of ${node.Name}`, (fields) => put(`/v1/node/${node.ID}/drain`, { DrainSpec: null, MarkEligible: fields.eligible }), {
    title: `End the drain of ${node.Name}?`, verb: "End the drain", text: "What has left does not come back by itself.", fields: [{ name: "eligible", type: "checkbox", text: "Give it new work again", value: true }],
  }).then(done);
  const wanted = node.SchedulingEligibility === "eligible" ? "ineligible" : "eligible";
  const eligibility = () => act(`${node.Name} is ${wanted}`, () => put(`/v1/node/${node.ID}/eligibility`, { Eligibility: wanted }), {
    title: `Make ${node.Name} ${wanted}?`, verb: `Make ${wanted}`, danger: wanted === "ineligible", text: wanted === "ineligible" ? "Nothing new is placed here; what runs here runs on." : "New work may be placed here again.",
  }).then(done);
  const purge = () => act(`Forget ${node.Name}`, () => put(`/v1/node/${node.ID}/purge`), { title: `Forget ${node.Name}?`, verb: "Forget it", danger: true, text: "For a machine that is gone for good. One that lives registers itself again." }).then(done);
  return html`${!node.Drain && html`<${Action} text=${wanted === "eligible" ? "Make eligible" : "Make ineligible"} onClick=${eligibility} />`}
    ${node.Drain ? html`<${Action} text="End the drain" primary onClick=${undrain} />` : html`<${Action} text="Drain" danger onClick=${drain} />`}
    ${node.Status === "down" && html`<${Action} text="Forget" danger onClick=${purge} />`}`;
}

function Overview({ node, row }) {
  const drain = node.DrainStrategy;
  const flaps = row?.Flaps || [];
  return html`<div class="columns"><div>
      ${drain && html`<${Panel} title="Drain">
        <p>${row ? html`<strong>${row.Live}</strong> allocations are still here.` : ""} Since <${Ago} time=${drain.StartedAt} />${drain.Deadline === -1 ? ", at once" : drain.Deadline === 0 ? ", without a deadline" : html`, deadline <${Ago} time=${drain.ForceDeadline} until />`}.</p>
        <progress max="1" value=${row?.Live ? 0.5 : 1} aria-label="drain"></progress><//>`}
      <${Panel} title="Live allocations" aside=${html`<a href=${links.node(node.ID, "allocations")}>all</a>`}><${Listing} path="/v1/ui/allocations" what="allocations" prefix="live-" search=${false} fixed=${{ namespace: "*", node: node.ID, status: "live" }} columns=${allocColumns({ isOfNode: true })} sort="newest" concerns=${of.node(node.ID)} perPage=${25} empty="Nothing runs here." /><//>
      <${Panel} title="What happened">${(node.Events || []).length ? html`<ol class="timeline">${[...node.Events].reverse().map((event) => html`<li><span class="when"><${Ago} time=${event.Timestamp} /></span> <strong>${event.Subsystem}</strong> <span class="said">${event.Message}</span></li>`)}</ol>` : html`<${Empty}>Nothing is remembered.<//>`}<//>
    </div><div>
      <${Panel} title="This node"><${Facts} facts=${[
        ["Id", html`<code>${node.ID}</code> <${Copy} text=${node.ID} />`],
        ["State", html`<${Badge} status=${row?.State || node.Status} as=${level(row?.State || node.Status)} /> ${node.StatusDescription}`],
        ["New work", node.SchedulingEligibility],
        ["Datacenter", `${node.Datacenter}${node.VirtualDatacenter ? ` / ${node.VirtualDatacenter}` : ""}`], ["Class", node.NodeClass], ["Address", node.HTTPAddr], ["drover", node.Version],
        ["Drivers", Object.entries(node.Drivers || {}).filter(([, one]) => one.Detected).map(([name, one]) => html`<${Badge} status=${one.Healthy ? name : `${name}: ${one.HealthDescription}`} as=${one.Healthy ? "good" : "bad"} /> `)],
        ["Last drain", node.LastDrain && html`${node.LastDrain.Status}, <${Ago} time=${node.LastDrain.UpdatedAt} />`],
        ["Came back", flaps.length > 0 ? html`${flaps.length} times lately: ${flaps.map((at) => html`<${Ago} time=${at * 1e9} /> `)}` : "not lost lately"],
        ["No new work until", row?.PenalizedUntil > 0 && html`<${Ago} time=${row.PenalizedUntil * 1e9} until />`],
        ["Host volumes", Object.keys(node.HostVolumes || {}).join(", ")],
      ]} /><//>
      ${row && html`<${Panel} title="Given to allocations"><dl class="facts">
        <div><dt>CPU</dt><dd><${Meter} used=${row.CPU[0]} total=${row.CPU[1]} text=${`${row.CPU[0]} of ${row.CPU[1]} MHz`} /></dd></div>
        <div><dt>Memory</dt><dd><${Meter} used=${row.Memory[0]} total=${row.Memory[1]} text=${`${ofMib(row.Memory[0])} of ${ofMib(row.Memory[1])}`} /></dd></div>
        <div><dt>Disk</dt><dd><${Meter} used=${row.Disk[0]} total=${row.Disk[1]} text=${`${ofMib(row.Disk[0])} of ${ofMib(row.Disk[1])}`} /></dd></div></dl><//>`}
    </div></div>
    <${NodeUse} id=${node.ID} />`;
}

function Allocs({ id }) {
  return html`<${Listing} path="/v1/ui/allocations" what="allocations" fixed=${{ namespace: "*", node: id }} columns=${allocColumns({ isOfNode: true })} sort="newest" concerns=${of.node(id)} filters=${[{ name: "status", text: "Status", options: STATUSES }]} empty="Nothing ran here." />`;
}

function Attributes({ node }) {
  const rows = (known) => Object.entries(known || {}).sort(([a], [b]) => a.localeCompare(b));
  const columns = [{ text: "Name", show: ([name]) => html`<code>${name}</code>` }, { text: "Value", show: ([, value]) => String(value) }];
  return html`
    <${Panel} title="Metadata">${rows(node.Meta).length ? html`<${Table} of="metadata" keyOf=${([name]) => name} rows=${rows(node.Meta)} columns=${columns} />` : html`<${Empty}>It has none.<//>`}<//>
    <${Panel} title="Attributes"><${Table} of="attributes" keyOf=${([name]) => name} rows=${rows(node.Attributes)} columns=${columns} /><//>`;
}
