// Product: what MySQL, Redis and the API say of it, side by side; its prices, views, stock and movements.

import { action, field, h, mark, number, section, table, when, words } from "./dom.js";
import { post } from "./api.js";
import { now } from "./live.js";
import { plot } from "./plots.js";
import { clock, count, counted, plain, seconds } from "./words.js";

const HOUR_SECONDS = 3_600;

/** The API tells so many prices and movements, the newest. */
const LISTED = 50;

export function product(page) {
  const query = new URLSearchParams(location.search);
  const input = h("input", { type: "text", autocomplete: "off", spellcheck: "false", size: "24" });
  const which = field("SKU, or id:42", input, null, h("button.primary", { type: "submit" }, "Look up"));
  const found = h("div");
  input.value = query.has("id") ? `id:${query.get("id")}` : (query.get("sku") ?? "");

  function submit(event) {
    event.preventDefault();
    const parameters = parametersOf(input.value.trim());
    if (!parameters) return which.tell("Write a SKU, or id: and a number.");
    history.replaceState(null, "", `/console/product?${parameters}`);
    look(parameters);
  }

  /** Only the latest answer is shown. */
  let latest = 0;
  let shown = null;
  async function look(parameters, drop) {
    const mine = ++latest;
    which.tell("");
    if (!found.hasChildNodes()) found.replaceChildren(h("p.hint", {}, "Looking it up…"));
    try {
      // What differs may be a write that is under way, and takes seconds to settle: the first look is shown meanwhile.
      for (const settle of [false, true]) {
        const answer = await page.get(`/products/lookup?${parameters}&settle=${settle}`);
        if (mine !== latest) return;
        shown?.abort();
        shown = new AbortController();
        const focused = drop && document.activeElement === drop.button;
        found.replaceChildren(...show(answer, shown.signal, (drop) => look(parameters, drop), drop));
        if (focused) drop.button.focus();
        if (answer.settled) return;
      }
    } catch (problem) {
      if (problem?.name === "AbortError" || mine !== latest) return;
      found.replaceChildren();
      which.tell(problem.errors?.map((fault) => fault.detail).join("; ") ?? (problem.status === 400 ? problem.detail.replace(/^(id|sku) must/, "Must") : words(problem)));
      input.focus();
    }
  }
  page.signal.addEventListener("abort", () => shown?.abort());
  if (input.value) look(parametersOf(input.value) ?? "");

  const form = h("form", { role: "search", "aria-label": "Find a product", onsubmit: submit, novalidate: true }, which.element);
  return [form, found];
}

/** `id:42` is an id, all else a SKU, as inventoryctl takes it. */
function parametersOf(text) {
  if (!text) return null;
  return text.startsWith("id:") ? new URLSearchParams({ id: text.slice(3) }) : new URLSearchParams({ sku: text });
}

function show(product, signal, again, drop) {
  const name = product.fields.find((line) => line.field === "name");
  const title = `${product.sku ?? `id:${product.id}`}: ${name?.mysql ?? name?.api ?? name?.redis ?? "no name"}`;
  return [
    h("h2.subject", {}, title),
    places(product, again, drop),
    h("div.pair", {}, section("Prices", prices(product.prices, signal)), section("Views", views(product.views, signal))),
    section("Stock of the product", stock(product.stock), movements(product.movements)),
  ];
}

/** `drop` is the button whose click led here: it stays, with its words and the focus. */
function places({ id, differs, settled, fields }, again, before) {
  const rows = fields.map((line) => {
    const verdict = line.differs ? mark("trouble", "differs") : mark("well", "the same");
    const of = (place) => h("td", { class: line.differs && plain(line[place]) !== plain(line.mysql) && "other" }, plain(line[place]));
    return h("tr", { "data-differs": line.differs }, h("th", { scope: "row" }, line.field), of("mysql"), of("redis"), of("api"), h("td", {}, verdict));
  });
  const differing = fields.filter((line) => line.differs).map((line) => line.field);
  const cached = fields.some((line) => line.redis != null);
  const sentence = !settled
    ? `They differ in ${differing.join(", ")} at the first look. It may be a write under way: looked at again for some seconds…`
    : differs
      ? `They differ in ${differing.join(", ")}. MySQL is the truth: invalidate it in the cache, and the others say the same.`
      : "All that say something say the same.";
  const drop = before ?? action("Invalidate in the cache", async () => {
    const { dropped } = await post("/cache/invalidate", { product_ids: [id] });
    await again(drop);
    return `Done: ${counted(dropped, "entry", "entries")} dropped; the next read asks MySQL.`;
  });
  drop.button.className = differs && settled ? "primary" : "";
  const element = section(
    "In three places",
    h("p.told", {}, mark(!settled ? "watch" : differs ? "trouble" : "well", differs ? "Differs" : "The same"), " ", sentence, cached ? "" : " Redis has no entry: the next read makes one."),
    table("MySQL, Redis and the API side by side", ["Field", "MySQL", "Redis", "API", "Verdict"], rows),
    h("p.hint", {}, "– is what a place does not say, or has as none."),
    drop.row,
  );
  element.dataset.differs = settled ? differs : "unsettled";
  return element;
}

