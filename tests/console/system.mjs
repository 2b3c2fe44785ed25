// Checks and system: whether the books balance, and what runs here with which settings.

import assert from "node:assert/strict";

export async function checks(visit) {
  const { page } = visit;
  const run = async (products) => {
    await page.getByRole("spinbutton", { name: "Products to compare" }).fill(products);
    await visit.button("Run a check").click();
  };
  await visit.step("checks: the account of the views adds up", async () => {
    await visit.open("checks");
    const account = visit.region("Account of the views");
    await visit.shows(account.locator(".sum"), /accepted = .* in MySQL \+ .* pending \+ .* set aside \+ .* lost/s);
    await visit.until("it adds up", async () => (await page.locator("[data-adds-up=true]").count()) === 1);
  });
  await visit.step(
    "checks: a number of products that cannot be is refused beside its field",
    async () => {
      await run("1001");
      await visit.shows(visit.refusal(visit.region("Compare the stores")), /1,?000/);
    },
    { statuses: [422] },
  );
  await visit.step("checks: what is no number is refused there without asking", async () => {
    await run("");
    await visit.shows(visit.refusal(visit.region("Compare the stores")), /^Write a whole number/);
  });
  await visit.step("checks: one is run and reports what it compared", async () => {
    await run("20");
    const report = visit.region("Report").getByRole("table", { name: "Report of the check" });
    await visit.shows(report, /Products compared\s+[1-9]/);
  });
  await visit.step("checks: is for everybody, light, dark and small", () => visit.look("checks"));
}

export async function system(visit) {
  const { page } = visit;
  const findings = page.getByRole("list", { name: "Findings" }).locator("li[data-state]");
  await visit.step("system: shows versions, health, settings and their source, and what doctor finds, worst first", async () => {
    await visit.open("system");
    await visit.shows(visit.region("Programs"), /version/i);
    await visit.shows(page.getByRole("table", { name: "Health of the stores" }), /mysql/i);
    await visit.shows(page.getByRole("table", { name: "Settings" }), new RegExp(`INVENTORY_API_OPS_LISTEN\\s+${visit.host}\\s+environment`));
    await findings.first().waitFor();
    const order = ["bad", "warn", "note", "ok"];
    const states = await findings.evaluateAll((items) => items.map((item) => item.dataset.state));
    assert.deepEqual(states, [...states].sort((a, b) => order.indexOf(a) - order.indexOf(b)));
    assert(states.every((state) => order.includes(state)), `${states}`);
  });
  await visit.step("system: a password in a setting is not shown", async () => {
    const settings = await page.getByRole("table", { name: "Settings" }).innerText();
    assert.match(settings, /INVENTORY_MYSQL_URL/);
    assert.doesNotMatch(settings, /never-shown/);
  });
  await visit.step("system: is for everybody, light, dark and small", () => visit.look("system"));
  await visit.step("system: is examined again", async () => {
    await visit.button("Examine again").click();
    await findings.first().waitFor();
  });
}
