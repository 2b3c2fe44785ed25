// Stock: what is nearly sold, and which reservations end next.

import { action, awaited, fill, h, mark, number, section, setText, table } from "./dom.js";
import { now } from "./live.js";
import { loadNote } from "./note.js";
import { clock, count, duration, seconds } from "./words.js";

const EVERY_SECONDS = 10;
const LISTED = 50;

/** So few are said to be low. */
const LOW = 5;

export function stock(page) {
  const note = loadNote();
  const [lowest, reservations] = [awaited(), awaited()];
  const load = () =>
    note.load(async () => {
      const [stock, held] = await Promise.all([page.get(`/stock?limit=${LISTED + 1}`), page.get(`/reservations?limit=${LISTED + 1}`)]);
      fill(lowest, stock.data, () => lowestTable(stock.data));
      fill(reservations, held.data.map(({ expires_in_seconds: _, ...rest }) => rest), () => reservationTable(held.data));
      countDown();
    });
  const again = page.poll(EVERY_SECONDS, load);
  const countDown = () => reservations.querySelectorAll("td[data-expires]").forEach(showCountdown);
  page.every(1, countDown);
  return [note.element, h("div.action", {}, action("Refresh", again).button), section("Products", lowest), section("Reservations", reservations)];
}

function productLink(id, sku) {
  return h("a", { href: `/console/product?id=${id}`, "data-key": `product ${id}` }, sku);
}

function lowestTable(data) {
  const level = ({ available }) => (available <= 0 ? mark("watch", "sold out") : available <= LOW ? mark("watch", "low") : mark("well", "there"));
  const rows = data.slice(0, LISTED).map((each) => [productLink(each.product_id, each.sku), count(each.available), level(each), each.name, count(each.on_hand), count(each.reserved)]);
  const columns = ["SKU", number("Available"), "Level", "Name", number("On hand"), number("Reserved")];
  return [cut(data, `Only the ${LISTED} products of which there is least are listed.`), table("Lowest available", columns, rows, "No product has stock.")];
}

/** One more than is listed was asked for. */
const cut = (data, words) => data.length > LISTED && h("p.hint", {}, words);

function reservationTable(data) {
  const item = (each, n) => [n ? ", " : "", `${count(each.quantity)} × `, h("a", { href: `/console/product?id=${each.product_id}` }, each.sku)];
  const rows = data.slice(0, LISTED).map((each) => [
    each.reference ?? "–",
    h("td", { "data-expires": each.expires_at }),
    h("td.holds", {}, each.items.map(item)),
    clock(seconds(each.created_at), now()),
    h("code", {}, each.id),
  ]);
  const columns = ["Reference", "Expires", "Holds", "Made", "Id"];
  return [cut(data, `Only the ${LISTED} reservations that expire first are listed.`), table("Reservations by expiry", columns, rows, "Nothing is reserved.")];
}

function showCountdown(cell) {
  const at = seconds(cell.dataset.expires);
  const left = Math.round(at - now());
  const late = left < 0;
  setText(cell, `${late ? `overdue for ${duration(-left)}` : `in ${duration(left)}`} (${clock(at, now())})`);
  cell.className = late ? "late" : "";
}