function prices(list, signal) {
  if (!list.length) return h("p.empty", {}, "It never had a price.");
  const currency = list[0].currency ?? list.find((each) => each.currency)?.currency;
  const same = list.filter((each) => each.currency == null || each.currency === currency).reverse();
  const drawn = plot({ name: "Price", height: 120, axis: amount, size: 60, signal, range: { y: around }, series: [{ label: currency, color: "--line", width: 2, stepped: true, words: (v) => `${v} ${currency}` }] });
  const at = same.map((each) => seconds(each.changed_at));
  const amounts = same.map((each) => (each.amount == null ? null : Number(each.amount)));
  const known = amounts.filter((amount) => amount != null);
  const text = (amount) => `${same.find((each) => Number(each.amount) === amount)?.amount} ${currency}`;
  const others = same.length < list.length ? " Those in other currencies stand in the table alone." : "";
  const range = known.length > 1 ? `; lowest ${text(Math.min(...known))}, highest ${text(Math.max(...known))}` : "";
  const past = list.length === LISTED ? `the newest of ${LISTED} prices or more; these are` : list.length === 1 ? "its only price," : `the newest of ${list.length} prices,`;
  drawn.draw([[...at, now()], [...amounts, amounts.at(-1)]], `Now ${plain(list[0])}, ${past} since ${clock(at[0], now())}${range}.${others}`);
  const rows = list.map((each) => [when(each.changed_at, now()), each.amount == null ? "none" : plain(each), each.reason ?? "–"]);
  return [drawn.element, details(list.length === LISTED ? `The last ${LISTED} prices` : "All prices", table("Prices of the product", ["Changed", number("Price"), "Reason"], rows))];
}

/** An amount on an axis, which has little room. */
function amount(value) {
  return value < 100_000 ? value.toFixed(2) : compact.format(value);
}
const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 2 });

/** Steps of some per cent are to be seen. */
function around(_, low, high) {
  const room = Math.max((high - low) * 0.15, high * 0.02, 0.01);
  return [Math.max(0, low - room), high + room];
}

function views({ total, persisted, pending, hours }, signal) {
  // Hours without a view are told by their absence: they are drawn as 0.
  const end = Math.floor(now() / HOUR_SECONDS);
  const at = Array.from({ length: 48 }, (_, n) => (end - 47 + n) * HOUR_SECONDS);
  // A bar stands for the hour that begins at its time.
  const range = { x: () => [at[0], at[47] + HOUR_SECONDS] };
  const drawn = plot({ name: "Views by hour", height: 120, axis: count, size: 52, top: 4, signal, range, series: [{ label: "views", color: "--line", fill: "--bar", width: 1, bars: true, words: count }] });
  const by = new Map(hours.map((each) => [seconds(each.hour), each.views]));
  const values = at.map((hour) => by.get(hour) ?? 0);
  const sum = values.reduce((a, b) => a + b, 0);
  const top = values.indexOf(Math.max(...values));
  drawn.draw([at, values], sum ? `${counted(sum, "view")} in the last 48 hours, the most in the hour from ${clock(at[top], now())}: ${count(values[top])}.` : "No view in the last 48 hours.");
  const all = total == null ? "How many in all is not known: a store does not tell." : `${count(total)} in all = ${count(persisted)} in MySQL + ${count(pending)} pending.`;
  return [h("p", {}, all), drawn.element];
}

function stock(level) {
  if (!level?.version) return h("p.empty", {}, "Its stock was never counted: nothing of it can be sold.");
  const { on_hand: onHand, reserved, available, version } = level;
  const word = available > 0 ? mark("well", "can be sold") : mark("watch", "sold out");
  return h("p.told", {}, word, ` ${count(available)} available = ${count(onHand)} on hand − ${count(reserved)} reserved (version ${version}).`);
}

function movements(list) {
  const signed = (value) => (value > 0 ? `+${count(value)}` : value < 0 ? `−${count(-value)}` : "0");
  const rows = list.map((each) => [when(each.at, now()), each.kind, signed(each.delta), signed(each.reserved_delta), each.reason ?? "–", each.reference ?? "–", String(each.id)]);
  const cut = list.length === LISTED && h("p.hint", {}, `Only the last ${LISTED} movements are listed.`);
  const listed = table("Movements", ["At", "Kind", number("On hand"), number("Reserved"), "Reason", "Reference", number("Id")], rows, "No movement of its stock.");
  return [cut, listed];
}

function details(title, ...children) {
  return h("details", {}, h("summary", {}, title), children);
}
