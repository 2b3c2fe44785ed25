// What the console shows when something is not as it should be: no token, no drain, no API.

import assert from "node:assert/strict";
import { PAGES } from "./browser.mjs";

/** The listener asks for a token: inv_secret-of-admin has the scope, inv_secret-of-page does not. */
export async function token(visit) {
  const { page } = visit;
  const asked = visit.region("Token");
  const use = async (secret) => {
    await asked.getByLabel("Token", { exact: true }).fill(secret);
    await asked.getByRole("button", { name: "Use this token" }).click();
  };
  await visit.step(
    "token: is asked for on every page, and nothing is shown without",
    async () => {
      for (const name of Object.keys(PAGES)) {
        await page.goto(visit.origin + PAGES[name].address);
        await asked.waitFor();
        assert.equal(await page.locator("[data-figure]").count(), 0);
      }
      await visit.open("overview");
      await visit.shows(page.locator("#connection"), /^token needed$/);
      await visit.look("token");
    },
    { statuses: [401] },
  );
  await visit.step(
    "token: a wrong one, and one without the scope, are refused beside the field",
    async () => {
      for (const [secret, told] of [["inv_secret-of-nobody", /token/i], ["inv_secret-of-page", /admin/]]) {
        await use(secret);
        await visit.shows(visit.refusal(asked), told);
        const field = asked.getByLabel("Token", { exact: true });
        const described = await field.evaluate((field) =>
          (field.getAttribute("aria-describedby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent).join(" "),
        );
        assert.match(described, told, "who hears the field hears the refusal");
      }
      await visit.look("token-refused");
    },
    { statuses: [401, 403] },
  );
  await visit.step(
    "token: the right one opens every page, until it is forgotten",
    async () => {
      await use("inv_secret-of-admin");
      await visit.shows(page.locator("#connection"), /^live$/);
      for (const name of Object.keys(PAGES)) await visit.follow(name);
      await page.reload();
      await visit.shows(page.locator("#connection"), /^live$/);
      assert.equal(await page.evaluate(() => document.cookie + JSON.stringify(localStorage)), "{}");
      assert.doesNotMatch(page.url(), /secret/);
      await page.getByRole("contentinfo").getByRole("button", { name: "Forget the token" }).click();
      await asked.waitFor();
    },
    { statuses: [401] },
  );
}

/** Views come, and the one worker hangs. */
export function stopped(visit) {
  return noDrain(visit, /the one worker that is connected hangs/);
}

/** Views come, and there is no worker. */
export function absent(visit) {
  return noDrain(visit, /no worker is connected/);
}

async function noDrain(visit, why) {
  const verdict = visit.region("Verdict");
  await visit.step("stopped: the overview says so, that views wait, and the command to type", async () => {
    await visit.open("overview");
    await visit.shows(verdict.getByRole("heading", { level: 2 }), /^Trouble$/);
    await visit.shows(verdict.locator(".sentence"), why);
    await visit.shows(verdict.locator(".remedy"), /worker|log/);
    await visit.shows(verdict.locator("code.command").first(), /^systemctl restart inventory-worker$/);
    assert.match(await visit.page.title(), /^Trouble: Overview/);
    assert((await visit.figure("pending")) > 0);
    await visit.look("stopped");
  });
  await visit.step("stopped: and that all is well again when a worker is there", async () => {
    if (!(await visit.asks("let a worker work"))) return;
    await visit.shows(verdict.getByRole("heading", { level: 2 }), /^Well$/);
    assert.match(await visit.page.title(), /^Overview/);
  });
}

/** The API goes away and comes back where it was. */
export async function unreachable(visit) {
  const { page } = visit;
  const banner = visit.region("No answer");
  await visit.step("unreachable: the page is live while the API is there", async () => {
    await visit.open("overview");
    await visit.shows(page.locator("#connection"), /^live$/);
    assert.equal(await banner.count(), 0);
  });
  await visit.step(
    "unreachable: it says since when no answer comes and how old its figures are, and recovers by itself",
    async () => {
      if (!(await visit.asks("kill the API"))) return;
      await visit.shows(banner, /has not answered since .*; figures are those of /);
      await visit.shows(page.locator("#connection"), /^no answer$/);
      await visit.look("unreachable");
      await visit.follow("queue");
      await visit.shows(banner, /has not answered since/);
      await visit.asks("start the API again");
      await visit.shows(page.locator("#connection"), /^live$/);
      await banner.waitFor({ state: "detached" });
      await visit.follow("overview");
      await visit.until("figures are there again", async () => (await visit.figure("accepted")) > 0);
    },
    { statuses: [503], broken: true },
  );
}
