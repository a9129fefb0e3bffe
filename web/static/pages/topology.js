// Every machine at a glance, by physical and virtual datacenter.

import { get, session } from "../api.js";
import { Badge, count, Empty, html, level, links, Loading, Meter, of, ofMib, Page, Panel, setParams, Stale, useHere, useLive } from "../parts.js";

// Squares in one datacenter; more are told in numbers.
const NODES_MAX = 2000;

export default function Topology() {
  const { params } = useHere();
  const by = params.by === "memory" ? "memory" : "cpu";
  const found = useLive((signal) => get("/v1/ui/topology", { signal }), [session.token], of.nodes);
  return html`<${Page} title="Topology" lead="Every node by physical and virtual datacenter; the darker a square, the more of it is given to allocations.">
    <div class="filters"><label>Shade by <select value=${by} onChange=${(event) => setParams({ by: event.target.value === "memory" ? "memory" : "" })}><option value="cpu">CPU</option><option value="memory">memory</option></select></label></div>
    ${!found.data ? html`<${Loading} found=${found} what="the topology" />` : html`<${Stale} found=${found} />
      ${!found.data.length && html`<${Empty}>There are no nodes.<//>`}
      ${found.data.map((place) => html`<${Place} key=${`${place.Datacenter}/${place.VirtualDatacenter}`} place=${place} by=${by} />`)}`}
  <//>`;
}

function Place({ place, by }) {
  const name = `${place.Datacenter}${place.VirtualDatacenter ? ` / ${place.VirtualDatacenter}` : ""}`;
  const where = `/ui/nodes?datacenter=${encodeURIComponent(place.Datacenter)}&virtual_datacenter=${encodeURIComponent(place.VirtualDatacenter)}`;
  return html`<${Panel} title=${name} aside=${html`<a href=${where}>list</a>`}>
    <div class="place"><span class="badges">${Object.entries(place.States).sort().map(([state, n]) => html`<${Badge} status=${`${n} ${state}`} as=${level(state)} />`)}</span><span>${count(place.Live, "allocation")}</span>
      <span class="labelled">CPU <${Meter} used=${place.CPU[0]} total=${place.CPU[1]} text=${`${place.CPU[0]} of ${place.CPU[1]} MHz`} /></span>
      <span class="labelled">Memory <${Meter} used=${place.Memory[0]} total=${place.Memory[1]} text=${`${ofMib(place.Memory[0])} of ${ofMib(place.Memory[1])}`} /></span></div>
    <div class="squares">${place.Nodes.slice(0, NODES_MAX).map(([id, node, state, live, cpu, memory]) => {
      const share = by === "memory" ? memory : cpu;
      const text = `${node}: ${state}, ${count(live, "allocation")}, ${Math.round(share * 100)} % of its ${by === "memory" ? "memory" : "CPU"} given`;
      return html`<a class=${`square ${level(state)} s${Math.min(4, Math.floor(share * 5))}`} href=${links.node(id)} title=${text} aria-label=${text}>${place.Nodes.length <= 60 ? node : ""}</a>`;
    })}</div>
    ${place.Nodes.length > NODES_MAX && html`<p class="dim">And ${place.Nodes.length - NODES_MAX} more: see the list.</p>`}
  <//>`;
}
