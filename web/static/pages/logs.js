// A task's output: its end at once, then what comes; searched here, and saved whole.

import { ask, query } from "../api.js";
import { Action, html, setParams, short, useEffect, useHere, useRef, useState } from "../parts.js";
import { save } from "./job.js";

// What is shown from before the page was opened, and lines that are kept.
const TAIL_BYTES = 128 * 1024;
const LINES_MAX = 5000;
const RETRY_MS = 2000;
// Colours and the like of a terminal: they are no text.
const ESCAPES = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;

export default function Logs({ alloc, tasks }) {
  const { params } = useHere();
  const task = params.task || tasks[0], kind = params.type === "stderr" ? "stderr" : "stdout";
  const hasBegun = Boolean(alloc.TaskStates?.[task]?.StartedAt);
  const [lines, setLines] = useState([]);
  const [said, setSaid] = useState("Reading …");
  const [isFollowing, setFollowing] = useState(true);
  const [text, setText] = useState("");
  const box = useRef(null);
  useEffect(() => {
    const ends = new AbortController();
    let known = [], rest = "", timer = 0;
    const show = () => {
      timer ||= setTimeout(() => { timer = 0; setLines(rest ? [...known, rest] : [...known]); }, 100);
    };
    const read = async () => {
      known = [];
      rest = "";
      try {
        const answer = await ask("GET", query(`/v1/client/fs/logs/${alloc.ID}`, { task, type: kind, follow: true, origin: "end", offset: TAIL_BYTES, plain: true }), { signal: ends.signal, timeoutMs: 0 });
        setSaid("Live");
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          const found = (rest + value.replace(ESCAPES, "")).split("\n");
          rest = found.pop();
          known = [...known, ...found].slice(-LINES_MAX);
          show();
        }
        setSaid("Ended: the task writes no more");
        show();
      } catch (error) {
        if (ends.signal.aborted) return;
        setSaid(error.status === 404 ? "Nothing was written yet" : error.status ? error.message : "Not live: reconnecting …");
        if (error.status === 403) return;
        setTimeout(() => ends.signal.aborted || read(), RETRY_MS);
      }
    };
    setLines([]);
    setSaid("Reading …");
    if (hasBegun) read();
    else setSaid("Nothing was written yet");
    return () => { ends.abort(); clearTimeout(timer); };
  }, [alloc.ID, task, kind, hasBegun]);
  useEffect(() => {
    if (isFollowing && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, isFollowing]);
  const download = async () => {
    const answer = await ask("GET", query(`/v1/client/fs/logs/${alloc.ID}`, { task, type: kind, origin: "start", plain: true }), { timeoutMs: 0 });
    save(`${alloc.Name}-${short(alloc.ID)}-${task}.${kind}.log`, await answer.blob());
  };
  const wanted = text.toLowerCase();
  const shown = wanted ? lines.filter((line) => line.toLowerCase().includes(wanted)) : lines;
  const scrolled = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < 30;
    if (isAtEnd !== isFollowing) setFollowing(isAtEnd);
  };
  return html`<div class="logs">
    <div class="filters">
      <label>Task <select value=${task} onChange=${(event) => setParams({ task: event.target.value })}>${tasks.map((name) => html`<option value=${name}>${name}</option>`)}</select></label>
      <label>Stream <select value=${kind} onChange=${(event) => setParams({ type: event.target.value })}><option value="stdout">stdout</option><option value="stderr">stderr</option></select></label>
      <label class="search"><span class="hidden">Search in the log</span><input type="search" data-search placeholder="Only lines with … ( / )" value=${text} onInput=${(event) => setText(event.target.value)} /></label>
      <label class="check"><input type="checkbox" checked=${isFollowing} onChange=${(event) => setFollowing(event.target.checked)} /> <span>Follow the end</span></label>
      <${Action} text="Download all" onClick=${download} />
      <span class="total" role="status" data-log-state>${said}${wanted ? `, ${shown.length} of ${lines.length} lines` : ""}</span>
    </div>
    <pre class="log" ref=${box} onScroll=${scrolled} tabindex="0" role="log" aria-label=${`${kind} of ${task}`} aria-live="off">${shown.map((line, n) => html`<${Line} key=${n} line=${line} wanted=${wanted} />`)}</pre>
  </div>`;
}

function Line({ line, wanted }) {
  const at = wanted ? line.toLowerCase().indexOf(wanted) : -1;
  if (at < 0) return `${line}\n`;
  return html`${line.slice(0, at)}<mark>${line.slice(at, at + wanted.length)}</mark>${line.slice(at + wanted.length)}${"\n"}`;
}
