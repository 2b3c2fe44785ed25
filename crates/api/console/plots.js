// Plots by uPlot, in the page's colours, with their figures in a sentence below: the canvas is for the eye alone.

import { GAP_SECONDS } from "./live.js";
import { h } from "./dom.js";
import { clock } from "./words.js";

/* global uPlot */

/** Programs that start see their stores away for some seconds. */
const MOMENT_SECONDS = 3;

const FONT = "12px system-ui, sans-serif";
const dark = matchMedia("(prefers-color-scheme: dark)");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isoTime = (at, from, to) => new Date(at * 1e3).toISOString().slice(from, to);

const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

/** Labels of the time axis in UTC, as fine as the distance between them asks for. */
function times(step) {
  if (step >= 86400) return (at) => day.format(at * 1e3);
  return step >= 60 ? (at) => isoTime(at, 11, 16) : (at) => isoTime(at, 11, 19);
}

/**
 * A figure that is drawn again with `draw(columns, sentence)`: columns of equal length, the first the time in seconds since 1970.
 * `series` are {label, color, width, fill, dash, stepped, bars}; colours are names of custom properties of the style sheet.
 * `shades()` are spans {from, to, word} behind the lines, `bands` as uPlot has them. `axis` words a value, `steps` are the distances
 * that its labels may have, and `top` is the least height of the scale, so that what is harmless looks it.
 */
export function plot({ name, series, height = 130, axis, steps, top = 1, bands = [], shades = () => [], range, signal, size = 72, level = "h3" }) {
  const area = h("div.plot", { "aria-hidden": "true" });
  const caption = h("figcaption");
  const title = h(level, {}, name);
  const readout = h("span.readout", { "aria-hidden": "true" });
  const figure = h("figure", { "aria-label": name }, h("div.head", {}, title, legend(series), readout), area, caption);
  let chart = null;
  let columns = null;

  const options = () => ({
    width: Math.max(160, area.clientWidth),
    height,
    legend: { show: false },
    cursor: { points: { show: false }, drag: { x: false, y: false }, y: false },
    padding: [8, 16, 0, 0],
    tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), "Etc/UTC"),
    scales: { x: { time: true, range: range?.x }, y: { range: range?.y ?? ((u, low, high) => [0, Math.max(high * 1.08, typeof top === "function" ? top() : top)]) } },
    axes: [
      { stroke: style("--muted"), font: FONT, size: 28, gap: 4, space: 64, grid: { stroke: style("--grid"), width: 1 }, ticks: { show: false }, values: (u, splits, i, space, step) => splits.map(times(step)) },
      { stroke: style("--muted"), font: FONT, size, gap: 6, space: 28, incrs: steps, grid: { stroke: style("--grid"), width: 1 }, ticks: { show: false }, values: (u, splits) => splits.map(axis) },
    ],
    series: [{}, ...series.map(line)],
    bands: bands.map((band) => ({ ...band, fill: style(band.fill) })),
    hooks: { drawClear: [(u) => shade(u, shades())], draw: [(u) => nameShades(u, shades())], setCursor: [(u) => point(u)] },
  });

  function point(u) {
    const at = u.cursor.idx;
    const told = series.map(({ label, words }, n) => [label, u.data[n + 1]?.[at], words]).filter(([, value, words]) => value != null && words);
    readout.textContent = at == null || !told.length ? "" : `${clock(u.data[0][at])}: ${told.map(([label, value, words]) => `${label} ${words(value)}`).join(", ")}`;
  }

  function redraw() {
    chart?.destroy();
    chart = columns && area.clientWidth ? new uPlot(options(), columns, area) : null;
  }
  const observer = new ResizeObserver(() => {
    if (chart && area.clientWidth) chart.setSize({ width: area.clientWidth, height });
    else redraw();
  });
  observer.observe(area);
  dark.addEventListener("change", redraw, { signal });
  signal.addEventListener("abort", () => {
    observer.disconnect();
    chart?.destroy();
  });

  return {
    element: figure,
    draw(data, sentence) {
      if (data && !document.hidden) {
        columns = data;
        if (chart) chart.setData(columns);
        else redraw();
      }
      if (caption.textContent !== sentence) caption.textContent = sentence;
    },
  };
}

