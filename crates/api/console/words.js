// Figures and times as people read them: thousands apart, units named, times in UTC and in relation to now.

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const UNKNOWN = "not known";

/** A whole number. */
export function count(value) {
  return value == null ? UNKNOWN : whole.format(value);
}

/** "1 view", "1,200 views". */
export function counted(value, one, many = `${one}s`) {
  return value == null ? `${UNKNOWN} how many ${many}` : `${whole.format(value)} ${value === 1 ? one : many}`;
}

/** "waits" after one, "wait" after several. */
export function verb(value, one, many) {
  return value === 1 ? one : many;
}

/** A rate a second: small ones need a fraction. */
export function rate(value) {
  if (value == null) return UNKNOWN;
  return value > 0 && value < 10 ? tenths.format(value) : whole.format(value);
}

/** A part of 1, in per cent; never rounded up to all, nor down to nothing. */
export function share(value) {
  if (value == null) return UNKNOWN;
  const percent = 100 * value;
  if (percent === 0 || percent === 100) return `${percent} %`;
  if (percent < 0.1) return "under 0.1 %";
  return percent > 99.9 ? "over 99.9 %" : `${tenths.format(percent)} %`;
}

export function bytes(value) {
  if (value == null) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit > 0 && value < 10 ? tenths.format(value) : whole.format(value)} ${units[unit]}`;
}

/** Seconds as "4.5 ms", "230 ms", "1.8 s", "63 s", "5 min 3 s", "2 h 5 min", "3 d 4 h". */
export function duration(seconds) {
  if (seconds == null) return UNKNOWN;
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds === 0) return "0 s";
  if (seconds < 0.9995) return `${seconds < 0.01 ? tenths.format(seconds * 1e3) : whole.format(seconds * 1e3)} ms`;
  if (seconds < 10) return `${tenths.format(seconds)} s`;
  const s = Math.round(seconds);
  if (s < 120) return `${s} s`;
  if (s < 7200) return pair(s, 60, "min", 1, "s");
  if (s < 172800) return pair(s, 3600, "h", 60, "min");
  return pair(s, 86400, "d", 3600, "h");
}

function pair(seconds, big, bigName, small, smallName) {
  const rest = Math.floor((seconds % big) / small);
  return `${whole.format(Math.floor(seconds / big))} ${bigName}${rest ? ` ${rest} ${smallName}` : ""}`;
}

/** How long ago, or until when, in words. */
export function relative(seconds) {
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `${roughly(seconds)} ago` : `in ${roughly(-seconds)}`;
}

function roughly(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const [size, name] = [[60, "min"], [3600, "h"], [86400, "d"]].findLast(([size]) => seconds >= 2 * size);
  return `${whole.format(Math.floor(seconds / size))} ${name}`;
}

/** The clock in UTC; the day too where it is another one than `now`'s. Both in seconds since 1970. */
export function clock(at, now = at) {
  const text = new Date(at * 1e3).toISOString();
  const day = text.slice(0, 10);
  const time = text.slice(11, 19);
  return day === new Date(now * 1e3).toISOString().slice(0, 10) ? `${time} UTC` : `${day} ${time} UTC`;
}

/** RFC 3339 to seconds since 1970. */
export function seconds(time) {
  return Date.parse(time) / 1e3;
}

/** What the API answered, as text: money in one piece, as inventoryctl shows it. */
export function plain(value) {
  if (value == null) return "–";
  if (typeof value === "object") return "amount" in value ? `${value.amount} ${value.currency}` : JSON.stringify(value);
  return String(value);
}
