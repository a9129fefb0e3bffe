// All nodes.

import { Badge, html, level, links, Listing, Meter, of, ofMib, Page, useHere } from "../parts.js";

const STATES = [["", "any"], ["ready", "ready"], ["draining", "draining"], ["ineligible", "ineligible"], ["flapping", "flapping"], ["disconnected", "disconnected"], ["down", "down"], ["initializing", "initializing"]];

const COLUMNS = [
  { text: "Node", sort: "name", show: (node) => html`<a href=${links.node(node.ID)}>${node.Name}</a> <span class="dim">${node.Address}</span>` },
  { text: "State", sort: "state", show: (node) => html`<${Badge} status=${node.State} as=${level(node.State)} />` },
  { text: "Datacenter", sort: "datacenter", show: (node) => `${node.Datacenter}${node.VirtualDatacenter ? ` / ${node.VirtualDatacenter}` : ""}` },
  { text: "Class", hide: "wide", show: (node) => node.NodeClass || "–" },
  { text: "Allocations", sort: "live", show: (node) => node.Live },
  { text: "CPU", sort: "cpu", show: (node) => html`<${Meter} used=${node.CPU[0]} total=${node.CPU[1]} text=${`${node.CPU[0]} of ${node.CPU[1]} MHz`} />` },
  { text: "Memory", sort: "memory", show: (node) => html`<${Meter} used=${node.Memory[0]} total=${node.Memory[1]} text=${`${ofMib(node.Memory[0])} of ${ofMib(node.Memory[1])}`} />` },
];

export default function Nodes() {
  const { params } = useHere();
  const fixed = { datacenter: params.datacenter, virtual_datacenter: params.virtual_datacenter };
  const place = [params.datacenter, params.virtual_datacenter].filter(Boolean).join(" / ");
  return html`<${Page} title=${place ? `Nodes in ${place}` : "Nodes"} lead="Every machine that runs an agent, with what is given away of it; those that are not ready come first." crumbs=${place ? [["All nodes", "/ui/nodes"]] : []}>
    <${Listing} path="/v1/ui/nodes" what="nodes" columns=${COLUMNS} fixed=${fixed} sort="state" concerns=${of.nodes}
      filters=${[{ name: "state", text: "State", options: STATES }]} empty="No agent has registered a node yet." />
  <//>`;
}
