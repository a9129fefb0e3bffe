// What differs between two versions of a job, as the API tells it.

import { Badge, html } from "../parts.js";

const WORDS = { Added: "added", Deleted: "removed", Edited: "changed" };
const SIGNS = { Added: "+", Deleted: "−", Edited: "±" };

export function isSame(diff) {
  return !diff || diff.Type === "None" || diff.Type === "";
}

export function Diff({ diff }) {
  if (isSame(diff)) return html`<p class="empty">Nothing differs.</p>`;
  return html`<div class="diff">
    <${Parts} fields=${diff.Fields} objects=${diff.Objects} />
    ${(diff.TaskGroups || []).filter((group) => !isSame(group)).map((group) => html`<${Node} kind="group" node=${group}>
      <${Updates} updates=${group.Updates} />
      <${Parts} fields=${group.Fields} objects=${group.Objects} />
      ${(group.Tasks || []).filter((task) => !isSame(task)).map((task) => html`<${Node} kind="task" node=${task} notes=${task.Annotations}><${Parts} fields=${task.Fields} objects=${task.Objects} /><//>`)}
    <//>`)}
  </div>`;
}

function Updates({ updates }) {
  const found = Object.entries(updates || {}).filter(([, n]) => n);
  return found.length > 0 && html`<p class="dim">${found.map(([what, n]) => `${n} ${what}`).join(", ")}</p>`;
}

function Node({ kind, node, notes, children }) {
  return html`<div class="diff-node"><p class=${`diff-line ${node.Type}`}><span class="sign" aria-label=${WORDS[node.Type] || ""}>${SIGNS[node.Type] || " "}</span> ${kind} <strong>${node.Name}</strong> <span class="dim">${(notes || []).join(", ")}</span></p><div class="diff-in">${children}</div></div>`;
}

function Parts({ fields, objects }) {
  return html`${(fields || []).filter((field) => !isSame(field)).map((field) => html`<p class=${`diff-line ${field.Type}`}>
      <span class="sign" aria-label=${WORDS[field.Type] || ""}>${SIGNS[field.Type] || " "}</span> ${field.Name}: ${field.Type !== "Added" && html`<del>${field.Old}</del>`} ${field.Type === "Edited" && html`<span aria-hidden="true">→</span> `}${field.Type !== "Deleted" && html`<ins>${field.New}</ins>`}
      ${(field.Annotations || []).length > 0 && html`<span class="dim"> (${field.Annotations.join(", ")})</span>`}</p>`)}
    ${(objects || []).filter((one) => !isSame(one)).map((one) => html`<${Node} kind="" node=${one}><${Parts} fields=${one.Fields} objects=${one.Objects} /><//>`)}`;
}

export function Placements({ updates }) {
  const rows = Object.entries(updates || {});
  const words = [["Place", "placed"], ["InPlaceUpdate", "updated in place"], ["DestructiveUpdate", "replaced"], ["Canary", "canaries"], ["Migrate", "migrated"], ["Stop", "stopped"], ["Preemptions", "preempted"], ["Ignore", "left as they are"]];
  return html`<ul>${rows.map(([group, counts]) => html`<li><strong>${group}</strong>: ${words.filter(([name]) => counts[name]).map(([name, text]) => `${counts[name]} ${text}`).join(", ") || "nothing to do"}</li>`)}</ul>`;
}

// Why a group found no node: per constraint and dimension.
export function NotPlaced({ failed }) {
  return html`${Object.entries(failed || {}).map(([group, metric]) => html`<div class="why"><p><${Badge} status=${`${(metric.CoalescedFailures || 0) + 1} of ${group} not placed`} as="bad" />
      <span class="dim"> ${metric.NodesEvaluated} nodes looked at, ${metric.NodesFiltered} ruled out, ${metric.NodesExhausted} full</span></p>
    <ul>${Object.entries({ ...metric.ConstraintFiltered, ...metric.ClassFiltered }).map(([reason, n]) => html`<li>${n} nodes: ${reason}</li>`)}
    ${Object.entries({ ...metric.DimensionExhausted, ...metric.ClassExhausted }).map(([reason, n]) => html`<li>${n} nodes lack room: ${reason}</li>`)}</ul></div>`)}`;
}
