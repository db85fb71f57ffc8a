// How long answers took, both versions on one logarithmic axis.

const QUANTILES = ["p50", "p95", "p99"];
const PARTS = [0.5, 0.95, 0.99];

/** The chart of the challenger `alias`; `id` is its own on the page. */
function latencyChart(id, alias, one, width) {
  const latency = one.latency;
  if (!latency?.edges_seconds?.length) return null;
  const edges = [0, ...latency.edges_seconds, Infinity];
  const counts = { production: latency.production ?? [], canary: latency.canary ?? [] };
  const used = edges.slice(1).map((_, index) => (counts.production[index] ?? 0) + (counts.canary[index] ?? 0) > 0);
  if (!used.includes(true)) return empty("Latency", one);
  // One empty bin on each side, so that nothing seems to be cut off.
  const first = Math.max(0, used.indexOf(true) - 1);
  const last = Math.min(used.length - 1, used.lastIndexOf(true) + 1);
  const low = Math.log(first ? edges[first] : edges[1] / 2);
  const high = Math.log(last === used.length - 1 ? edges[last] * 2 : edges[last + 1]);
  const at = (seconds) => (Math.log(Math.max(seconds, 1e-6)) - low) / (high - low);
  const bins = edges.slice(first, last + 1).map((from, index) => {
    const to = edges[first + index + 1];
    return { from: Math.max(0, at(from)), to: Math.min(1, Number.isFinite(to) ? at(to) : 1), label: binLabel(from, to) };
  });
  const check = checkOf(one, "latency");
  const arms = [["production", "production", one.production_version], ["canary", alias, one.version]].map(([key, role, number]) => {
    const values = QUANTILES.map((name, index) =>
      own(check?.quantiles_seconds?.[key], name) ?? quantileOf(counts[key], edges, PARTS[index]));
    const over = QUANTILES.map((name, index) =>
      own(check?.quantiles_over_last_edge?.[key], name) ?? isOver(counts[key], PARTS[index]));
    const durations = values.map((value, index) => (over[index] ? `over ${duration(value)}` : duration(value)));
    const marked = values.slice(0, 2).map((value, index) => ({ at: Math.min(1, at(value ?? 0)), label: QUANTILES[index], value }));
    return { role, version: version(number), name: `${role} ${version(number)}`, counts: counts[key].slice(first, last + 1),
      marks: marked.filter((one) => isNumber(one.value)), figures: [count(sharesOf(counts[key]).all), ...durations] };
  });
  const inside = edges.slice(1, -1).filter((edge) => at(edge) >= -0.001 && at(edge) <= 1.001);
  const decades = inside.filter((edge) => /^10*$/.test(String(Math.round(edge * 1e6))));
  const ticks = (decades.length > 1 ? decades : [inside[0], inside.at(-1)]).map((edge) => ({ at: at(edge), label: duration(edge) }));
  const plot = { id, width, bins, ticks, arms, title: `Latency of production and ${alias}`, words: latencyWords(arms) };
  return chart("Latency", `Share of the answers in each bin, ${windowWords(one)}; logarithmic axis.`, plot,
    legend("Answers and quantiles", ["Answers", ...QUANTILES], arms));
}

function binLabel(from, to) {
  if (!from) return `up to ${duration(to)}`;
  return Number.isFinite(to) ? `${duration(from)} to ${duration(to)}` : `over ${duration(from)}`;
}

function latencyWords(arms) {
  return arms.map((arm) => `${arm.name}: ${arm.figures[0]} answers, p50 ${arm.figures[1]}, p95 ${arm.figures[2]}, p99 ${arm.figures[3]}.`).join(" ");
}

function windowWords(one) {
  return isNumber(one.window_seconds) ? `last ${span(one.window_seconds)}` : "of late";
}

function empty(heading, one) {
  return el("section", { class: "card chart" }, el("h3", null, heading), el("p", { class: "note" }, `Nothing was counted in the ${windowWords(one)}.`));
}
