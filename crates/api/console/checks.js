// Checks: does the account of the views add up, and do MySQL, Redis and the API say the same?

import { action, awaited, command, field, fill, h, mark, number, section, table, tellFaults, when } from "./dom.js";
import { post } from "./api.js";
import { now } from "./live.js";
import { loadNote } from "./note.js";
import { count, counted, duration } from "./words.js";

const EVERY_SECONDS = 3;

export function checks(page) {
  const note = loadNote();
  const [sum, report] = [awaited(), awaited()];
  const again = page.poll(EVERY_SECONDS, () =>
    note.load(async () => {
      const { account, last } = await page.get("/checks");
      fill(sum, account, () => accountSum(account));
      fill(report, [last], () => reportOf(last));
    }),
  );
  return [note.element, section("Account of the views", sum), section("Compare the stores", runForm(again)), section("Report", report)];
}

function accountSum({ accepted, persisted, pending, dead, lost, twice, drift }) {
  if (accepted == null) return h("p.empty", {}, "Not known: a store does not answer.");
  const wrong = drift !== 0;
  const parts = [
    ["in MySQL", persisted],
    ["pending", pending],
    ["set aside", dead],
    ["lost", lost],
  ];
  const words = wrong
    ? `It does not add up: ${count(Math.abs(drift))} ${drift > 0 ? "accepted views are nowhere" : "views are counted beyond what was accepted"}. While views come in it may be so for a moment; at rest it must be 0.`
    : "It adds up: every accepted view is in one of these places, and none twice.";
  return h(
    "div",
    { "data-adds-up": String(!wrong) },
    h("p.sum", {}, h("strong", {}, count(accepted)), " accepted ", wrong ? "≠" : "=", parts.map(([name, value], n) => [n ? " + " : " ", h("strong", {}, count(value)), ` ${name}`])),
    h("p.told", {}, mark(wrong ? "trouble" : "well", wrong ? "Drift" : "Adds up"), " ", words),
    h("p.hint", {}, `drift ${count(drift)}, counted twice ${count(twice)}`),
  );
}

function runForm(again) {
  const input = h("input", { type: "number", value: "200", inputmode: "numeric" });
  const sample = field("Products to compare", input, "Spread over the catalogue; 1 to 1,000.");
  const run = action("Run a check", async () => {
    sample.tell("");
    if (Number.isNaN(input.valueAsNumber)) {
      sample.tell("Write a whole number from 1 to 1,000.");
      input.focus();
      return "";
    }
    try {
      const report = await post("/checks", { sample: input.valueAsNumber });
      again();
      return `Done in ${duration(report.took_seconds)}: ${faultWords(report)}.`;
    } catch (problem) {
      if (!problem?.errors) throw problem;
      tellFaults(problem, { "/sample": sample }, run.refusal);
      return "";
    }
  }, { kind: "primary", progress: "Comparing…" });
  const form = h("form", { novalidate: true, onsubmit: (event) => (event.preventDefault(), run.run()) }, sample.element, run.row);
  return [h("p", {}, "Compares products in MySQL, Redis and the API, adds up views and stock. Changes nothing; what a write under way makes differ is looked at again."), form, h("p.hint", {}, "All of them, with repair: ", command("inventoryctl check --full --repair"))];
}

function faults({ mismatches, account_faults: account, stock_faults: stock }) {
  return mismatches + account + stock;
}

function faultWords(report) {
  return faults(report) ? `${counted(faults(report), "fault")} found` : "nothing differs";
}

function reportOf(last) {
  if (!last) return h("p.empty", {}, "None was run since this API started.");
  const wrong = faults(last) > 0;
  const row = (value, name, means, isFault) => [name, h("td.number", { class: isFault && value > 0 ? "number other" : "number" }, count(value)), means];
  const rows = [
    row(last.products_compared, "Products compared", "in MySQL and through the API"),
    row(last.found_in_redis, "Found in Redis", "the others had no entry"),
    row(last.mismatches, "Differ", "the three places do not say the same", true),
    row(last.account_faults, "Faults of the account", "views that are missing or counted twice", true),
    row(last.stock_faults, "Faults of stock", "stock that movements and reservations do not explain", true),
    row(last.earlier_keys, "Keys of earlier runs", "left in the cache by a Redis of before; nobody reads them"),
  ];
  return [
    h("p.told", {}, mark(wrong ? "trouble" : "well", wrong ? "Faults" : "In order"), ` ${faultWords(last)}, in ${duration(last.took_seconds)}. `, when(last.at, now())),
    table("Report of the check", ["What", number("How many"), "Means"], rows),
    last.told?.length < faults(last) && h("p.hint", {}, "The first of them in words; all by inventoryctl check."),
    last.told?.length > 0 && h("ul.told-lines", { "aria-label": "What differs" }, last.told.map((line) => h("li", {}, line))),
  ];
}
