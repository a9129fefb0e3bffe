// A shell, or another command, beside a task: xterm.js at one end, the node's agent at the other.

import { query, session } from "../api.js";
import { html, useEffect, useRef, useState } from "../parts.js";
import { FitAddon } from "../vendor/xterm-fit.js";
import { Terminal } from "../vendor/xterm.js";

const BEAT_MS = 10000;

// xterm writes <style> elements and style attributes, which the page's policy forbids: for as long as a terminal is open they
// become sheets that are adopted, and properties that are set, both of which scripts may do.
function withSheets() {
  const sheets = [], make = Document.prototype.createElement;
  document.createElement = function createElement(name, ...more) {
    if (String(name).toLowerCase() !== "style") return make.call(document, name, ...more);
    const sheet = new CSSStyleSheet();
    sheets.push(sheet);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    const stand = make.call(document, "span");
    stand.hidden = true;
    Object.defineProperty(stand, "textContent", { set: (text) => sheet.replaceSync(text), get: () => "" });
    Object.defineProperty(stand, "sheet", { value: sheet });
    return stand;
  };
  const set = HTMLElement.prototype.setAttribute;
  HTMLElement.prototype.setAttribute = function setAttribute(name, value) {
    if (name === "style") this.style.cssText = value;
    else set.call(this, name, value);
  };
  return () => {
    delete document.createElement;
    delete HTMLElement.prototype.setAttribute;
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => !sheets.includes(one));
  };
}

function linked(name) {
  if (document.querySelector(`link[data-sheet="${name}"]`)) return;
  const style = document.createElement("link");
  Object.assign(style, { rel: "stylesheet", href: new URL(`../vendor/${name}`, import.meta.url).href });
  style.dataset.sheet = name;
  document.head.append(style);
}

const toBase64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
const fromBase64 = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));

export default function Exec({ alloc, tasks, may }) {
  const [run, setRun] = useState(null);
  const [said, setSaid] = useState("");
  const box = useRef(null);
  useEffect(() => {
    if (!run) return undefined;
    linked("xterm.css");
    const forget = withSheets();
    const style = getComputedStyle(document.documentElement);
    const terminal = new Terminal({
      cursorBlink: true, fontSize: 13, screenReaderMode: true, scrollback: 5000,
      theme: { background: style.getPropertyValue("--code").trim(), foreground: style.getPropertyValue("--text").trim(), cursor: style.getPropertyValue("--text").trim() },
    });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    terminal.open(box.current);
    fit.fit();
    terminal.focus();
    const where = query(`/v1/client/allocation/${alloc.ID}/exec`, { task: run.task, command: JSON.stringify(run.command), tty: "true", ws_handshake: "true", namespace: alloc.Namespace });
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${where}`);
    const send = (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
    const resize = () => { fit.fit(); send({ tty_size: { height: terminal.rows, width: terminal.cols } }); };
    const beat = setInterval(() => send({}), BEAT_MS);
    let exit = null;
    setSaid("Connecting …");
    socket.onopen = () => {
      send({ version: 1, auth_token: session.token });
      send({ tty_size: { height: terminal.rows, width: terminal.cols } });
      setSaid("Connected");
    };
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      const data = message.stdout?.data || message.stderr?.data;
      if (data) terminal.write(fromBase64(data));
      if (message.exited) exit = message.result?.exit_code || 0;
    };
    socket.onclose = (event) => {
      setSaid(exit !== null ? `Ended with exit code ${exit}` : `Closed${event.reason ? `: ${event.reason}` : ""}`);
      terminal.options.disableStdin = true;
    };
    const typed = terminal.onData((text) => send({ stdin: { data: toBase64(text) } }));
    addEventListener("resize", resize);
    return () => {
      clearInterval(beat);
      removeEventListener("resize", resize);
      typed.dispose();
      socket.close();
      terminal.dispose();
      forget();
    };
  }, [run]);
  if (!may.Exec) return html`<p class="empty">Your token does not allow to run commands here.</p>`;
  const begin = (event) => {
    event.preventDefault();
    const { task, command } = event.target.elements;
    setRun({ task: task.value, command: words(command.value), number: Math.random() });
  };
  return html`<form class="filters" onSubmit=${begin}>
      <label>Task <select name="task">${tasks.map((name) => html`<option value=${name}>${name}</option>`)}</select></label>
      <label>Command <input name="command" value="/bin/sh" spellcheck="false" autocomplete="off" required /></label>
      <button class="primary" type="submit">${run ? "Run anew" : "Run"}</button>
      <span class="total" role="status" data-exec-state>${said}</span>
    </form>
    <div class=${run ? "shell" : ""} ref=${box}></div>
    <p class="dim">Leaving this page ends the command. To leave the terminal by keyboard: Ctrl+D ends the shell, then Tab.</p>`;
}

// `sh -c "a b"` as its words; quotes keep what is between them together.
export function words(text) {
  return [...text.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map((found) => found[1] ?? found[2] ?? found[3]);
}
