// Overview: is all well, and if not, what to do. Everything on it comes with the event stream.

import { command, fill, h, icon, mark, section, setText, showFigures } from "./dom.js";
import { LATE_SECONDS, away, live, now } from "./live.js";
import { columns, plot, spans } from "./plots.js";
import { bytes, clock, count, counted, duration, rate, share, verb } from "./words.js";

const WORDS = { well: "Well", watch: "Watch", trouble: "Trouble", unknown: "Not known" };

/** Of what rates, latencies and the hit ratio are, as in the server. */
const RATES_SECONDS = 10;

/** A plot of less than this is hard to read. */
const LEAST_SPAN_SECONDS = 120;

/** Lines that are closer than this share of what was accepted in the window look like one. */
const OVERLAY = 0.01;

/** Distances of labels in seconds, and in bytes. */
const SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 3600, 7200, 21600, 43200, 86400, 864000];
const POWERS = Array.from({ length: 34 }, (_, n) => 2 ** (n + 10));

export function overview(page) {
  const verdict = h("section.verdict", { "aria-label": "Verdict" });
  const further = h("div");
  const moment = h("span.hint");
  const tiles = h("div");
  const since = h("span.hint");
  const plots = makePlots(page.signal);
  page.onLive(() => {
    showVerdict(verdict, further, current());
    showFigures(tiles, tilesOf(live.sample));
    if (live.sample) {
      setText(moment, `At ${clock(live.sample.at, now())}. Rates, latencies and the hit ratio are those of the last ${RATES_SECONDS} s.`);
      const first = live.samples[0].at;
      since.textContent = now() - first < 890 ? `Kept since ${clock(first, now())}, when this API was started.` : "";
      for (const draw of plots.draws) draw(live.samples, live.sample);
    }
  });
  return [verdict, further, section(["Now", moment], tiles), section(["The last 15 minutes", since], plots.element)];
}

/** What was well when the stream broke is not known to be so. */
function current() {
  if (live.status === "live") return live.verdict;
  if (live.status === "connecting") return { state: "unknown", sentence: "Waiting for the first figures.", more: [] };
  return {
    state: "unknown",
    sentence: `The API has not answered since ${clock(live.cutSince ?? now(), now())}, so that nobody knows how the shop is.`,
    remedy: `See on its machine whether inventory-api runs, and what its log says (journalctl -u inventory-api -n 50); it may be restarted at any moment.${live.verdict ? ` Last known: ${live.verdict.sentence}` : ""}`,
    command: live.problem?.status ? `curl '${location.origin}/readyz?verbose'` : "systemctl restart inventory-api",
    more: [],
  };
}

/** Sentences change each second, and what is around them seldom: selections and the focus in a command stay. */
function showVerdict(element, further, verdict) {
  const { state, remedy = null, command: line = null, alert = null, more = [] } = verdict;
  element.dataset.state = state;
  fill(element, [state, remedy, line, alert], () => [
    h("h2.state", {}, icon(state), WORDS[state]),
    h("p.sentence"),
    remedy && h("p.remedy", {}, remedy),
    line && h("p.next", {}, h("span", {}, "Type: "), command(line)),
    alert && h("p.hint", {}, `Alert ${alert}: deploy/RUNBOOK.md#${alert.toLowerCase()}`),
  ]);
  setText(element.querySelector(".sentence"), verdict.sentence);
  fill(further, more.map(({ sentence, ...around }) => around), () => more.length > 0 && section("Further findings", list(more)));
  further.querySelectorAll(".told").forEach((told, n) => setText(told, more[n].sentence));
}

function list(more) {
  const finding = ({ state, remedy, command: line, alert }) => [
    h("p", {}, mark(state, WORDS[state]), " ", h("span.told")),
    remedy && h("p.remedy", {}, remedy),
    line && h("p.next", {}, command(line)),
    alert && h("p.hint", {}, `Alert ${alert}`),
  ];
  return h("ul.findings", { "aria-label": "Further findings" }, more.map((each) => h("li", { "data-state": each.state }, finding(each))));
}

