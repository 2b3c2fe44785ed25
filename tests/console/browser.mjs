// The console in a real browser, watched: a step during which a page does what no page may do has failed.
//
// No request may go anywhere but to the ops listener, none may be refused, break off or be answered with an error that the step did
// not ask for, nothing may be written to the browser's console as an error or a warning, and no script may throw.

import assert from "node:assert/strict";
import { accessSync, constants, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";

/** How long anything is waited for: far above what it takes, even on a busy machine. */
const LIMIT_MS = 30_000;

const HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'none'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-cache",
};

const DESK = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };

/** Of axe-core: what the accessibility guidelines ask for, and what its makers have learnt beside them. */
const RULES = ["wcag2a", "wcag2aa", "best-practice"];

/** How Chromium words an answer with an error status, which it tells the console, too. */
const REFUSED = /^Failed to load resource: the server responded with a status of (\d+)/;
/** The same of a connection that was not there or broke. */
const BROKEN = /net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED)/;

function onPath(program) {
  const places = (process.env.PATH ?? "").split(path.delimiter).map((directory) => path.join(directory, program));
  const found = places.find((place) => {
    try {
      accessSync(place, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  assert(found, `${program} is not installed: on Debian type\n  apt-get install -y ${program}`);
  return found;
}

/** A browser with one page of the console. */
export class Visit {
  #faults = [];
  #allowed = { statuses: [], broken: false };
  #answers;

  /** `packages` is where npm put what package.json names; `asks`: somebody at our standard input does what we ask for. */
  static async begin({ ops, out, packages, asks }) {
    const require = createRequire(path.join(path.resolve(packages), "package.json"));
    const browser = await require("playwright-core").chromium.launch({
      executablePath: onPath("chromium"),
      // Its sandbox needs namespaces, which containers withhold, and refuses root, whom tests run as there. What it would hold in
      // is our own page: nothing else is loaded.
      chromiumSandbox: false,
      // Also what the browser itself would look up has no address.
      args: ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
    });
    const visit = new Visit();
    Object.assign(visit, { browser, out, asking: asks, origin: new URL(ops).origin, host: new URL(ops).host });
    const context = await browser.newContext({ viewport: DESK, colorScheme: "light", reducedMotion: "reduce", serviceWorkers: "block" });
    context.setDefaultTimeout(LIMIT_MS);
    // Not as an element of the page, which its policy would refuse.
    await context.addInitScript({ content: readFileSync(require.resolve("axe-core/axe.min.js"), "utf8") });
    await visit.#watch(context);
    visit.page = await context.newPage();
    return visit;
  }

  async #watch(context) {
    const fault = (text) => this.#faults.push(text);
    await context.route("**/*", (route) => {
      const url = route.request().url();
      if (new URL(url).origin === this.origin) return route.continue();
      fault(`a request to ${url}`);
      return route.abort();
    });
    context.on("console", (message) => {
      if (!["error", "warning"].includes(message.type()) || this.#isAllowed(message.text())) return;
      const { url, lineNumber } = message.location();
      fault(`the console says at ${url}:${lineNumber + 1}: ${message.text()}`);
    });
    context.on("weberror", (error) => fault(`a script threw ${error.error().stack ?? error.error()}`));
    context.on("response", (response) => {
      const status = response.status();
      if (status >= 400 && !this.#allowed.statuses.includes(status)) fault(`${status} to ${response.request().method()} ${response.url()}`);
    });
    context.on("requestfailed", (request) => {
      const why = request.failure()?.errorText ?? "";
      // What the page itself gives up, such as the stream of a page that is left.
      if (why !== "net::ERR_ABORTED" && !this.#isAllowed(why)) fault(`${why} of ${request.method()} ${request.url()}`);
    });
    context.on("page", (page) => page.on("websocket", (socket) => fault(`a socket to ${socket.url()}`)));
  }

  #isAllowed(text) {
    const status = REFUSED.exec(text)?.[1];
    return status ? this.#allowed.statuses.includes(Number(status)) : this.#allowed.broken && BROKEN.test(text);
  }

  /** Does `work` and prints a line; `allowed` says which error statuses it asks for, and whether connections may break. */
  async step(title, work, { statuses = [], broken = false } = {}) {
    const began = performance.now();
    this.#allowed = { statuses, broken };
    try {
      await work();
      assert.deepEqual(this.#faults, [], "the page did what no page may do");
    } catch (error) {
      await this.#tellPlace(title);
      throw error;
    }
    console.log(`ok ${title} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  }

  async #tellPlace(title) {
    console.log(`FAILED ${title}\n  at ${this.page.url()}\n  ${this.#faults.join("\n  ")}`);
    const picture = path.join(this.out, "failed.png");
    // The browser may be what failed.
    await this.page.screenshot({ path: picture, timeout: 5_000 }).then(() => console.log(`  seen: ${picture}`), () => {});
  }

  /** Asks whoever started us for something and waits until it is done; false where nobody is there. */
  async asks(what) {
    if (!this.asking) return false;
    this.#answers ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    console.log(`ask: ${what}`);
    const { value, done } = await this.#answers.next();
    assert(!done && value === "done", `asked for "${what}" and was told ${done ? "nothing" : value}`);
    return true;
  }

  /** Opens a page of the console as a link from elsewhere would. */
  async open(name) {
    const { address, title } = PAGES[name];
    const response = await this.page.goto(this.origin + address);
    assert.equal(response.status(), 200);
    for (const [header, value] of Object.entries(HEADERS)) assert.equal(response.headers()[header], value, header);
    await this.#hasArrived(title);
  }

  /** Goes to a page by the navigation. */
  async follow(name) {
    const { title } = PAGES[name];
    await this.page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: title, exact: true }).click();
    await this.#hasArrived(title);
    await this.until("the heading has the focus", () => this.heading(title).evaluate((heading) => heading === document.activeElement));
  }

  async #hasArrived(title) {
    await this.heading(title).waitFor();
    await this.until("the title says page and host", async () => {
      const said = await this.page.title();
      return said.includes(title) && said.includes(this.host);
    });
    const current = this.page.getByRole("navigation", { name: "Pages" }).locator("[aria-current=page]");
    assert.deepEqual(await current.allTextContents(), [title]);
    assert.equal(await this.page.getByRole("heading", { level: 1 }).count(), 1);
  }

  heading(title) {
    return this.page.getByRole("heading", { level: 1, name: title, exact: true });
  }

  region(name) {
    return this.page.getByRole("region", { name, exact: true });
  }

  /** Whether the heading of that region has the focus. */
  hasFocus(name) {
    return this.page.getByRole("heading", { level: 2, name, exact: true }).evaluate((heading) => heading === document.activeElement);
  }

  /** The refusal that somebody sees there. */
  refusal(within) {
    return within.getByRole("alert").filter({ hasText: /\S/ }).first();
  }

  /** How an action there went. */
  outcome(within) {
    return within.getByRole("status").filter({ hasText: /\S/ }).first();
  }

  button(name) {
    return this.page.getByRole("button", { name });
  }

  /** Waits until `within` shows what the pattern names, and returns all that it shows. */
  async shows(within, pattern) {
    let text = "";
    await this.until(`${within} shows ${pattern}`, async () => pattern.test((text = await within.innerText())), () => `, but ${text}`);
    return text;
  }

  /** Waits until the condition holds. */
  async until(what, condition, instead = () => "") {
    const end = performance.now() + LIMIT_MS;
    while (!(await condition())) {
      assert(performance.now() < end, `not within ${LIMIT_MS} ms: ${what}${instead()}`);
      await this.page.waitForTimeout(50);
    }
  }

  /** The number that a figure of the page shows. */
  async figure(name) {
    const text = await this.page.locator(`[data-figure=${name}] dd .figure`).first().innerText();
    const digits = /[\d,]+(\.\d+)?/.exec(text)?.[0].replaceAll(",", "");
    return digits === undefined ? NaN : Number(digits);
  }

  /** Judges the page as it stands, in light and dark and on a phone, and keeps a picture of each. */
  async look(name) {
    for (const colorScheme of ["light", "dark"]) {
      await this.page.emulateMedia({ colorScheme });
      await this.#isAccessible(colorScheme);
      await this.#photograph(`${name}-${colorScheme}`);
    }
    await this.page.emulateMedia({ colorScheme: "light" });
    await this.page.setViewportSize(PHONE);
    const width = () => this.page.evaluate(() => document.documentElement.scrollWidth);
    await this.until("the page fits a phone", async () => (await width()) <= PHONE.width);
    await this.#photograph(`${name}-phone`);
    await this.page.setViewportSize(DESK);
  }

  async #isAccessible(where) {
    const found = await this.page.evaluate(async (values) => {
      const { violations } = await globalThis.axe.run(document, { runOnly: { type: "tag", values } });
      const places = ({ target, failureSummary }) => `${target.join(" ")}: ${failureSummary}`;
      return violations.map(({ id, impact, nodes }) => ({ id, impact, places: nodes.map(places) }));
    }, RULES);
    const grave = found.filter(({ impact }) => ["serious", "critical"].includes(impact));
    assert.deepEqual(grave, [], `axe finds in ${where}`);
    for (const { id, impact, places } of found) console.log(`note: axe finds ${id} (${impact}) in ${where}: ${places[0]}`);
  }

  #photograph(name) {
    return this.page.screenshot({ path: path.join(this.out, `${name}.png`) });
  }
}

/** Where the pages are and what they are called. */
export const PAGES = {
  overview: { address: "/console", title: "Overview" },
  queue: { address: "/console/queue", title: "Queue" },
  "dead-letters": { address: "/console/dead-letters", title: "Dead letters" },
  product: { address: "/console/product", title: "Product" },
  stock: { address: "/console/stock", title: "Stock" },
  checks: { address: "/console/checks", title: "Checks" },
  system: { address: "/console/system", title: "System" },
};
