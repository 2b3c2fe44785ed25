// The event stream: the last 15 minutes once, then a sample a second with the verdict. Read with `fetch`, because an EventSource cannot
// send a token. A stream that breaks or falls silent is said at once and opened again.

import { asksForToken, headers, noAnswer, problemOf, token } from "./api.js";

/** What is kept, as in the server. */
const WINDOW_SECONDS = 900;

/** The server says something every second. */
const SILENCE_MS = 5_000;

/** Between two attempts. */
const AGAIN_MS = 1_500;

/** A pause between samples that a plot must not draw a line across. */
export const GAP_SECONDS = 5;

/** Views are expected in MySQL within a second. */
export const LATE_SECONDS = 10;

/** The stores that do not answer; null while both do. */
export function away(sample) {
  const stores = [!sample.mysql_up && "MySQL", !sample.redis_up && "Redis"].filter(Boolean);
  return stores.length ? stores.join(" and ") : null;
}

/** `status`: connecting, live, cut (since when, and why), token (a token is asked for). */
export const live = {
  status: "connecting",
  cutSince: null,
  problem: null,
  samples: [],
  sample: null,
  verdict: null,
  paused: null,
  /** Server's clock less ours, seconds. */
  skew: 0,
};

const listeners = new Set();
let opened = null;

/** Calls `tell` on each change until `signal` ends it. */
export function onLive(tell, signal) {
  listeners.add(tell);
  signal?.addEventListener("abort", () => listeners.delete(tell));
}

/** Now by the server's clock, seconds since 1970. */
export const now = () => Date.now() / 1e3 + live.skew;

function tellAll() {
  for (const tell of [...listeners]) tell(live);
}

/** Reads until the token is refused. Called again, it begins anew. */
export async function follow() {
  opened?.abort();
  const mine = (opened = new AbortController());
  while (!mine.signal.aborted) {
    const problem = await read(mine.signal);
    if (mine.signal.aborted) return;
    if (asksForToken(problem)) {
      Object.assign(live, { status: "token", problem });
      tellAll();
      return;
    }
    const cutSince = live.cutSince ?? (live.sample ? live.sample.at : now());
    Object.assign(live, { status: "cut", problem, cutSince });
    tellAll();
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

/** Asks whether a token opens the stream; throws the problem if not. */
export async function tryToken(value) {
  const over = new AbortController();
  try {
    const response = await fetch("/v1/admin/stream", { headers: headers(value), signal: AbortSignal.any([over.signal, AbortSignal.timeout(10_000)]) });
    if (!response.ok) throw await problemOf(response);
  } catch (error) {
    throw error?.title === undefined ? noAnswer(error) : error;
  } finally {
    over.abort();
  }
  token.set(value);
}

/** Returns why it ended. */
async function read(signal) {
  const silent = new AbortController();
  let timer = 0;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silent.abort(new DOMException("silent", "TimeoutError")), SILENCE_MS);
  };
  heard();
  try {
    const response = await fetch("/v1/admin/stream", { headers: headers(), cache: "no-store", signal: AbortSignal.any([signal, silent.signal]) });
    if (!response.ok) return await problemOf(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return noAnswer(null);
      heard();
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      parts.forEach(take);
    }
  } catch (error) {
    return noAnswer(silent.signal.aborted ? silent.signal.reason : error);
  } finally {
    clearTimeout(timer);
  }
}

function take(text) {
  const lines = text.split("\n");
  const field = (name) =>
    lines
      .filter((line) => line.startsWith(`${name}:`))
      .map((line) => line.slice(name.length + 1).replace(/^ /, ""))
      .join("\n");
  const data = field("data");
  if (!data) return;
  const event = field("event");
  if (event === "history") history(JSON.parse(data).samples);
  if (event === "now") tick(JSON.parse(data));
}

/** An API that was started again has a short history: what it cannot know is kept. */
function history(samples) {
  const first = samples[0]?.at ?? Infinity;
  live.samples = [...live.samples.filter((sample) => sample.at < first), ...samples];
  trim();
}

function tick({ sample, verdict, paused }) {
  if (!(live.samples.at(-1)?.at >= sample.at)) live.samples.push(sample);
  trim();
  Object.assign(live, { status: "live", cutSince: null, problem: null, sample, verdict, paused: paused ?? null, skew: sample.at - Date.now() / 1e3 });
  tellAll();
}

function trim() {
  const oldest = (live.samples.at(-1)?.at ?? 0) - WINDOW_SECONDS;
  live.samples = live.samples.filter((sample) => sample.at >= oldest);
}
