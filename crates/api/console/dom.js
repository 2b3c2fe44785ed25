// Elements from calls, and the few parts that all pages share. Text always becomes text nodes, so nothing that a store holds is ever
// read as markup.

import { clock, relative, seconds } from "./words.js";

/** An element. `class`, `text` and `on<event>` as they say; true sets a bare attribute, null and false leave it out. */
export function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** Sets text only where it changes: selections and screen readers are not disturbed each second. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Replaces what is inside, unless `key` says that it is the same as before. What had the focus has it again, by its data-key; where it is
 * gone the heading of its section has it, so that who works by keyboard stays there. */
export function fill(element, key, make) {
  const text = typeof key === "string" ? key : JSON.stringify(key);
  if (element.filledWith === text) return;
  element.filledWith = text;
  const focused = element.contains(document.activeElement) && document.activeElement;
  element.replaceChildren(...[make()].flat(Infinity).filter((child) => child != null && child !== false));
  if (!focused || element.contains(document.activeElement)) return;
  const again = [...element.querySelectorAll("[data-key]")].find((child) => child.dataset.key === focused.dataset.key);
  (again ?? element.closest("section")?.querySelector("h2"))?.focus();
}

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  well: ["M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z", "M7 12.5l3.5 3.5L17 9"],
  watch: ["M12 2.5L23 21.5H1z", "M12 9.5v6M12 17.8v.9"],
  trouble: ["M7.5 1.5h9l6 6v9l-6 6h-9l-6-6v-9z", "M8 8l8 8M16 8l-8 8"],
  unknown: ["M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z", "M9 9.3a3 3 0 1 1 4.2 2.8c-.8.4-1.2.9-1.2 2M12 16.6v.9"],
};

/** A shape of its own for each state, beside its word. */
export function icon(state) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon ${state}`);
  svg.setAttribute("aria-hidden", "true");
  for (const [path, part] of SHAPES[state].map((path, n) => [path, n ? "sign" : "shape"])) {
    const element = document.createElementNS(SVG, "path");
    element.setAttribute("d", path);
    element.setAttribute("class", part);
    svg.append(element);
  }
  return svg;
}

/** A state by word, shape and colour. */
export function mark(state, word) {
  return h("span", { class: `mark ${state}` }, icon(state), word);
}

/** A place for what has not been answered yet. */
export function awaited() {
  return h("div", {}, h("p.empty", {}, "Not known yet."));
}

/** A section that can be found by its name; what stands beside its heading may follow that name. */
export function section(heading, ...children) {
  const [title, beside] = [heading].flat();
  const id = `s-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  return h("section", { "aria-labelledby": id }, h("div.heading", {}, h("h2", { id, tabindex: "-1" }, title), beside), children);
}

/** A wide table scrolls within its own box, by keyboard too. */
export function table(name, columns, rows, empty = "None.") {
  if (!rows.length) return h("p.empty", {}, empty);
  const head = columns.map((column) => h("th", { scope: "col", class: numeric(column) && "number" }, column.title ?? column));
  const cell = (value, n) => {
    if (value instanceof HTMLTableCellElement) return value;
    const attributes = { class: numeric(columns[n]) && "number" };
    return n ? h("td", attributes, value) : h("th", { scope: "row", ...attributes }, value);
  };
  const body = rows.map((row) => (Array.isArray(row) ? h("tr", {}, row.map(cell)) : row));
  return h(
    "div.wide",
    { tabindex: "0", role: "group", "aria-label": `${name}, scrolls sideways`, "data-key": name },
    h("table", {}, h("caption", {}, name), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)),
  );
}

export const number = (title) => ({ title, number: true });
const numeric = (column) => column.number === true;

/** Puts terms with their figures into `element`, or the figures that changed; `list` are [key, term, figure, more, state]. */
export function showFigures(element, list) {
  fill(element, list.map(([key]) => key), () =>
    h("dl.figures", {}, list.map(([key]) => h("div", { "data-figure": key }, h("dt"), h("dd", {}, h("span.figure"), h("span.more"))))),
  );
  for (const [key, term, figure, more, state] of list) {
    const tile = element.querySelector(`[data-figure="${key}"]`);
    tile.className = state ?? "";
    [["dt", term], [".figure", figure], [".more", more ?? ""]].forEach(([part, text]) => setText(tile.querySelector(part), text));
  }
}

