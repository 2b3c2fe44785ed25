// Overview, queue and dead letters: the way of the views, seen, held, let go, and what fell off it picked up.

import assert from "node:assert/strict";
import { PAGES } from "./browser.mjs";

const PLOTS = ["Views accepted and in MySQL", "Age of the oldest view", "Hit ratio", "Latency", "Memory of Redis"];

/** Traffic flows and letters lie there. */
export async function overview(visit) {
  const { page } = visit;
  await visit.step("overview: opens and is live", async () => {
    await visit.open("overview");
    await visit.shows(page.locator("#connection"), /^live$/);
  });
  await visit.step("overview: says that dead letters are there, what they are, and the command that shows them", async () => {
    const verdict = visit.region("Verdict");
    await visit.shows(page.getByRole("main"), /dead letters?/i);
    await visit.shows(verdict.getByRole("heading", { level: 2 }), /^Watch$/);
    await visit.shows(verdict.locator(".sentence"), /\w+ \w+/);
    await visit.shows(verdict.locator("code.command").first(), /^inventoryctl /);
  });
  await visit.step("overview: its figures follow the traffic", async () => {
    const before = await visit.figure("accepted");
    assert(before > 0, `${before} views accepted`);
    await visit.until("more views are accepted", async () => (await visit.figure("accepted")) > before);
    await visit.until("more views are in MySQL", async () => (await visit.figure("persisted")) > before);
    assert.equal(await visit.figure("workers"), 1);
  });
  await visit.step("overview: says of when its figures are, of how many seconds the rates, and how full the queue is", async () => {
    const now = visit.region("Now");
    const moment = () => now.locator(".heading .hint").innerText();
    const before = await visit.shows(now.locator(".heading"), /At \d\d:\d\d:\d\d UTC\. Rates, latencies and the hit ratio are those of the last 10 s\./);
    await visit.until("the time goes on", async () => !before.includes(await moment()));
    await visit.shows(page.locator("[data-figure=pending]"), /the queue is (nearly )?empty|queue: .* % of 5,000,000/);
  });
  await visit.step("overview: each plot is drawn and says its figures in a sentence", async () => {
    for (const name of PLOTS) {
      const plot = page.getByRole("figure", { name, exact: true });
      await visit.shows(plot.locator("figcaption"), /\d/);
      const { width, height } = await plot.locator("canvas").first().boundingBox();
      assert(width > 100 && height > 50, `${name} is ${width} x ${height}`);
    }
  });
  await visit.step("overview: is walked with the keyboard alone", async () => {
    const focused = () => page.evaluate(() => document.activeElement.textContent.trim());
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "Skip to the content");
    for (const { title } of Object.values(PAGES)) {
      await page.keyboard.press("Tab");
      assert.equal(await focused(), title);
    }
    await page.keyboard.press("Enter");
    await visit.heading("System").waitFor();
    await page.goBack();
    await visit.heading("Overview").waitFor();
  });
  await visit.step("overview: is for everybody, light, dark and small", () => visit.look("overview"));
}

