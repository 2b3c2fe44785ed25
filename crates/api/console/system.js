// System: which programs run with which settings, how the stores are, and what `inventoryctl doctor` would say.

import { action, awaited, command, fill, h, mark, section, showFigures, table } from "./dom.js";
import { now } from "./live.js";
import { loadNote } from "./note.js";
import { clock, duration, seconds } from "./words.js";

const EVERY_SECONDS = 10;

/** Doctor asks both servers dozens of questions. */
const EXAMINE_SECONDS = 120;

/** Worst first. */
const STATES = { bad: ["trouble", "bad"], warn: ["watch", "warn"], note: ["unknown", "note"], ok: ["well", "ok"] };
const ORDER = Object.keys(STATES);

export function system(page) {
  const [note, examined] = [loadNote(), loadNote()];
  const [programs, health, settings, findings] = [awaited(), awaited(), awaited(), h("div")];
  page.poll(EVERY_SECONDS, () =>
    note.load(async () => {
      const state = await page.get("/system");
      showFigures(programs, programFigures(state));
      fill(health, state.health, () => healthTable(state.health));
      fill(settings, state.settings, () => settingsTable(state.settings));
    }),
  );
  const examine = page.poll(EXAMINE_SECONDS, () =>
    examined.load(async () => {
      const { data } = await page.get("/doctor");
      fill(findings, data, () => findingList(data));
    }),
  );
  findings.append(h("p.hint", {}, "Examining the servers…"));
  const again = action("Examine again", examine);
  return [
    note.element,
    section("Programs", programs),
    section("Health", health),
    section("What doctor finds", examined.element, again.row, findings),
    section("Settings", settings),
  ];
}

function programFigures({ build, started_at: started, uptime_seconds: uptime, schema, shards }) {
  return [
    ["version", "Version", build.version, build.commit ? `commit ${build.commit}` : ""],
    ["binary", "Program", build.binary],
    ["uptime", "Runs for", duration(uptime), `since ${clock(seconds(started), now())}`],
    ["schema", "Schema", schema?.version == null ? "not known" : String(schema.version), "of the database"],
    ["shards", "Shards", shards == null ? "not known" : String(shards), "queues of views"],
  ];
}

const READY = { ready: ["well", "ready"], degraded: ["watch", "degraded"], unready: ["trouble", "not ready"] };
const STORE = { up: "well", down: "trouble", awaited: "watch", refused: "trouble" };

function healthTable({ readiness, draining, components = {}, facts = {} }) {
  const rows = Object.entries(components).map(([name, { state, reason, for_seconds: since }]) => [name, mark(STORE[state] ?? "unknown", state), duration(since), reason ?? "–"]);
  const [state, word] = READY[readiness] ?? ["unknown", readiness];
  return [
    h("p.told", {}, mark(state, word), draining ? " It is ending: requests should go elsewhere." : ""),
    table("Health of the stores", ["Store", "State", "For", "Why"], rows),
    Object.keys(facts).length > 0 && table("Facts", ["Fact", "Value"], Object.entries(facts)),
  ];
}

function settingsTable(settings) {
  return table("Settings", ["Name", "Value", "From"], settings.map((each) => [h("code", {}, each.name), h("code", {}, each.value === null ? "–" : String(each.value)), each.source]));
}

function findingList(data) {
  const worst = [...data].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
  const counts = ORDER.map((state) => `${data.filter((each) => each.state === state).length} ${state}`).join(", ");
  return [h("p", {}, `${counts}.`), h("ul.findings", { "aria-label": "Findings" }, worst.map(finding))];
}

function finding({ subject, check, state, found, rests, lost, cure }) {
  const [shape, word] = STATES[state] ?? ["unknown", state];
  const deviates = state === "bad" || state === "warn";
  const lines = cure.map(({ at, line }) => (at === "do" ? h("p.remedy", {}, line) : h("p.next", {}, h("span", {}, `${at}: `), command(line))));
  return h(
    "li",
    { "data-state": state },
    h("p", {}, mark(shape, word), " ", h("strong", {}, `${subject} ${check}`), `: ${found}`),
    deviates && rests && h("p.hint", {}, `Rests on it: ${rests}`),
    lost && h("p", {}, `As it stands: ${lost}`),
    lines,
  );
}
