// The checks of one challenger against production, a row each.

const CHECKS = {
  faults: "Faults",
  latency: "Slow answers",
  scores: "Scores",
  split: "Split",
  shadow: "Faults of copies",
  cost: "Processor time",
};

function checkOf(one, name) {
  return (one.checks ?? []).find((check) => check.check === name);
}

/** The table of `one`, the challenger `alias`; null where there are no checks. */
function checksTable(alias, one, several) {
  const rows = (one.checks ?? []).flatMap(rowsOf);
  if (!rows.length) return null;
  return el("section", { class: "card checks" },
    el("h3", null, several ? ["Checks of ", named(alias)] : "Checks"),
    table(["How ", named(alias), ` ${version(one.version)} does beside production ${version(one.production_version)}`, since(one)],
      ["Check", "Production", alias === "canary" ? "Canary" : alias, "Difference", "Verdict", "Why, and what is still needed"], rows, "wide"));
}

function rowsOf(check) {
  if (check.check === "scores") return scoreRows(check);
  if (check.check === "split") return [splitCheckRow(check)];
  return [check.check === "cost" ? costRow(check) : rateRow(check)];
}

function since(one) {
  if (!isNumber(one.seconds)) return "";
  const share = isNumber(one.share) ? `, with a share of ${percent(one.share, 3)}` : "";
  return `: for ${span(one.seconds)}${share}${judged(one)}`;
}

/** Up to when answers are judged, and of how many gateways. */
function judged(one) {
  if (!isNumber(one.horizon_timestamp)) return "";
  const gateways = one.gateways?.counted?.length ?? 0;
  return `; judged up to ${utcClock(one.horizon_timestamp)}${gateways > 1 ? `, of ${count(gateways)} gateways` : ""}`;
}

function titled(name, ...asides) {
  return [name, asides.filter(Boolean).map((aside) => el("span", { class: "aside line" }, aside))];
}

function rateRow(check) {
  const limit = isNumber(check.limit) && `fails above ${points(check.limit)} points`;
  const edge = isNumber(check.edge_seconds) && `slower than ${duration(check.edge_seconds)}`;
  return [
    titled(own(CHECKS, check.check) ?? String(check.check), edge, limit),
    rate(check.production),
    rate(check.canary, check.excused),
    difference(check.difference, check.interval),
    verdictOf(check),
    reason(check),
  ];
}

function rate(arm, excused = 0) {
  if (!arm) return DASH;
  const asides = [[count(arm.events), "of", count(arm.requests)].join(GAP), isNumber(arm.keys) && `${count(arm.keys)} keys`,
    excused > 0 && `${count(excused)} the input's fault`];
  return titled(percent(arm.rate), ...asides);
}

function difference(value, interval, unit = "points", shown = points) {
  if (!isNumber(value)) return DASH;
  const [low, high] = interval ?? [];
  return titled(`${shown(value)} ${unit}`.trim(),
    isNumber(low) && isNumber(high) && `${shown(low)} to ${shown(high)}`);
}

const REPORTED = { // in the words of `canary-router compare`; true: worth a look
  scores: { none: ["no shift", false], small: ["small shift", true], moderate: ["moderate shift", true], large: ["large shift", true] },
  split: { pass: ["as due", false], fail: ["split skew", true] },
  shadow: { none: ["no sign", false] },
  cost: { none: ["no change", false], dearer: ["dearer", true], cheaper: ["cheaper", true] },
};

/** What only reports is neither good nor bad, so it has words of its own. */
function verdictOf(check) {
  if (check.judges !== false) return badge(check.verdict, true);
  if (check.check === "scores" && check.outputs?.[0]?.uncounted) return remark("not counted", true); // nothing passes
  if (check.check === "scores" && check.outputs?.[0]?.saturated && check.outputs[0].size === "none") return remark("out of range", true);
  const found = foundBy(check);
  const reported = own(own(REPORTED, check.check), String(found));
  return [reported ? remark(...reported) : badge("not_enough_data", true),
    el("span", { class: "aside line" }, check.check === "shadow" ? "can fail, not pass" : "reported only")];
}