export async function queue(visit) {
  const { page } = visit;
  const paused = visit.region("Queue paused");
  await visit.step("queue: shows where views are, each shard and the worker", async () => {
    await visit.open("queue");
    await visit.until("capacity is known", async () => (await visit.figure("accepted")) > 0);
    const shards = page.getByRole("table", { name: "Shards", exact: true }).getByRole("row");
    await visit.until("there are four shards below their heads", async () => (await shards.count()) === 1 + 4);
    await visit.shows(page.getByRole("table", { name: "Workers", exact: true }), /inventory-worker:\d+/);
  });
  await visit.step("queue: is for everybody, light, dark and small", () => visit.look("queue"));
  await visit.step("queue: does not pause after Cancel", async () => {
    await visit.button("Pause the queue").click();
    const dialog = page.getByRole("dialog", { name: "Pause the queue" });
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await dialog.waitFor({ state: "hidden" });
    assert.equal(await paused.count(), 0);
  });
  const pause = async (reason) => {
    await visit.button("Pause the queue").click();
    const dialog = page.getByRole("dialog", { name: "Pause the queue" });
    await dialog.getByRole("textbox", { name: "Reason" }).fill(reason);
    await dialog.getByRole("button", { name: "Pause", exact: true }).click();
  };
  await visit.step(
    "queue: a reason that cannot be is refused beside its field",
    async () => {
      await pause("");
      const dialog = page.getByRole("dialog", { name: "Pause the queue" });
      await visit.shows(visit.refusal(dialog), /characters/);
      await dialog.getByRole("button", { name: "Cancel" }).click();
    },
    { statuses: [422] },
  );
  await visit.step("queue: pauses, and says why", async () => {
    await pause("a new disk");
    await visit.shows(paused, /paused since .* by .*: a new disk/);
    await visit.asks("see that the queue is paused");
  });
  await visit.step("queue: every page says that it is paused, since when, by whom and why", async () => {
    for (const name of Object.keys(PAGES)) {
      await visit.follow(name);
      await visit.shows(paused, /paused since .* by .*: a new disk/);
    }
    await visit.open("overview");
    await visit.shows(visit.region("Verdict"), /paused/i);
    await visit.look("paused");
  });
  await visit.step(
    "queue: a flush of a paused queue says why it cannot end, beside its button",
    async () => {
      await visit.follow("queue");
      await page.getByRole("combobox", { name: "Wait at most" }).selectOption({ index: 0 });
      await visit.button("Flush the queue").click();
      await visit.shows(visit.refusal(visit.region("Flush")), /paused/);
    },
    { statuses: [503] },
  );
  await visit.step("queue: goes on from the banner of any page", async () => {
    await visit.follow("system");
    await paused.getByRole("button", { name: "Resume the queue" }).click();
    await paused.waitFor({ state: "detached" });
    await visit.asks("see that the queue is not paused");
  });
  await visit.step("queue: goes on from its own page, too", async () => {
    await visit.follow("queue");
    // One long word, as a link to a ticket is.
    await pause("x".repeat(200));
    await visit.shows(paused, /x{200}/);
    await visit.look("paused-long");
    await visit.region("Pause").getByRole("button", { name: "Resume", exact: true }).press("Enter");
    await paused.waitFor({ state: "detached" });
    await visit.until("the focus stays where the button was", () => visit.hasFocus("Pause"));
    await visit.asks("see that the queue is not paused");
  });
  await visit.step("queue: a flush brings all that was accepted to MySQL, and says so", async () => {
    await visit.asks("note what is accepted");
    let flushes = 0;
    page.on("request", (request) => request.url().includes("/queue/flush") && (flushes += 1));
    await visit.button("Flush the queue").dblclick();
    await visit.shows(visit.outcome(visit.region("Flush")), /\d/);
    assert.equal(flushes, 1, "a double click is one");
    await visit.asks("see that it is in MySQL");
  });
}

/** Views of products 40 and 80, which did not exist, and a text. By now there is a product 40. */
export async function deadLetters(visit) {
  const { page } = visit;
  const table = page.getByRole("table", { name: "Dead letters" });
  const groups = async () => (await table.getByRole("row").count()) - 1;
  await visit.step("dead letters: are grouped by reason and product", async () => {
    await visit.open("dead-letters");
    await visit.until("three groups are listed", async () => (await groups()) === 3);
    await visit.shows(table, /\b40\b/);
  });
  await visit.step("dead letters: is for everybody, light, dark and small", () => visit.look("dead-letters"));
  await visit.step("dead letters: views of a product that exists by now are replayed", async () => {
    await visit.button(/^Replay unknown.product of product 40$/).click();
    await visit.shows(visit.outcome(visit.region("Outcome")), /5 views/);
    await visit.until("its row is gone", async () => (await groups()) === 2);
    await visit.asks("see that the views of product 40 are replayed");
  });
  await visit.step("dead letters: a drop says what it gives up, and Cancel keeps it", async () => {
    await visit.button("Drop unparsable").click();
    const dialog = page.getByRole("dialog", { name: "Drop dead letters" });
    await visit.shows(dialog, /1 letter[^]*cannot be undone/);
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await dialog.waitFor({ state: "hidden" });
    assert.equal(await groups(), 2);
  });
  await visit.step("dead letters: what is dropped is gone", async () => {
    for (const [name, left] of [["Drop unparsable", 1], ["Drop all", 0]]) {
      await visit.button(name).click();
      await page.getByRole("dialog", { name: "Drop dead letters" }).getByRole("button", { name: "Drop for good" }).click();
      if (!left) continue;
      await visit.until("its row is gone", async () => (await groups()) === left);
      await visit.until("the focus stays beside where it was", () => visit.hasFocus("By reason and product"));
    }
    await visit.shows(page.getByRole("main"), /There are no dead letters\./);
    await visit.asks("see that all other letters are dropped");
  });
}

/** Nothing is left to be seen to. */
export async function well(visit) {
  await visit.step("overview: says that all is well once it is", async () => {
    await visit.open("overview");
    const said = await visit.shows(visit.region("Verdict").locator(".sentence"), /^(All is well:|Answers are slow:)/);
    // On a machine that does much else the shop may be slow, and then it is right to say so.
    if (said.startsWith("All")) await visit.shows(visit.region("Verdict").getByRole("heading", { level: 2 }), /^Well$/);
    await visit.look("well");
  });
}