function tilesOf(sample) {
  if (!sample) return [["accepted", "Views accepted", "not known yet"]];
  const { accepted, persisted, pending, depth, capacity, dead, lost, drift, oldest_age: age, workers, workers_hung: hung, p50, p99, redis_used: used, redis_limit: limit } = sample;
  const account = drift == null ? "its account is not known" : drift ? `the account is out by ${count(drift)}` : "the account adds up";
  const memory = limit > 0 ? `of ${bytes(limit)} (${share(used / limit)})` : "no limit is set";
  const missing = awayWords(sample);
  const during = `in the last ${RATES_SECONDS} s`;
  return [
    ["accepted", "Views accepted", count(accepted), known(lost, lost ? `${count(lost)} of them lost with a Redis` : "none of them lost")],
    ["persisted", "In MySQL", count(persisted), account, drift ? "trouble" : ""],
    ["pending", pending === 1 ? "View waits" : "Views wait", count(pending), known(depth, fillWords(depth, capacity))],
    ["age", "The oldest waits for", pending === 0 ? "–" : duration(age), pending === 0 ? "none waits" : known(age, "and is not in MySQL yet"), age > LATE_SECONDS ? "trouble" : ""],
    ["requests", "Requests a second", rate(sample.requests), "answered, of all kinds"],
    ["errors", "Failed a second", rate(sample.errors), "answered 5xx", sample.errors > 0 ? "watch" : ""],
    ["latency", "99 of 100 within", p99 == null ? "no request" : duration(p99), p99 == null ? during : `half within ${duration(p50)}`],
    ["hits", "Reads from the cache", sample.hit_ratio == null ? "no read" : share(sample.hit_ratio), sample.hit_ratio == null ? during : "the hit ratio"],
    ["memory", "Memory of Redis", bytes(used), known(used, memory)],
    ["dead-letters", "Dead letters", count(sample.dead_letters), known(dead, `${counted(dead, "view")} set aside`), sample.dead_letters > 0 ? "watch" : ""],
    ["stores", "Stores", missing ?? "both answer", "MySQL and Redis", missing ? "trouble" : ""],
    ["workers", "Workers", count(workers), sample.paused ? "held: the queue is paused" : hung ? `${hung} of ${workers} ${verb(hung, "hangs", "hang")}` : known(workers, "connected"), workers === 0 || hung ? "trouble" : ""],
  ];
}

function fillWords(depth, capacity) {
  if (depth < 0.001 * capacity) return depth ? "the queue is nearly empty" : "the queue is empty";
  return `queue: ${share(depth / capacity)} of ${count(capacity)}`;
}

const known = (value, text) => (value == null ? "" : text);

const awayWords = (sample) => (away(sample) ? `${away(sample)} away` : null);

/** Views that are settled: in MySQL, set aside or lost. What is accepted and not settled waits. */
function settled({ accepted, persisted, pending, dead, lost }) {
  if (persisted != null) return persisted + dead + lost;
  return accepted == null || pending == null ? null : accepted - pending;
}
const waiting = ({ pending }) => pending;