function line({ label, color, width = 1.5, fill, dash, stepped, bars }) {
  const paths = bars ? uPlot.paths.bars({ size: [0.8, 40], align: 1 }) : stepped ? uPlot.paths.stepped({ align: 1 }) : undefined;
  return { label, stroke: style(color), width, fill: fill && style(fill), dash, paths, points: { show: stepped === true, size: 5, fill: style(color) } };
}

/** The words of the lines, with a stroke like theirs. */
function legend(series) {
  if (series.length < 2) return null;
  const keys = series.filter((each) => each.label).map((each) => {
    const swatch = h("span.swatch");
    swatch.style.borderTopWidth = `${Math.max(2, each.width ?? 2)}px`;
    swatch.style.borderTopStyle = each.dash ? "dashed" : "solid";
    swatch.style.borderTopColor = `var(${each.color})`;
    return h("span", {}, swatch, each.label);
  });
  return h("span.legend", { "aria-hidden": "true" }, keys);
}

/** Where a time is on the canvas. */
function place(u, time) {
  const { left, width } = u.bbox;
  return Math.min(left + width, Math.max(left, u.valToPos(time, "x", true)));
}

/** Spans of time in which something was so, behind the lines. */
function shade(u, spans) {
  const { ctx } = u;
  ctx.save();
  ctx.fillStyle = style("--shade");
  for (const { from, to } of spans) {
    const x = place(u, from);
    ctx.fillRect(x, u.bbox.top, Math.max(1, place(u, to) - x), u.bbox.height);
  }
  ctx.restore();
}

/** Their words, before the lines: at the bottom, where rising lines are not. The newest has its word first, and no two are on each other. */
function nameShades(u, spans) {
  const { ctx } = u;
  const { left, top, height } = u.bbox;
  ctx.save();
  ctx.fillStyle = style("--muted");
  ctx.font = FONT.replace("12", String(12 * devicePixelRatio));
  ctx.textBaseline = "bottom";
  ctx.textAlign = "left";
  let free = Infinity;
  for (const { from, to, word } of [...spans].reverse()) {
    const [x, end] = [place(u, from), place(u, to)];
    const room = ctx.measureText(word).width + 8 * devicePixelRatio;
    // A short span has its word to the left of it, where there is room.
    const begin = end - x < room && end - left > room ? end - room : x;
    if (begin + room > free) continue;
    ctx.fillText(word, begin + 4 * devicePixelRatio, top + height - 3 * devicePixelRatio);
    free = begin;
  }
  ctx.restore();
}

/** Columns of samples: `pick` are functions of one. Where samples are missing a line ends and begins again. */
export function columns(samples, pick) {
  const out = [[], ...pick.map(() => [])];
  let before = null;
  for (const sample of samples) {
    if (before != null && sample.at - before > GAP_SECONDS) {
      out[0].push((before + sample.at) / 2);
      pick.forEach((_, n) => out[n + 1].push(null));
    }
    out[0].push(sample.at);
    pick.forEach((value, n) => out[n + 1].push(value(sample) ?? null));
    before = sample.at;
  }
  return out;
}

/** The spans in which `wordOf` a sample is the same; one without a word is in none, and what was for a moment is left out. */
export function spans(samples, wordOf) {
  const found = [];
  let open = null;
  for (const sample of samples) {
    const word = wordOf(sample);
    if (word !== open?.word) {
      open = word ? { from: sample.at, to: sample.at, word } : null;
      if (open) found.push(open);
    }
    if (open) open.to = sample.at;
  }
  return found.filter(({ from, to }) => to - from >= MOMENT_SECONDS);
}