/** What `REPORTED` has a word for. */
function foundBy(check) {
  if (check.check === "scores") return check.outputs?.[0]?.size;
  if (check.check === "shadow") return check.shows_none ? "none" : null;
  return check.check === "cost" ? changeOf(check) : check.verdict;
}

function changeOf(check) {
  return isNumber(check.ratio) ? check.change || "none" : null;
}

function reason(check) {
  return titled(check.why || DASH, check.shown, needed(check));
}

/** When a difference would be seen; of no use once one was. */
function needed(check) {
  return check.verdict === "fail" ? null : check.needed;
}

function scoreRows(check) {
  const outputs = check.outputs ?? [];
  if (!outputs.length) {
    return [["Scores", DASH, DASH, DASH, verdictOf(check), reason(check)]];
  }
  return outputs.map((output, index) => [
    titled(outputs.length > 1 ? ["Scores, output ", named(output.output)] : "Scores"),
    scoreArm(output.production),
    scoreArm(output.canary),
    shift(output),
    index ? "" : verdictOf(check),
    index ? DASH : reason(check),
  ]);
}

function scoreArm(arm) {
  if (!arm) return DASH;
  const middle = isNumber(arm.mean) ? `mean ${digits(arm.mean)}` : `${count(arm.scores)} scores`;
  return titled(middle, isNumber(arm.mean) && count(arm.scores) + GAP + "scores", isNumber(arm.keys) && `${count(arm.keys)} keys`,
    arm.keys_out_of_range > 0 && `${count(arm.keys_out_of_range)} of them out of range`, arm.invalid > 0 && `${count(arm.invalid)} invalid`);
}

function signed(value) {
  return (value > 0 ? "+" : "") + digits(value);
}

function shift(output) {
  const size = own({ none: "no shift seen", small: "small", moderate: "moderate", large: "large" }, output.size);
  const psi = isNumber(output.psi)
    && `PSI ${digits(output.psi, 2)} (noise ${digits(output.noise, 2)})${size ? `: ${size}` : ""}`;
  const ks = isNumber(output.ks)
    && `K-S ${digits(output.ks, 2)}${isNumber(output.ks_bound) ? ` (bound ${digits(output.ks_bound, 2)})` : ""}${output.proven ? ": shift proven" : ""}`;
  const mean = difference(output.mean_difference, output.mean_interval, "", signed);
  return mean === DASH ? (psi || ks ? titled("", psi, ks) : DASH) : [mean, titled("", psi, ks)];
}

function splitCheckRow(check) {
  const whose = isNumber(check.pair_share) && check.pair_share < 1 ? "of the keys of these two" : "of the keys seen";
  return [
    titled("Split", "self-check"),
    DASH,
    titled(percent(check.observed_share), whose),
    isNumber(check.expected_share) ? `expected ${percent(check.expected_share, 3)}` : DASH,
    verdictOf(check),
    reason(check),
  ];
}

/** What predicts take of a processor, at the rows that production's have. */
function costRow(check) {
  const limit = check.judges && isNumber(check.limit) && `fails above ${percent(check.limit, 3)} more`;
  const known = isNumber(check.ratio);
  return [
    titled(CHECKS.cost, isNumber(check.rows_per_predict) && `of a predict of ${digits(check.rows_per_predict, 1)} rows`, limit),
    costArm(check.production, known),
    costArm(check.canary, known),
    known ? difference(check.ratio, check.interval, "times", digits) : DASH,
    verdictOf(check),
    reason(check),
  ];
}

function costArm(arm, known) {
  if (!arm) return DASH;
  return titled(known ? duration(arm.seconds) : "", `${count(arm.predicts)} predicts`,
    isNumber(arm.processors) && `${digits(arm.processors)} processors for all`,
    isNumber(arm.peak_memory_bytes) && `${count(arm.peak_memory_bytes / 2 ** 20)} MiB at most in a worker`);
}
