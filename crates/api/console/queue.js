// Queue: where the accepted views are, by shard, and who takes them to MySQL; pause, resume and flush.

import { action, awaited, command, dialog, field, fill, h, mark, number, section, showFigures, table, tellFaults, when } from "./dom.js";
import { post } from "./api.js";
import { LATE_SECONDS, now } from "./live.js";
import { count, counted, duration, share } from "./words.js";
import { loadNote } from "./note.js";

const EVERY_SECONDS = 2;

export function queue(page) {
  const note = loadNote();
  const [views, hold, shards, workers] = [awaited(), awaited(), awaited(), awaited()];
  // The stream tells the figures while MySQL is away too, which the route needs.
  page.onLive(({ sample, paused }) => {
    if (sample) showFigures(views, figuresOf(sample));
    if (sample && note.failed()) showHold(hold, paused);
  });
  const again = page.poll(EVERY_SECONDS, () =>
    note.load(async () => {
      const state = await page.get("/queue");
      showHold(hold, state.paused);
      fill(shards, state.shards, () => shardTable(state.shards));
      fill(workers, [state.workers], () => workerTable(state.workers));
    }),
  );
  const pause = action("Pause the queue", () => askReason(again), { progress: "" });
  const resume = action("Resume", async () => {
    await post("/queue/resume");
    again();
    return "Resumed: workers go on within a second.";
  });
  function showHold(element, paused) {
    const controls = paused ? resume : pause;
    const other = paused ? pause : resume;
    fill(element, paused, () => [paused ? heldWords(paused) : h("p", {}, "A pause keeps every view out of MySQL, for maintenance of it say; views are still accepted and wait in Redis."), controls.row]);
    // What an earlier click came to stays until the other button is there and used.
    if (other.result.textContent && !controls.result.textContent) controls.result.replaceChildren(...other.result.childNodes);
  }
  return [
    note.element,
    section("Where the views are", views),
    h("div.pair", {}, section("Pause", hold), section("Flush", flushForm(again))),
    section("By shard", shards),
    section("Who drains it", workers),
  ];
}

function figuresOf(state) {
  const { depth, capacity, in_flight: inFlight, pending, oldest_age: age, accepted, persisted, dead, lost } = state;
  const of = capacity && depth != null ? `entries, ${share(depth / capacity)} of ${count(capacity)}` : "";
  return [
    ["depth", "Depth", count(depth), of, capacity && depth > 0.8 * capacity ? "trouble" : ""],
    ["pending", "Views that wait", count(pending), "accepted, and not in MySQL"],
    ["age", "The oldest waits for", pending === 0 ? "–" : duration(age), pending === 0 ? "none waits" : "and is not in MySQL yet", age > LATE_SECONDS ? "trouble" : ""],
    ["in-flight", "In batches", count(inFlight), "views that a worker is applying"],
    ["accepted", "Accepted", count(accepted)],
    ["persisted", "In MySQL", count(persisted)],
    ["dead", "Set aside", count(dead), "views in dead letters"],
    ["lost", "Lost", count(lost), "with a Redis", lost ? "trouble" : ""],
  ];
}

function heldWords({ since, by, reason }) {
  return h("p", {}, "Paused since ", when(since, now()), ` by ${by}: ${reason ?? "no reason was given"}.`);
}

function askReason(again) {
  return new Promise((resolve) => {
    const input = h("input", { type: "text", maxlength: "255", autocomplete: "off" });
    const reason = field("Reason", input, "For those who will find it paused; shown on every page.");
    const refusal = h("p.refusal", { role: "alert" });
    const submit = h("button.primary", { type: "submit" }, "Pause");
    const cancel = h("button", { type: "button", onclick: () => box.close() }, "Cancel");
    let done = "";
    async function pause(event) {
      event.preventDefault();
      if (submit.getAttribute("aria-disabled")) return;
      submit.setAttribute("aria-disabled", "true");
      try {
        const { changed } = await post("/queue/pause", { reason: input.value });
        done = changed ? "Paused: nothing reaches MySQL from now on." : "It was paused before, and stays so for the reason given then.";
        again();
        box.close();
      } catch (problem) {
        tellFaults(problem, { "/reason": reason }, refusal);
      } finally {
        submit.removeAttribute("aria-disabled");
      }
    }
    const form = h("form", { onsubmit: pause, novalidate: true }, reason.element, refusal, h("div.action", {}, submit, cancel));
    const box = dialog("Pause the queue", form, h("p.hint", {}, "In a terminal: ", command('inventoryctl queue pause --reason "…"')));
    box.addEventListener("close", () => resolve(done));
    input.focus();
  });
}

function flushForm(again) {
  const wait = h("select", {}, ["10s", "30s", "60s"].map((text) => h("option", { value: text }, text.replace("s", " s"))));
  const limit = field("Wait at most", wait);
  const flush = action("Flush the queue", async () => {
    const { took_seconds: took } = await post(`/queue/flush?wait=${wait.value}`);
    again();
    return `Flushed in ${duration(took)}: all views that were accepted before are in MySQL.`;
  }, { progress: "Waiting for the workers…" });
  return [h("p", {}, "Waits until MySQL has all that was accepted before."), limit.element, flush.row];
}

function shardTable(shards) {
  const batch = (batch) => (batch ? `${counted(batch.views, "view")} for ${duration(batch.age_seconds)}` : "none");
  const rows = shards.map((each) => [String(each.shard), count(each.entries), count(each.views_waiting), batch(each.batch), each.batch ? h("code", {}, each.batch.id) : "–"]);
  return table("Shards", ["Shard", number("Entries"), number("Views waiting"), "Batch that is being applied", "Its id"], rows);
}

function workerTable(workers) {
  if (workers === null) return h("p.empty", {}, "Not known: Redis does not show its list of clients.");
  const rows = workers.map((each) => [each.name, h("code", {}, each.address), duration(each.connected_seconds), each.hangs ? mark("trouble", `silent for ${duration(each.silent_seconds)}: it hangs`) : mark("well", "answers")]);
  return table("Workers", ["Name", "Address", number("Connected for"), "State"], rows, "None is connected: views are accepted, and nobody takes them to MySQL. Start inventory-worker.");
}
