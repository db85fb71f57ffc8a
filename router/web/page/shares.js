// Who gets what: the split as configured, in force and observed; and the versions behind the aliases.

/** Bars of one length each, so that a share can be compared with the one above it. */
function splitBars(entry, compared) {
  const roles = Object.keys(entry.aliases ?? {});
  const inForce = asRatios(entry.split, roles);
  const rows = [splitRow("in force", inForce, "of the keys")];
  const configured = asRatios(entry.split_configured, roles);
  rows.unshift(splitRow("configured", configured, "of the keys"));
  const observed = observedShares(compared);
  if (observed) rows.push(splitRow("observed", observed, "of the keys seen"));
  return el("section", { class: "card split" },
    el("h3", null, "Split"),
    roles.some((role) => inForce[role] !== configured[role])
      && el("p", { class: "warning" }, "The share in force is not the one configured."),
    el("div", { class: "bars" }, rows),
    splitKey(roles));
}

function asRatios(percents, roles) {
  return Object.fromEntries(roles.map((role) => [role, (own(percents, role) ?? 0) / 100]));
}

/** Of all keys: what is observed of a pair is of the keys of these two, so it is scaled by what they own. */
function observedShares(compared) {
  const shares = {};
  let rest = 1;
  for (const [alias, one] of Object.entries(compared ?? {})) {
    const check = checkOf(one, "split");
    if (!isNumber(check?.observed_share)) return null;
    shares[alias] = check.observed_share * (isNumber(check.pair_share) ? check.pair_share : 1);
    rest -= shares[alias];
  }
  return Object.keys(shares).length ? { production: Math.max(0, rest), ...shares } : null;
}

function splitRow(label, shares, unit) {
  const parts = Object.entries(shares);
  const words = parts.map(([role, share]) => `${role} ${percent(share, 3)}`).join(", ");
  let start = 0;
  const pieces = parts.map(([role, share]) => {
    const x = start;
    start += share * 100;
    // The outline lies half outside of a shape: inset, so that the end of the bar does not cut it.
    const inset = tone(role) === "production" ? 0 : 1;
    return share > 0 && svg("rect", { class: `arm ${tone(role)}`, x: `${x}%`, y: inset, width: `${share * 100}%`, height: 18 - 2 * inset });
  });
  return el("div", { class: "bar-row" },
    el("span", { class: "bar-label" }, label),
    svg("svg", { class: "bar", height: 18, role: "img", "aria-label": `Split ${label}: ${words} ${unit}` }, pieces),
    el("span", { class: "bar-figures" }, parts.map(([role, share], index) =>
      el("span", null, index ? " · " : "", percent(share, 3)))));
}

function splitKey(roles) {
  return el("p", { class: "key" }, roles.map((role) =>
    el("span", { class: "key-item" }, swatch(role), named(role))));
}

/** Production is filled, every other alias hatched, whatever their colours are. */
function tone(role) {
  return role === "production" ? "production" : role === "canary" ? "canary" : "further";
}

function swatch(role) {
  return svg("svg", { class: "swatch", width: 18, height: 12, viewBox: "0 0 18 12", "aria-hidden": "true" },
    svg("rect", { class: `arm ${tone(role)}`, x: 1, y: 1, width: 16, height: 10 }));
}

const PREFLIGHT_WORDS = { pass: "passed", fail: "failed", not_enough_data: "not enough data", left_out: "left out", under_way: "under way" };
const GATE_WORDS = { passed: "passed", overridden: "let through by an override", held: "not passed, held at 0", not_passed: "not passed", not_judged: "not read yet" };

/** Aliases and the versions behind them, and versions that are on their way in or out. */
function versionsTable(entry, now) {
  const rows = Object.entries(entry.aliases ?? {}).map(([role, alias]) => aliasRow(role, alias, entry, now));
  const bound = Object.values(entry.aliases ?? {}).map((alias) => alias.bound);
  const others = Object.entries(entry.versions ?? {}).filter(([number]) => !bound.includes(Number(number)));
  const more = others.map(([number, one]) =>
    [el("span", null, "no alias"), DASH, [version(Number(number)), environmentWords(one), preflightWords(one)], stateWords(one), workerWords(one), DASH]);
  return el("section", { class: "card versions" },
    el("h3", null, "Versions"),
    table("Aliases and the versions that serve them", ["Alias", "In registry", "Serves", "State", "Workers", "Since"],
      [...rows, ...more], "versions-table"));
}

function aliasRow(role, alias, entry, now) {
  const one = own(entry.versions, String(alias.bound));
  const called = alias.name && alias.name !== role ? [" ", el("span", { class: "aside line" }, "registry: ", named(alias.name))] : null;
  return [
    [swatch(role), " ", named(role), called],
    isNumber(alias.aspired) ? version(alias.aspired) : "none",
    [el("strong", null, isNumber(alias.bound) ? version(alias.bound) : "nothing"), environmentWords(one), gateWords(alias.gate), preflightWords(one)],
    alias.stale ? mark("stale: the registry no longer names it")
      : alias.pending ? [mark("pending"), one && `, ${stateWords(one)}`] : stateWords(one),
    workerWords(one),
    moment(alias.bound_timestamp, now),
  ];
}

function stateWords(one) {
  if (!one) return DASH;
  return one.phase === "environment" && one.state === "loading" ? "loading: its environment is built" : String(one.state);
}

/** The version's own Python environment in a line; null where it runs in the gateway's. */
function environmentWords(one) {
  const built = one?.environment;
  if (!built) return null;
  const more = [...(built.differs ?? []), built.note].filter(Boolean).join("\n");
  return [" ", el("span", { class: "aside line", title: more || null }, `own Python ${built.python}, pins ${String(built.pins).slice(0, 8)}`)];
}

function preflightVerdict(verdict) {
  return own(PREFLIGHT_WORDS, verdict) ?? String(verdict);
}

/** How a version answered the last requests before it was bound; null where it was not asked any. */
function preflightWords(one) {
  const found = one?.preflight;
  if (!found) return null;
  const figures = [found.why, isNumber(found.flips) && `${percent(found.flips)} of the decisions flipped`,
    isNumber(found.mean_difference) && `scores differ by ${found.mean_difference} on the average`,
    isNumber(found.latency_ratio) && `predicts take ${found.latency_ratio} times production's`].filter(Boolean);
  return [" ", el("span", { class: "aside line", title: figures.join("\n") || null }, `pre-flight: ${preflightVerdict(found.verdict)}`)];
}

/** What the gate says of what an alias serves; null where it is not asked. */
function gateWords(gate) {
  if (!gate) return null;
  const words = own(GATE_WORDS, gate.state) ?? String(gate.state);
  return [" ", el("span", { class: "aside line", title: gate.why || null }, `gate: ${words}`)];
}

function workerWords(one) {
  if (!one) return DASH;
  const busy = one.in_flight ? `${count(one.in_flight)} in flight` : "";
  return titled(`${(one.workers ?? []).length}${one.spare ? " + 1 spare" : ""}`, busy);
}

function mark(words) {
  return el("span", { class: "mark" }, `▲ ${words}`);
}