function makePlots(signal) {
  let since = 0;
  const x = () => [Math.min(since, live.sample.at - LEAST_SPAN_SECONDS), live.sample.at];
  const shades = () => spans(live.samples, (s) => [awayWords(s), s.paused && "paused"].filter(Boolean).join(", "));
  const range = { x };
  const of = (options) => plot({ range, shades, signal, ...options });

  const views = of({
    name: "Views accepted and in MySQL",
    height: 210,
    top: 10,
    axis: short,
    series: [
      { label: "accepted", color: "--line-wide", width: 6, words: count },
      { label: "in MySQL (or set aside)", color: "--line", width: 2, words: count },
    ],
    bands: [{ series: [1, 2], fill: "--gap" }],
  });
  const gap = of({ name: "Views that wait", height: 90, axis: short, top: () => Math.max(10, (live.sample.accepted - (live.samples[0].accepted ?? live.sample.accepted)) * OVERLAY || 10), series: [{ label: "wait", color: "--bad-line", fill: "--gap", words: count }] });
  const age = of({ name: "Age of the oldest view", axis: duration, steps: SECONDS, top: 10, series: [{ label: "waits for", color: "--line", width: 2, fill: "--bar", words: duration }] });
  const hits = of({ name: "Hit ratio", axis: (v) => `${Math.round(100 * v)} %`, range: { x, y: () => [0, 1] }, series: [{ label: "from the cache", color: "--line", words: share }] });
  const latency = of({
    name: "Latency",
    axis: duration,
    steps: SECONDS,
    top: 0.01,
    series: [
      { label: "p99", color: "--line", width: 2, words: duration },
      { label: "p50", color: "--second", dash: [4, 3], words: duration },
    ],
  });
  const memory = of({
    name: "Memory of Redis",
    axis: bytes,
    steps: POWERS,
    series: [
      { label: "used", color: "--line", width: 2, words: bytes },
      { label: "limit", color: "--bad-line", dash: [6, 4], words: bytes },
    ],
  });

  const draws = [
    (samples, sample) => {
      since = samples[0].at;
      const first = samples.find((s) => s.accepted != null)?.accepted ?? 0;
      const from = (value) => (value == null ? null : value - first);
      // The lines begin where views of before still waited: below nought would be hard to read.
      const low = Math.min(0, ...samples.map((s) => from(settled(s)) ?? 0));
      views.draw(columns(samples, [(s) => raise(from(s.accepted), low), (s) => raise(from(settled(s)), low)]), viewsSentence(samples, sample));
      gap.draw(columns(samples, [waiting]), waitSentence(samples, sample));
    },
    (samples, sample) => {
      const { pending, oldest_age: oldest } = sample;
      const now = pending === 0 ? "Now none waits" : oldest == null ? "It is not known now" : `Now the oldest view waits for ${duration(oldest)}`;
      age.draw(columns(samples, [(s) => s.oldest_age ?? (s.pending === 0 ? 0 : null)]), `${now}${most(samples, (s) => s.oldest_age, duration)}.`);
    },
    (samples, sample) => hits.draw(columns(samples, [(s) => s.hit_ratio]), hitSentence(samples, sample)),
    (samples, sample) => {
      const told = sample.p99 == null ? `No request in the last ${RATES_SECONDS} s` : `Now 99 of 100 requests are answered within ${duration(sample.p99)}, half within ${duration(sample.p50)}`;
      latency.draw(columns(samples, [(s) => s.p99, (s) => s.p50]), `${told}${most(samples, (s) => s.p99, duration, "p99")}.`);
    },
    (samples, sample) => {
      const limit = (s) => s.redis_limit || null;
      const of = sample.redis_limit > 0 ? ` of ${bytes(sample.redis_limit)}, ${share(sample.redis_used / sample.redis_limit)}` : "; no limit is set";
      const now = sample.redis_used == null ? "It is not known now" : `Now ${bytes(sample.redis_used)}${of}`;
      memory.draw(columns(samples, [(s) => s.redis_used, limit]), `${now}${most(samples, (s) => s.redis_used, bytes)}.`);
    },
  ];
  const main = h("div.plots.main", {}, h("div.card", {}, views.element, gap.element));
  return { draws, element: [main, h("div.plots", {}, [age, hits, latency, memory].map(({ element }) => h("div.card", {}, element)))] };
}

const raise = (value, low) => (value == null ? null : value - low);

/** Numbers of an axis have little room. */
const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 1 });
const short = (value) => compact.format(value);

function viewsSentence(samples, sample) {
  if (sample.pending == null) return "What waits is not known while a store is away; the lines end where it was known last.";
  const grown = (pick) => pick(sample) - pick(samples.find((s) => pick(s) != null) ?? sample);
  const aside = grown((s) => s.dead);
  if (!grown((s) => s.accepted) && !sample.pending) return "The lines overlay: no view was accepted in this time, and none waits.";
  const told = `In this time ${count(grown((s) => s.accepted))} were accepted and ${count(grown(settled) - aside)} came into MySQL${aside ? `, ${count(aside)} were set aside` : ""}.`;
  if (sample.pending === 0) return `The lines overlay: none waits. ${told}`;
  const oldest = sample.oldest_age == null ? "" : `, the oldest for ${duration(sample.oldest_age)}`;
  const waits = `${count(sample.pending)} ${verb(sample.pending, "waits", "wait")}${oldest}`;
  const apart = sample.pending > OVERLAY * grown((s) => s.accepted) && sample.oldest_age > 2;
  return apart ? `The lines are apart: ${waits}. ${told}` : `The lines overlay: ${waits}. ${told}`;
}

function waitSentence(samples, sample) {
  const { pending } = sample;
  const now = pending == null ? "How many wait is not known now" : pending ? `Now ${counted(pending, "view")} ${verb(pending, "waits", "wait")}` : "Now none waits";
  return `${now}${most(samples, waiting, count)}.`;
}

function hitSentence(samples, sample) {
  const known = samples.map((s) => s.hit_ratio).filter((v) => v != null);
  if (!known.length) return "No product was read in this time.";
  const now = sample.hit_ratio == null ? "None read now" : `Now ${share(sample.hit_ratio)} of reads are answered from the cache`;
  return `${now}; least ${share(Math.min(...known))}.`;
}

/** "; at most 63 s, at 10:04:12 UTC" */
function most(samples, pick, say, what = "") {
  const top = samples.reduce((best, s) => (pick(s) != null && (!best || pick(s) > pick(best)) ? s : best), null);
  if (!top || pick(top) === 0) return "";
  return `; ${what ? `${what} ` : ""}at most ${say(pick(top))}, at ${clock(top.at, live.sample.at)}`;
}
