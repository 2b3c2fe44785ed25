// Product and stock: what the shop sells, and whether the three places that know it agree.

import assert from "node:assert/strict";

const FIND = "SKU, or id:42";

/** Product 7 is P7 and has had three prices; nobody reads or views it meanwhile. */
export async function product(visit) {
  const { page } = visit;
  const places = visit.region("In three places");
  const look = async (which) => {
    await page.getByRole("textbox", { name: FIND }).fill(which);
    await visit.button("Look up").click();
  };
  await visit.step("product: is found by its SKU and by its id", async () => {
    await visit.open("product");
    await look("P7");
    await visit.shows(page.getByRole("heading", { level: 2, name: /^P7: / }), /Product 7/);
    assert.equal(new URL(page.url()).search, "?sku=P7");
    await look("id:8");
    await page.getByRole("heading", { level: 2, name: /^P8: / }).waitFor();
    assert.equal(new URL(page.url()).search, "?id=8");
  });
  await visit.step(
    "product: what does not exist is told beside the field",
    async () => {
      for (const which of ["NOTHING-OF-THE-KIND", "id:4000000", "id:x"]) {
        await look(which);
        await visit.shows(visit.refusal(page.getByRole("search", { name: "Find a product" })), /\w/);
        assert.equal(await page.getByRole("textbox", { name: FIND }).inputValue(), which, "what was typed stays");
      }
    },
    { statuses: [400, 404] },
  );
  await visit.step("product: MySQL, Redis and the API agree; prices, views and movements are shown", async () => {
    await page.goto(`${visit.origin}/console/product?sku=P7`);
    await page.getByRole("heading", { level: 2, name: /^P7: / }).waitFor();
    assert.equal(await places.getAttribute("data-differs"), "false");
    const compared = await visit.shows(page.getByRole("table", { name: "MySQL, Redis and the API side by side" }), /\bprice\b/i);
    assert.doesNotMatch(compared, /differs/);
    await visit.shows(visit.region("Prices"), /3\.50/);
    await page.getByRole("figure", { name: "Price", exact: true }).locator("canvas").first().waitFor();
    await page.getByRole("figure", { name: "Views by hour", exact: true }).locator("canvas").first().waitFor();
    await visit.shows(page.getByRole("table", { name: "Movements" }), /count/);
  });
  await visit.step("product: is for everybody, light, dark and small", () => visit.look("product"));
  await visit.step("product: what differs in Redis is marked by a word, and is right again once it is invalidated", async () => {
    if (!(await visit.asks("spoil the entry of product 7"))) return;
    const answered = (settle) => page.waitForResponse((response) => response.url().endsWith(`id=7&settle=${settle}`));
    const [first, last] = [answered(false), answered(true)];
    await look("id:7");
    assert.equal((await (await first).json()).settled, false, "shown at once");
    assert.equal((await (await last).json()).settled, true);
    await visit.until("it differs", async () => (await places.getAttribute("data-differs")) === "true");
    await visit.shows(page.locator("tr[data-differs]").filter({ hasText: /price/i }).first(), /differs/);
    await visit.look("product-differs");
    await visit.button("Invalidate in the cache").click();
    await visit.shows(visit.outcome(places), /1 entry dropped/);
    await visit.until("nothing differs", async () => (await places.getAttribute("data-differs")) === "false");
    await visit.asks("see that the entry of product 7 is gone or right");
  });
}

/** Products 1 to 20 have as many pieces as their number; one reservation ends in minutes, one in an hour. */
export async function stock(visit) {
  const { page } = visit;
  const [lowest, reservations] = ["Lowest available", "Reservations by expiry"].map((name) => page.getByRole("table", { name }));
  await visit.step("stock: the lowest come first, and the reservation that ends first", async () => {
    await visit.open("stock");
    await visit.shows(lowest.getByRole("row").nth(1), /P1\b/);
    await visit.shows(reservations.getByRole("row").nth(1), /cart-soon/);
    await visit.shows(reservations.getByRole("row").nth(2), /cart-later/);
  });
  await visit.step("stock: the time that a reservation has left runs down", async () => {
    const left = reservations.locator("td[data-expires]").first();
    const before = await left.innerText();
    await visit.until("it is less", async () => (await left.innerText()) !== before);
    await visit.button("Refresh").click();
    await visit.shows(lowest.getByRole("row").nth(1), /P1\b/);
  });
  await visit.step("stock: is for everybody, light, dark and small", () => visit.look("stock"));
}
