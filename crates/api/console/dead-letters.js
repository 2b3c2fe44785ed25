// Dead letters: views and text that could not be counted, by reason and product; replay and drop.

import { action, awaited, command, dialog, fill, h, number, section, table, when, words } from "./dom.js";
import { post } from "./api.js";
import { live, now } from "./live.js";
import { loadNote } from "./note.js";
import { count, counted, verb } from "./words.js";

const MEANS = {
  unparsable: "Text in the queue that is no record of views; somebody pushed it by hand, or another program uses the key. A replay cannot count it.",
  out_of_range: "A count of 0 or above what one record may hold, or an id that no product can have. A replay cannot count it.",
  unknown_product: "MySQL has no such product. Make the product, then replay: its views count in the hour in which they came.",
  refused: "MySQL refused the sum for its data, time after time (a trigger, a constraint). Mend that, then replay.",
};

const MOST_GROUPS = 1_000;

/** Letters that stay dead, one by one. */
const MOST_TOLD = 20;

export function deadLetters(page) {
  const note = loadNote();
  const list = awaited();
  const outcome = h("div.result", { role: "status" });
  const refusal = h("p.refusal", { role: "alert" });
  const all = h("div");
  let groups = [];
  let more = false;

  const load = () =>
    note.load(async () => {
      ({ data: groups, more } = await page.get(`/dead-letters?limit=${MOST_GROUPS}`));
      fill(list, [groups, more], () => show(groups));
      fill(all, groups.length > 0, () => groups.length > 0 && [button("Replay all", "primary", () => replay({ all: true })), button("Drop all", "danger", () => drop({ all: true }))]);
    });
  const again = page.poll(30, load);
  let before = live.sample?.dead_letters;
  page.onLive(({ sample }) => {
    if (sample && sample.dead_letters !== before) again();
    before = sample?.dead_letters;
  });

  async function run(path, body, what) {
    refusal.textContent = "";
    outcome.replaceChildren("…");
    try {
      outcome.replaceChildren(...outcomeWords(what, await post(path, body)));
    } catch (problem) {
      outcome.replaceChildren();
      refusal.textContent = words(problem);
    }
    // The button may stand a thousand rows below.
    outcome.parentElement.scrollIntoView({ block: "nearest" });
    await again();
  }
  const replay = (which) => run("/dead-letters/replay", which, "replayed");

  /** What the server would choose: text has no product, so its group is all of its reason. */
  const chosen = (which) =>
    groups.filter((group) => which.all || (group.reason === which.reason && (which.product_id === undefined || group.product_id === which.product_id)));

  function drop(which) {
    const sum = (name) => chosen(which).reduce((total, group) => total + group[name], 0);
    const sure = action("Drop for good", async () => {
      box.close();
      await run("/dead-letters/drop", which, "dropped");
    }, { kind: "danger" });
    const cancel = h("button", { type: "button", onclick: () => box.close() }, "Cancel");
    const some = more && which.product_id === undefined ? "At least " : "";
    const letters = sum("letters");
    const box = dialog(
      "Drop dead letters",
      h("p", {}, `${some}${counted(letters, "letter")} with ${counted(sum("views"), "view")} will be given up. They never count, and stay in the account as set aside. This cannot be undone.`),
      h("div.action", {}, sure.button, cancel),
      sure.refusal,
    );
    cancel.focus();
  }

  function show(groups) {
    const row = (group) => {
      const which = { reason: group.reason, ...(group.product_id == null ? {} : { product_id: group.product_id }) };
      const named = group.product_id == null ? group.reason : `${group.reason} of product ${group.product_id}`;
      const product = group.product_id == null ? "–" : h("a", { href: `/console/product?id=${group.product_id}`, "data-key": named }, String(group.product_id));
      const there = group.product_id == null ? "" : group.product_exists ? " exists now" : " does not exist";
      return [
        h("th", { scope: "row" }, h("code", {}, group.reason)),
        h("td", {}, product, h("span.more", {}, there)),
        count(group.letters),
        count(group.views),
        when(group.oldest, now()),
        when(group.newest, now()),
        h("td.buttons", {}, button("Replay", "", () => replay(which), `Replay ${named}`), button("Drop", "danger", () => drop(which), `Drop ${named}`)),
      ];
    };
    const columns = ["Reason", "Product", number("Letters"), number("Views"), "Oldest", "Newest", "Do"];
    const reasons = [...new Set(groups.map((group) => group.reason))];
    return [
      more && h("p.hint", {}, `Only the ${count(MOST_GROUPS)} groups with the most views are listed.`),
      table("Dead letters", columns, groups.map(row), "There are no dead letters."),
      reasons.length > 0 && h("dl.meanings", {}, reasons.map((reason) => [h("dt", {}, h("code", {}, reason)), h("dd", {}, MEANS[reason] ?? "A reason that this page does not know.")])),
    ];
  }

  return [
    h("p", {}, "What could not be counted is set aside here and never stops the queue. A replay counts nothing twice."),
    note.element,
    h("div.action", {}, all, button("Refresh", "", load)),
    h("section", { "aria-label": "Outcome" }, outcome, refusal),
    section("By reason and product", list),
    h("p.hint", {}, "In a terminal: ", command("inventoryctl dead-letters list --each")),
  ];
}

function button(label, kind, work, name = null) {
  const { button } = action(label, work, { kind, key: name ?? label, name });
  return button;
}

function outcomeWords(what, { done, views, already, refused, missing, told }) {
  const head = [done ? `${counted(done, "letter")} with ${counted(views, "view")} ${verb(done, "was", "were")} ${what}.` : `Nothing was ${what}.`];
  if (already) head.push(`${count(already)} had been before.`);
  if (refused) head.push(`${counted(refused, "letter")} ${verb(refused, "stays", "stay")} dead.`);
  if (missing?.length) head.push(`No letter has the ids ${missing.join(", ")}.`);
  const why = told?.length ? h("ul", {}, told.slice(0, MOST_TOLD).map(({ id, detail }) => h("li", {}, `Letter ${id}: ${detail}`))) : null;
  if (refused > MOST_TOLD) head.push(`The first ${MOST_TOLD} of them:`);
  return [h("p", {}, head.join(" ")), why].filter(Boolean);
}
