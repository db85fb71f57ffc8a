// The verdict: a word, a sign and a colour, and the sentence that says why.

const VERDICTS = {
  pass: { word: "PASS", sign: "✓" },
  fail: { word: "FAIL", sign: "✕" },
  not_enough_data: { word: "NOT ENOUGH DATA", sign: "…" },
};
const WORST_FIRST = ["fail", "not_enough_data", "pass"];
const UNKNOWN = { word: "NO VERDICT", sign: DASH };

/** The word and its sign. */
function badge(verdict, small = false) {
  const { word, sign } = own(VERDICTS, verdict) ?? UNKNOWN;
  return marked(own(VERDICTS, verdict) ? verdict : "none", sign, word, small);
}

/** What is no verdict; `worthALook`, and no more. */
function remark(word, worthALook) {
  return marked(worthALook ? "remarkable" : "none", worthALook ? "▲" : "≈", word, true);
}

function marked(kind, sign, word, small) {
  return el("span", { class: `badge ${kind}${small ? " small" : ""}` },
    el("span", { class: "sign", "aria-hidden": "true" }, sign), ` ${word}`);
}

/** One banner for each challenger; where there is none, what serves. */
function banners(entry, compared) {
  const challengers = Object.entries(compared ?? {});
  if (!challengers.length) return [banner("none", withoutChallenger(entry))];
  challengers.sort(([, one], [, other]) => WORST_FIRST.indexOf(one.verdict) - WORST_FIRST.indexOf(other.verdict));
  return challengers.map(([alias, one]) =>
    banner(one.verdict, one.why || "The gateway gave no reason.",
      challengers.length > 1 ? alias : null, notComparable(one)));
}

function banner(verdict, why, alias = null, remark = "") {
  const kind = own(VERDICTS, verdict) ? verdict : "none";
  return el("div", { class: `banner ${kind}` },
    el("p", { class: "verdict" }, kind === "none" ? null : badge(verdict), alias && named(alias)),
    el("p", { class: "sentence" }, why),
    remark && el("p", { class: "remark" }, remark));
}

function notComparable(one) {
  if (one.comparable !== false || one.why?.includes(one.not_comparable_because)) return "";
  return `Not compared now: ${one.not_comparable_because || "the gateway does not say why"}.`;
}

/** What serves, in a sentence, where there is nothing to compare. */
function withoutChallenger(entry) {
  const production = own(entry.aliases, "production");
  if (!isNumber(production?.bound)) return "Nothing is served: production has no version that is ready.";
  const serves = `Production ${version(production.bound)} answers everybody`;
  const others = Object.entries(entry.aliases ?? {}).filter(([role]) => role !== "production");
  if (!others.length) return `${serves}; no canary is configured.`;
  const [role, other] = others[0];
  if (other.bound === production.bound) return `${serves}; ${role} is the same version.`;
  if (isNumber(other.bound)) return `${serves}; ${role} ${version(other.bound)} is there and is not compared yet.`;
  if (isNumber(other.aspired)) return `${serves}; ${role} ${version(other.aspired)} is not ready.`;
  return `${serves}; the registry names no ${role}.`;
}

/** The worst verdict of a model's challengers, or null where there is none. */
function worst(compared) {
  const verdicts = Object.values(compared ?? {}).map((one) => one.verdict);
  return WORST_FIRST.find((verdict) => verdicts.includes(verdict)) ?? null;
}
