// What tasks and machines use: charts of the last hour, from the samples that agents keep.

import { get, list } from "../api.js";
import { Empty, html, mib, of, Panel, useEffect, useLive, useRef, useState } from "../parts.js";

let library = null;

// uPlot is no module: it comes by a script element, once.
function plotting() {
  library ||= new Promise((done, failed) => {
    const at = (name) => new URL(`../vendor/${name}`, import.meta.url).href;
    const style = document.createElement("link");
    Object.assign(style, { rel: "stylesheet", href: at("uplot.css") });
    const script = document.createElement("script");
    Object.assign(script, { src: at("uplot.js"), onload: () => done(window.uPlot), onerror: failed });
    document.head.append(style, script);
  });
  return library;
}

// Changes with the colours of the page, which a canvas does not follow by itself.
function useLook() {
  const [look, again] = useState(0);
  useEffect(() => {
    const changed = () => again((n) => n + 1);
    const dark = matchMedia("(prefers-color-scheme: dark)"), watch = new MutationObserver(changed);
    dark.addEventListener("change", changed);
    watch.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => { dark.removeEventListener("change", changed); watch.disconnect(); };
  }, []);
  return look;
}

// series: [{label, values, color, dash}], each as long as times (seconds since 1970).
export function Chart({ title, times, series, format }) {
  const box = useRef(null), look = useLook();
  useEffect(() => {
    let plot = null, isOver = false;
    const fit = () => plot?.setSize({ width: Math.max(200, box.current.clientWidth), height: 170 });
    plotting().then((uPlot) => {
      if (isOver) return;
      const style = getComputedStyle(document.documentElement);
      const color = (name) => style.getPropertyValue(name).trim();
      const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
      plot = new uPlot({
        width: Math.max(200, box.current.clientWidth), height: 170, cursor: { y: false }, legend: { live: true },
        scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 0.001)] } },
        axes: [{ ...axis }, { ...axis, size: 76, values: (_, ticks) => ticks.map((tick) => format(tick)) }],
        series: [{ label: "Time" }, ...series.map((one) => ({ label: one.label, stroke: color(one.color), width: one.dash ? 1 : 2, dash: one.dash, points: { show: false }, value: (_, value) => (value === null || value === undefined ? "–" : format(value)) }))],
      }, [times, ...series.map((one) => one.values)], box.current);
      addEventListener("resize", fit);
    });
    return () => { isOver = true; removeEventListener("resize", fit); plot?.destroy(); };
  }, [JSON.stringify([look, times.at(-1), times.length, series.map((one) => one.label)])]);
  const last = series[0]?.values.at(-1);
  return html`<figure class="chart"><figcaption>${title}${last !== undefined && last !== null ? `: ${format(last)} now` : ""}</figcaption><div ref=${box} role="img" aria-label=${`${title} over the last hour`}></div></figure>`;
}

const mhz = (value) => `${Math.round(value)} MHz`;
const flat = (times, value) => times.map(() => value);

// An alloc's tasks, each against its limits.
export function AllocUse({ id, resources }) {
  const found = useLive((signal) => get(`/v1/client/allocation/${id}/samples`, { signal }), [id], of.never);
  if (!found.data) return found.error ? html`<${Empty}>What it uses is not known: ${found.error.message}.<//>` : null;
  const tasks = Object.entries(found.data.Tasks).filter(([, one]) => one.Times.length);
  if (!tasks.length) return html`<${Panel} title="Use"><${Empty}>No samples yet: the first comes within half a minute of the start.<//><//>`;
  return html`<${Panel} title="Use">${tasks.map(([name, one]) => {
    const given = resources?.Tasks?.[name];
    const limit = given?.Memory.MemoryMB * 1048576, max = (given?.Memory.MemoryMaxMB || 0) * 1048576;
    return html`<h3>${name}</h3><div class="charts">
      <${Chart} title="CPU" times=${one.Times} format=${mhz} series=${[{ label: "used", values: one.CPU, color: "--chart" }, ...(given ? [{ label: "given", values: flat(one.Times, given.Cpu.CpuShares), color: "--warn", dash: [6, 4] }] : [])]} />
      <${Chart} title="Memory" times=${one.Times} format=${mib} series=${[{ label: "used", values: one.Memory, color: "--chart" }, ...(limit ? [{ label: "memory", values: flat(one.Times, limit), color: "--warn", dash: [6, 4] }] : []), ...(max > limit ? [{ label: "memory_max", values: flat(one.Times, max), color: "--bad", dash: [2, 3] }] : [])]} /></div>`;
  })}<//>`;
}

export function NodeUse({ id }) {
  const found = useLive((signal) => get(`/v1/client/samples?node_id=${id}`, { signal }), [id], of.never);
  if (!found.data) return found.error ? html`<${Empty}>What it uses is not known: ${found.error.message}.<//>` : null;
  const { Times: times, CPU: cpu, Memory: memory, Total: total } = found.data;
  if (!times.length) return html`<${Panel} title="Use"><${Empty}>No samples yet.<//><//>`;
  return html`<${Panel} title="Use"><div class="charts">
    <${Chart} title="CPU" times=${times} format=${mhz} series=${[{ label: "used", values: cpu, color: "--chart" }, { label: "offered", values: flat(times, total.CPU), color: "--warn", dash: [6, 4] }]} />
    <${Chart} title="Memory" times=${times} format=${mib} series=${[{ label: "used", values: memory, color: "--chart" }, { label: "there", values: flat(times, total.Memory), color: "--warn", dash: [6, 4] }]} /></div><//>`;
}

// Of so many allocs: each is asked of its own node.
const ALLOCS_MAX = 20;

export function JobUse({ namespace, id }) {
  const found = useLive(async (signal) => {
    const { rows, total } = await list("/v1/ui/allocations", { namespace, job: id, status: "running", per_page: ALLOCS_MAX }, { signal });
    const each = await Promise.allSettled(rows.map((alloc) => get(`/v1/client/allocation/${alloc.ID}/samples`, { signal })));
    return { total, asked: rows.length, sums: summed(each.filter((one) => one.status === "fulfilled").map((one) => one.value)) };
  }, [namespace, id], of.never);
  if (!found.data || !found.data.sums.times.length) return null;
  const { total, asked, sums } = found.data;
  return html`<${Panel} title="Use" aside=${html`<span class="dim">${total > asked ? `of ${asked} of its ${total} running allocations` : "of all running allocations"}</span>`}><div class="charts">
    <${Chart} title="CPU" times=${sums.times} format=${mhz} series=${[{ label: "used", values: sums.cpu, color: "--chart" }]} />
    <${Chart} title="Memory" times=${sums.times} format=${mib} series=${[{ label: "used", values: sums.memory, color: "--chart" }]} /></div><//>`;
}

// Samples of different machines fall into the same half minutes; what has none in one counts nothing there.
function summed(answers) {
  const slots = new Map();
  for (const answer of answers) {
    for (const task of Object.values(answer.Tasks)) {
      task.Times.forEach((time, n) => {
        const at = Math.floor(time / answer.Interval) * answer.Interval;
        const slot = slots.get(at) || { cpu: 0, memory: 0 };
        slots.set(at, { cpu: slot.cpu + task.CPU[n], memory: slot.memory + task.Memory[n] });
      });
    }
  }
  const times = [...slots.keys()].sort((a, b) => a - b);
  return { times, cpu: times.map((at) => slots.get(at).cpu), memory: times.map((at) => slots.get(at).memory) };
}
