// How the page speaks to drover: calls, the token, the stream of events, and whether what is shown is fresh.
//
// The token is kept in sessionStorage: it ends with the tab. Every call carries X-Drover-UI, a header that no form and
// no other page's script may send here; api/origins.py asks for one in whatever a browser wants changed.

export const CALL_MS = 12000;
const PULSE_MS = 3000;
const PULSE_WAIT_MS = 3000;
// A list is asked for again so long after the last answer, however many events came.
const AGAIN_MS = 1000;
const RETRY_MS = 3000;
// Without any event: what is gone by time alone.
const REFRESH_MS = 30000;

export class ApiError extends Error {
  constructor(status, text) {
    super(text || `status ${status}`);
    this.status = status;
  }
}

export const session = {
  get token() { return sessionStorage.getItem("drover.token") || ""; },
  set token(value) { value ? sessionStorage.setItem("drover.token", value) : sessionStorage.removeItem("drover.token"); },
  get readOnly() { return localStorage.getItem("drover.readOnly") === "true"; },
  set readOnly(value) { localStorage.setItem("drover.readOnly", String(value)); },
  get namespace() { return sessionStorage.getItem("drover.namespace") || "*"; },
  set namespace(value) { sessionStorage.setItem("drover.namespace", value); },
};

function headers(more = {}) {
  const found = { "X-Drover-UI": "1", ...more };
  if (session.token) found["X-Nomad-Token"] = session.token;
  return found;
}

export const q = encodeURIComponent;

// `/path` with {name: value}; what is empty is left out.
export function query(path, params) {
  const text = Object.entries(params).filter(([, v]) => v !== "" && v !== undefined && v !== null && v !== false)
    .map(([k, v]) => `${k}=${q(v)}`).join("&");
  return text ? path + (path.includes("?") ? "&" : "?") + text : path;
}

// The Response of a call that went well. Throws ApiError, with status 0 where nobody answered.
export async function ask(method, path, { body, signal, timeoutMs = CALL_MS } = {}) {
  const ends = new AbortController();
  let isLate = false;
  const timer = timeoutMs ? setTimeout(() => { isLate = true; ends.abort(); }, timeoutMs) : 0;
  signal?.addEventListener("abort", () => ends.abort());
  if (signal?.aborted) ends.abort();
  try {
    const answer = await fetch(path, {
      method,
      headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: ends.signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    if (!answer.ok) throw new ApiError(answer.status, (await answer.text()).trim());
    return answer;
  } catch (error) {
    if (error instanceof ApiError) throw error;
    if (signal?.aborted) throw new DOMException("left", "AbortError");
    throw new ApiError(0, isLate ? `no answer within ${Math.round(timeoutMs / 1000)} s` : "this agent does not answer");
  } finally {
    clearTimeout(timer);
  }
}

async function read(answer) {
  const text = await answer.text();
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return text;
  }
}

export const get = async (path, how) => read(await ask("GET", path, how));
export const put = async (path, body = {}, how) => read(await ask("PUT", path, { ...how, body }));
export const del = async (path, how) => read(await ask("DELETE", path, how));

// A page of a list: {rows, total}.
export async function list(path, params, how) {
  const answer = await ask("GET", query(path, params), how);
  return { rows: await read(answer), total: Number(answer.headers.get("X-Total-Count") || 0) };
}

// -- the pulse: is there an agent, a leader, Consul?

// fault: "" or what is out of reach, in words. since: when what is shown was last known to be so.
export const pulse = { data: null, fault: "", since: Date.now(), needsToken: false, isLive: false };
const watchers = new Set();

export function watchPulse(told) {
  watchers.add(told);
  return () => watchers.delete(told);
}

function tell() {
  for (const told of watchers) told();
}

async function whyNot(error) {
  if (error.status === 403) return "";
  try {
    const answer = await fetch("/v1/agent/health", { headers: headers(), cache: "no-store", signal: AbortSignal.timeout(PULSE_WAIT_MS) });
    const health = await answer.json();
    const said = Object.values(health).find((one) => !one.ok);
    if (said) return said.message === "no leader" ? "No leader: nobody holds Consul's lock just now" : said.message;
    return error.status === 0 ? "The leader does not answer" : error.message;
  } catch {
    return "This agent does not answer";
  }
}

async function beat() {
  try {
    const answer = await ask("GET", "/v1/ui/pulse", { timeoutMs: PULSE_WAIT_MS });
    const isBack = pulse.fault !== "" || pulse.data === null;
    pulse.data = await read(answer);
    pulse.fault = "";
    pulse.needsToken = false;
    pulse.since = Date.now();
    if (isBack) {
      for (const one of pages) one.wake(true);
    }
    follow(Number(answer.headers.get("X-Nomad-Index") || 0));
  } catch (error) {
    if (error.status === 403) {
      pulse.needsToken = true;
      pulse.fault = "";
      pulse.since = Date.now();
    } else {
      pulse.fault = await whyNot(error);
    }
  }
  tell();
}

let beating = 0;

export async function begin() {
  clearTimeout(beating);
  await beat();
  beating = setTimeout(begin, document.hidden ? 10 * PULSE_MS : PULSE_MS);
}

// Another token: what was shown and heard was somebody else's.
export function restart() {
  stream?.abort();
  stream = null;
  index = 0;
  begin();
  for (const one of pages) one.wake(true);
}

// -- the stream of events. One for the page, and none while nobody looks: a browser has six connections to a host.

let stream = null;
let index = 0;

// Up to where it was followed, plus one.
export const heardUntil = () => index;

async function follow(from) {
  if (stream || document.hidden) return;
  const mine = stream = new AbortController();
  index = index || from + 1;
  try {
    const answer = await ask("GET", `/v1/event/stream?namespace=*&index=${index}`, { signal: mine.signal, timeoutMs: 0 });
    pulse.isLive = true;
    tell();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) heard(line);
    }
  } catch {
    // the pulse tells what is wrong, and begins again
  }
  if (stream === mine) {
    stream = null;
    pulse.isLive = false;
    tell();
  }
}

