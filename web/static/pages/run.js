// Edit, plan, run: nothing is submitted that was not planned first, as it stands in the field.

import { ApiError, get, put, q } from "../api.js";
import { Action, confirm, go, html, links, Loading, note, Page, Panel, useEffect, useHere, useMay, useState } from "../parts.js";
import { Diff, isSame, NotPlaced, Placements } from "./diff.js";

const EXAMPLE = `job "example" {
  datacenters = ["*"]

  group "app" {
    count = 1

    task "app" {
      driver = "docker"
      config {
        image = "busybox:1"
        args  = ["sleep", "infinity"]
      }
      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
`;

// The definition as it was submitted, else as JSON.
async function definition(namespace, id) {
  const job = await get(`/v1/job/${q(id)}?namespace=${q(namespace)}`);
  const found = await get(`/v1/job/${q(id)}/submission?optional=true&namespace=${q(namespace)}&version=${job.Version}`);
  const hasVariables = Object.keys(found?.VariableFlags || {}).length > 0 || found?.Variables;
  if (found?.Source && found.Format !== "json" && !hasVariables) return found.Source;
  return JSON.stringify(job, null, 2);
}

export default function Run() {
  const { params } = useHere();
  const { job: id, namespace = "default" } = params;
  const may = useMay({ namespace, job: id || "" });
  const [text, setText] = useState(id ? null : EXAMPLE);
  const [fault, setFault] = useState(null);
  const [plan, setPlan] = useState(null);
  const load = () => { setFault(null); definition(namespace, id).then(setText, (error) => setFault(error)); };
  useEffect(() => { if (id) load(); }, [id, namespace]);
  const title = id ? `Edit ${id}` : "Run a job";
  const crumbs = [["Jobs", "/ui/jobs"], ...(id ? [[id, links.job(namespace, id)]] : [])];
  if (text === null) return html`<${Page} title=${title} lead=${LEAD} crumbs=${crumbs}><${Loading} found=${{ error: fault, reload: load }} what="the definition" /><//>`;

  const look = async () => {
    setPlan(null);
    setFault(null);
    try {
      const isJson = text.trimStart().startsWith("{");
      let document = isJson ? JSON.parse(text) : await put("/v1/jobs/parse", { JobHCL: text, Canonicalize: true });
      document = document.Job || document;
      if (!document.ID) throw new ApiError(400, "the job has no id");
      const where = document.Namespace && document.Namespace !== "default" ? document.Namespace : namespace;
      document = { ...document, Namespace: where, Stop: false };
      const found = await put(`/v1/job/${q(document.ID)}/plan?namespace=${q(where)}`, { Job: document, Diff: true });
      setPlan({ text, document, namespace: where, isJson, found });
    } catch (error) {
      setFault(error instanceof SyntaxError ? new ApiError(400, `this is no JSON: ${error.message}`) : error);
    }
  };
  const run = async () => {
    const stops = Object.values(plan.found.Annotations?.DesiredTGUpdates || {}).reduce((n, one) => n + (one.Stop || 0) + (one.DestructiveUpdate || 0), 0);
    const isSure = await confirm({ title: `Run ${plan.document.ID}?`, verb: "Run the job", danger: stops > 0, text: stops ? `${stops} allocations are stopped or replaced.` : "What the plan shows is done." });
    if (!isSure) return;
    try {
      await put(`/v1/jobs?namespace=${q(plan.namespace)}`, {
        Job: plan.document, EnforceIndex: true, JobModifyIndex: plan.found.JobModifyIndex,
        Submission: { Source: plan.text, Format: plan.isJson ? "json" : "hcl2" },
      });
      note(`Job ${plan.document.ID} was submitted`);
      go(links.job(plan.namespace, plan.document.ID));
    } catch (error) {
      setFault(error);
    }
  };
  const isPlanned = plan && plan.text === text;
  return html`<${Page} title=${title} lead=${LEAD} crumbs=${crumbs}>
    <div class="columns even"><div>
      <label class="field"><span>Job file (HCL, or JSON)</span><textarea class="code editor" rows="28" spellcheck="false" wrap="off" value=${text} onInput=${(event) => setText(event.target.value)}></textarea></label>
      <div class="actions"><${Action} text="Plan" primary=${!isPlanned} onClick=${look} />${may.WriteJob && html`<${Action} text="Run" primary=${isPlanned} disabled=${!isPlanned} title="Plan it first" onClick=${run} />`}</div>
    </div><div aria-live="polite">
      ${fault && html`<div class="fault" role="alert"><pre>${fault.message}</pre></div>`}
      ${plan && html`<${Planned} plan=${plan} isPlanned=${isPlanned} />`}
      ${!plan && !fault && html`<p class="empty">The plan tells here what would change, and where it would not fit, before anything happens.</p>`}
    </div></div>
  <//>`;
}

const LEAD = "Change the definition, look at the plan, and only then run it.";

function Planned({ plan, isPlanned }) {
  const { found } = plan;
  return html`
    ${!isPlanned && html`<p class="stale" role="status">The text was changed since: plan it again.</p>`}
    ${found.Warnings && html`<div class="banner warn"><pre>${found.Warnings}</pre></div>`}
    <${Panel} title="What would happen"><${Placements} updates=${found.Annotations?.DesiredTGUpdates} />
      ${found.NextPeriodicLaunch && !found.NextPeriodicLaunch.startsWith("0001") && html`<p>The next launch would be at ${new Date(found.NextPeriodicLaunch).toLocaleString()}.</p>`}
      ${(found.Annotations?.PreemptedAllocs || []).map((alloc) => html`<p>Pushes away <a href=${links.alloc(alloc.ID)}>${alloc.Name}</a>.</p>`)}
      <${NotPlaced} failed=${found.FailedTGAllocs} /><//>
    <${Panel} title="What differs">${isSame(found.Diff) ? html`<p class="empty">Nothing differs from what is there.</p>` : html`<${Diff} diff=${found.Diff} />`}<//>`;
}
