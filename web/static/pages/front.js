// The front page: what fails, what moves, and whether the cluster itself is well.

import { get, put, session } from "../api.js";
import { act, Action, Ago, Badge, count, Empty, Facts, HealthBar, html, level, links, Loading, Page, Panel, span, Stale, useLive, useMay } from "../parts.js";

export default function Front() {
  const found = useLive((signal) => get("/v1/ui/overview", { signal }), [session.token]);
  const may = useMay();
  const seen = found.data;
  return html`<${Page} title="Overview" lead="What fails, what moves, and whether the cluster itself is well: jobs in trouble come first.">
    ${!seen ? html`<${Loading} found=${found} what="the overview" />` : html`
      <${Stale} found=${found} />
      <div class="columns">
        <div>
          <${Panel} title="Failing jobs" aside=${seen.FailingTotal > seen.Failing.length && html`<a href="/ui/jobs?failing=true">all ${seen.FailingTotal}</a>`}>
            ${seen.Failing.length ? html`<ul class="lines">${seen.Failing.map((job) => html`<li data-row class="failing">
              <div><a href=${links.job(job.Namespace, job.ID)}>${job.Name || job.ID}</a> ${job.Namespace !== "default" && html`<span class="dim">${job.Namespace}</span>`}
              <${Badge} status=${job.Troubles[0]} as=${job.Severity > 1 ? "bad" : "warn"} /> <span class="dim">${job.Troubles.slice(1).join(", ")}</span></div>
              <${HealthBar} counts=${job.Counts} /></li>`)}</ul>`
            : html`<${Empty}>Nothing fails.<//>`}
          <//>
          ${seen.Rolling.length > 0 && html`<${Panel} title="Deployments under way"><ul class="lines">${seen.Rolling.map((job) => html`<li data-row><a href=${links.job(job.Namespace, job.ID, "deployments")}>${job.ID}</a>
            <${Badge} status=${job.Deployment.Status} as="warn" /> <span>${job.Deployment.Healthy} of ${job.Deployment.Total} healthy</span></li>`)}</ul><//>`}
          <${Panel} title="Activity">
            ${seen.Activity.length ? html`<ol class="activity">${seen.Activity.map((line) => html`<li key=${`${line.Time}${line.ID}${line.Text}`}><span class=${`sign ${line.Level}`} aria-hidden="true">${{ bad: "■", good: "●" }[line.Level] || "○"}</span>
              <span class="when"><${Ago} time=${line.Time} /></span> <span class="dim">${line.Kind}</span> <a href=${target(line)}>${line.Name}</a> <span class="said">${line.Text}</span></li>`)}</ol>`
            : html`<${Empty}>Nothing happened lately.<//>`}
          <//>
        </div>
        <div>
          <${Cluster} seen=${seen} may=${may} />
          ${seen.Nodes && html`<${Panel} title="Nodes" aside=${html`<a href="/ui/topology">topology</a>`}>${seen.Nodes.length ? html`<ul class="lines">${seen.Nodes.map((place) => html`<li><a href=${`/ui/nodes?datacenter=${encodeURIComponent(place.Datacenter)}&virtual_datacenter=${encodeURIComponent(place.VirtualDatacenter)}`}>${place.Datacenter}${place.VirtualDatacenter && ` / ${place.VirtualDatacenter}`}</a>
            <span class="badges">${Object.entries(place.States).sort().map(([state, n]) => html`<${Badge} status=${`${n} ${state}`} as=${level(state)} />`)}</span></li>`)}</ul>` : html`<${Empty}>There are no nodes.<//>`}<//>`}
          <${Panel} title="Work"><${Facts} facts=${[["Jobs", Object.entries(seen.Jobs).map(([status, n]) => `${n} ${status}`).join(", ") || "none"]]} /><${HealthBar} counts=${seen.Allocs} /><//>
        </div>
      </div>`}
  <//>`;
}

function target(line) {
  if (line.Kind === "node") return links.node(line.ID);
  return line.Kind === "task" || line.Kind === "alloc" ? links.alloc(line.ID) : links.job(line.Namespace, line.JobID, line.Kind === "deployment" ? "deployments" : "");
}

function Cluster({ seen, may }) {
  const { Brake: brake, Vault: vault } = seen;
  const release = () => act("Release the brake", () => put("/v1/operator/brake/release"), {
    title: "Release the brake?", verb: "Give these nodes up", danger: true,
    text: "Nodes that are not heard now are held lost, and their work is started elsewhere. If they live, two copies of it run until they return.",
  });
  return html`<${Panel} title="Cluster">
    <${Facts} facts=${[
      ["Leader", html`<a href=${links.node(seen.Leader.NodeID)}>${seen.Leader.Name}</a> <span class="dim">${seen.Leader.Address}</span>`],
      ["Holds the lock for", `${span(seen.LockAge)}, term ${seen.Leader.Epoch}`],
      ["Consul", html`<${Badge} status=${seen.ConsulAge < 3 ? "reachable" : `last answer ${seen.ConsulAge} s ago`} as=${seen.ConsulAge < 3 ? "good" : "warn"} />`],
      ["Vault", vault.Enabled ? html`<${Badge} status=${vault.Usable ? "reachable" : vault.State} as=${vault.Usable ? "good" : "bad"} /> <span class="dim">${vault.Error}</span>` : html`<span class="dim">not enabled</span>`],
      ["Brake", brake.Engaged ? html`<${Badge} status="on" as="warn" /> ${brake.Scopes.map((one) => `${one.Name}: ${one.Unheard} of ${one.Total} not heard`).join("; ")}`
        : brake.Held > 0 ? html`<${Badge} status=${`holds for ${span(brake.Held)}`} as="warn" /> <span class="dim">no node is held lost yet</span>`
        : html`<${Badge} status="off" as="good" />`],
    ]} />
    ${brake.Engaged && may.WriteOperator && html`<div class="actions"><${Action} text="Release the brake" danger onClick=${release} /></div>`}
  <//>`;
}