function heard(line) {
  const found = line.length > 2 ? JSON.parse(line) : {};
  if (found.Index) index = found.Index + 1;
  for (const event of found.Events || []) {
    for (const one of pages) one.heard(event);
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stream?.abort();
    stream = null;
  } else {
    index = 0;
    begin();
    for (const one of pages) one.wake(true);
  }
});

// -- what is shown, and kept as it is

const pages = new Set();

// Calls load() now, again when an event concerns() it, and each half a minute. told({data, error}): after each.
export class Live {
  constructor(load, concerns, told) {
    Object.assign(this, { load, concerns, told, timer: 0, asked: null, isDirty: false, isOver: false });
    pages.add(this);
    this.run();
  }

  heard(event) {
    if (this.concerns(event)) this.wake(false);
  }

  wake(isNow) {
    if (this.isOver) return;
    if (this.asked) {
      this.isDirty = true;
    } else if (isNow || !this.isSoon) {
      this.isSoon = true;
      this.again(isNow ? 0 : AGAIN_MS);
    }
  }

  again(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.run(), ms);
  }

  async run() {
    if (this.isOver || this.asked) return;
    this.isSoon = this.isDirty = false;
    this.asked = new AbortController();
    let next = REFRESH_MS;
    try {
      const data = await this.load(this.asked.signal);
      if (!this.isOver) this.told({ data, error: null });
    } catch (error) {
      if (this.isOver || error.name === "AbortError") return;
      this.told({ error });
      if (error.status === 0 || error.status >= 500) next = RETRY_MS;
    } finally {
      this.asked = null;
    }
    if (document.hidden) return;
    this.isSoon = this.isDirty;
    this.again(this.isDirty ? AGAIN_MS : next);
  }

  end() {
    this.isOver = true;
    clearTimeout(this.timer);
    this.asked?.abort();
    pages.delete(this);
  }
}
