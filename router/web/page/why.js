// Under a FAIL: what the failed requests of a challenger have in common.

/** The card of `one`, the challenger `alias`; null unless it fails and its requests are looked at. */
function patternCard(alias, one, several) {
  const { pattern } = one;
  if (one.verdict !== "fail" || !pattern || pattern.finding === "off") return null;
  const rows = (pattern.shared ?? []).map((shared) =>
    // The name of a column is whatever its version says.
    [named(shared.trait), partOf(shared.faults, pattern.faults), partOf(shared.good_answers, pattern.good_answers), likelihood(shared.p)]);
  return el("section", { class: "card pattern" },
    el("h3", null, several ? ["What the faults share, ", named(alias)] : "What the faults share"),
    rows.length ? null : el("p", { class: "note" }, named(pattern.why)),
    rows.length ? table(looked(pattern), ["Requests with", "Of the faults", "Of good answers", "By chance"], rows) : null);
}

function looked(pattern) {
  const without = pattern.faults_without_traits ? `; of ${count(pattern.faults_without_traits)} further faults nothing is known` : "";
  const leftOut = pattern.columns_left_out ? `; ${count(pattern.columns_left_out)} columns are not looked at` : "";
  return `Of different keys, at this gateway${without}${leftOut}`;
}

function partOf(number, whole) {
  return `${count(number)} of ${count(whole)}`;
}

/** A chance, corrected for how much was looked at. */
function likelihood(p) {
  return !isNumber(p) ? DASH : p < 1e-6 ? "under 1 in a million" : `1 in ${count(Math.round(1 / p))}`;
}
