// Numbers, shares and times as people read them. Unknown is a dash everywhere.

const DASH = "–";
const GAP = "\u00a0"; // a space at which no line ends
const THIN = "\u202f"; // a narrow one, between thousands
const MINUS = "−";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** 12431 → 12 431. */
function count(value) {
  return isNumber(value) ? String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, THIN) : DASH;
}

/** As many digits as say something: three figures, no more than `most` decimals, no zeros behind. */
function digits(value, most = 3) {
  if (!isNumber(value)) return DASH;
  const size = Math.abs(value);
  const wanted = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  const text = size.toFixed(Math.min(wanted, most)).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  return (value < 0 && Number(text) !== 0 ? MINUS : "") + text;
}

/** A ratio as percent: 0.0312 → 3.12 %. */
function percent(ratio, most = 2) {
  return isNumber(ratio) ? digits(ratio * 100, most) + GAP + "%" : DASH;
}

/** A difference of ratios in points, always with its sign. */
function points(ratio) {
  if (!isNumber(ratio)) return DASH;
  return (ratio > 0 ? "+" : "") + digits(ratio * 100, 2);
}

/** Seconds in the unit that fits: 0.0031 → 3.1 ms. */
function duration(seconds) {
  if (!isNumber(seconds)) return DASH;
  if (seconds < 1) return digits(seconds * 1000, 2) + GAP + "ms";
  return digits(seconds, 2) + GAP + "s";
}

/** A length of time in words as coarse as they may be: 2400 → 40 min. */
function span(seconds) {
  if (!isNumber(seconds)) return DASH;
  const size = Math.max(0, seconds);
  if (size < 60) return Math.round(size) + GAP + "s";
  if (size < 120 * 60) return Math.round(size / 60) + GAP + "min";
  if (size < 48 * 3600) return Math.round(size / 3600) + GAP + "h";
  return Math.round(size / 86400) + GAP + "days";
}

/** Requests or the like by second. */
function perSecond(value) {
  return isNumber(value) ? digits(value, 1) + GAP + "/s" : DASH;
}

const clockText = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayText = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** Time of day as the sentences of the gateway have it, and `compare`: the same wherever it is read. */
function utcClock(timestamp) {
  return `${new Date(timestamp * 1000).toISOString().slice(11, 19)} UTC`;
}

/** Local time of day of `timestamp`, in seconds since 1970. */
function clock(timestamp) {
  return clockText.format(new Date(timestamp * 1000));
}

/** Local time, with the day where it is not today's, and how long ago that is. */
function moment(timestamp, now) {
  if (!isNumber(timestamp)) return el("span", null, DASH);
  const date = new Date(timestamp * 1000);
  const today = date.toDateString() === new Date(now * 1000).toDateString();
  return el("time", { datetime: date.toISOString(), title: date.toLocaleString() },
    today ? clock(timestamp) : `${dayText.format(date)}, ${clock(timestamp)}`,
    el("span", { class: "ago" }, ` ${ago(now - timestamp)}`));
}

function ago(seconds) {
  return seconds < 5 ? "now" : `${span(seconds)} ago`;
}

const version = (number) => (isNumber(number) ? `v${number}` : "no version");