/** A line to be typed, which can be copied. */
export function command(line) {
  const said = h("span", { "aria-hidden": "true" }, "Copy");
  const code = h("code.command", {}, line);
  const button = h("button", { type: "button", class: "small", "aria-label": `Copy ${line}`, "data-key": `copy ${line}`, onclick: copy }, said);
  const whether = h("span.unseen", { role: "status" });
  async function copy() {
    const copied = await toClipboard(line, code);
    said.textContent = copied ? "Copied" : "Selected";
    whether.textContent = copied ? "Copied" : "Selected: copy it with Ctrl+C";
    setTimeout(() => {
      said.textContent = "Copy";
      whether.textContent = "";
    }, 2000);
  }
  return h("span.typed", {}, code, button, whether);
}

/** Browsers give the clipboard to pages on loopback or https only; elsewhere the line is selected. */
async function toClipboard(line, code) {
  try {
    await navigator.clipboard.writeText(line);
    return true;
  } catch {
    const selection = getSelection();
    selection.selectAllChildren(code);
    return document.execCommand("copy");
  }
}

/** A time, exact and in relation to `now` (seconds since 1970). */
export function when(time, now) {
  const at = seconds(time);
  return h("time", { datetime: time, title: time }, `${clock(at, now)} (${relative(now - at)})`);
}

/** A button that works once at a time, and says beside itself what came of it. `work` returns words or elements. */
export function action(label, work, { kind = "", key = label, name = null, progress = "…" } = {}) {
  const result = h("span.result", { role: "status" });
  const refusal = h("span.refusal", { role: "alert" });
  let busy = false;
  const button = h("button", { type: "button", class: kind, "data-key": key, "aria-label": name, onclick: run }, label);
  async function run() {
    if (busy) return;
    busy = true;
    button.setAttribute("aria-disabled", "true");
    refusal.replaceChildren();
    result.replaceChildren(progress);
    try {
      result.replaceChildren(...[(await work()) ?? ""].flat(Infinity));
    } catch (problem) {
      result.replaceChildren();
      refusal.replaceChildren(words(problem));
    } finally {
      busy = false;
      button.removeAttribute("aria-disabled");
    }
  }
  return { button, result, refusal, run, row: h("div.action", {}, button, result, refusal) };
}

/** A field with its label and the place where its faults are told; `beside` is the button that belongs to it. */
export function field(label, input, hint = null, beside = null) {
  const id = `f-${label.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  const hintId = `${id}-hint`;
  const faultId = `${id}-fault`;
  input.id = id;
  input.setAttribute("aria-describedby", hint ? `${hintId} ${faultId}` : faultId);
  const fault = h("p.refusal", { id: faultId, role: "alert" });
  return {
    input,
    tell(text) {
      setText(fault, text ? text[0].toUpperCase() + text.slice(1) : "");
      if (text) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    },
    element: h("div.field", {}, h("label", { for: id }, label), h("div.action", {}, input, beside), hint && h("p.hint", { id: hintId }, hint), fault),
  };
}

/** Tells each fault beside the field that its pointer names, and whatever has no field beside the button. */
export function tellFaults(problem, fields, refusal) {
  const faults = problem.errors ?? [];
  const rest = faults.filter((fault) => !(fault.pointer in fields));
  for (const [pointer, field] of Object.entries(fields)) {
    const own = faults.filter((fault) => fault.pointer === pointer);
    field.tell(own.map((fault) => fault.detail).join("; "));
    if (own.length) field.input.focus();
  }
  const told = faults.length > rest.length && !rest.length;
  setText(refusal, told ? "" : [words(problem), ...rest.map((fault) => `${fault.pointer}: ${fault.detail}`)].join("; "));
}

/** A problem in words; anything else is a fault of ours and goes on to the browser's console. */
export function words(problem) {
  if (problem?.title === undefined) throw problem;
  return problem.detail ? `${problem.title}: ${problem.detail}` : problem.title;
}

/** A dialog that holds the focus and gives it back; Escape closes it. Returns it opened; `close` removes it. */
export function dialog(title, ...children) {
  const id = "dialog-title";
  const element = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), children);
  const before = document.activeElement;
  element.addEventListener("close", () => {
    element.remove();
    if (before?.isConnected) before.focus();
  });
  document.body.append(element);
  element.showModal();
  return element;
}
