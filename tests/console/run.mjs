// Clicks through the console: `node run.mjs --ops http://127.0.0.1:8081 --out DIRECTORY [--only NAME]`.
//
// Prints a line for each step and ends with 1 at the first that fails, with the place. Pictures of all that was looked at lie in the
// directory. Nothing is started but the browser: tests/it/console.rs makes the shop that the steps speak of, and does what
// they ask for (`--asks`: "ask: …" on standard output, "done" on standard input). What is asked for is left out without it.

import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Visit } from "./browser.mjs";

import * as shop from "./shop.mjs";
import * as system from "./system.mjs";
import * as trouble from "./trouble.mjs";
import * as views from "./views.mjs";

/** One after the other, unless one is asked for. */
const PAGES = {
  overview: views.overview,
  queue: views.queue,
  "dead-letters": views.deadLetters,
  product: shop.product,
  stock: shop.stock,
  checks: system.checks,
  system: system.system,
  well: views.well,
};

/** Each needs a shop in a state of its own, and is only done when it is asked for. */
const STATES = { token: trouble.token, stopped: trouble.stopped, absent: trouble.absent, unreachable: trouble.unreachable };

const { values } = parseArgs({
  options: {
    ops: { type: "string", default: "http://127.0.0.1:8081" },
    out: { type: "string", default: "." },
    only: { type: "string" },
    asks: { type: "boolean", default: false },
    packages: { type: "string", default: fileURLToPath(new URL("../../target/console", import.meta.url)) },
  },
});
const known = { ...PAGES, ...STATES };
const wanted = values.only ? [known[values.only]] : Object.values(PAGES);
if (wanted.includes(undefined)) {
  console.error(`--only takes one of ${Object.keys(known).join(", ")}`);
  process.exit(2);
}
mkdirSync(values.out, { recursive: true });
const visit = await Visit.begin(values);
try {
  for (const part of wanted) await part(visit);
} catch (error) {
  console.error(error.stack);
  process.exitCode = 1;
} finally {
  await visit.browser.close();
}
// Whoever answers what we ask may go on holding our standard input.
process.exit();
