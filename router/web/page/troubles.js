// What goes wrong: warnings, refused requests, faults by kind, fallbacks, breakers, versions that do not load.

const KINDS = ["error", "timeout", "crash", "invalid_output"];

/** Everything that a person should know before anything else, as a list; null when there is nothing. */
function warnings(entry) {
  const lines = [...capLines(entry), ...(entry.warnings ?? [])];
  const silent = entry.registry_refused ? "refuses to be read" : "does not answer";
  if (entry.registry_error) lines.push(`The registry ${silent} for this model: ${entry.registry_error}`);
  if (entry.serving_from_cache) lines.push("It serves what served last, from the cache.");
  for (const [number, one] of Object.entries(entry.versions ?? {})) {
    if (one.error) lines.push(`Version ${number} (${one.state}): ${one.error}`);
    if (one.breaker?.state === "open") lines.push(`The breaker of ${one.breaker.alias} v${number} is open, production has its share: ${one.breaker.why}`);
    if (one.mismatches?.length) lines.push(`Version ${number} ${one.environment ? "has not what it asks for" : "was logged in another environment"}: ${one.mismatches.join("; ")}`);
  }
  return warningBox("h3", "Warnings", lines);
}

/** The same for the gateway as a whole. */
function gatewayWarnings({ ready, config = {}, registry = {}, models = {}, warnings: reported = [], break_glass: glass, state_dir: state }) {
  const lines = [...reported];
  if (glass) lines.push(`Break-glass since ${clock(glass.since)}: every canary is off. ${glass.why}`);
  if (state && !state.durable) lines.push(`Caps and journal are not durable: ${state.reason}`);
  if (!ready) lines.push("The gateway is not ready: /readyz answers 503.");
  if (config.error) lines.push(`The configuration in force is not the newest: ${listed(config.error)}`);
  // Where a model has this warning itself, it names which one.
  const shownThere = Object.values(models).some((model) => model.registry_error);
  if (!registry.reachable && !shownThere) lines.push(`The registry does not answer; what serves goes on. ${registry.error ?? ""}`);
  return warningBox("h2", "Warnings of the gateway", lines);
}

function warningBox(heading, title, lines) {
  const unique = [...new Set(lines)];
  if (!unique.length) return null;
  return el("section", { class: "card warnings" },
    el(heading, null, title),
    el("ul", null, unique.map((line) => el("li", null, line))));
}

/** Refused requests, rates, faults and fallbacks of both versions, and how its breaker stands. */
function faultsTable(alias, one, entry) {
  const rates = one.rates ?? {};
  const rows = [["production", "production", one.production_version], ["canary", alias, one.version]]
    .filter(([key]) => own(rates, key))
    .map(([key, role, number]) => {
      const arm = rates[key];
      return [[swatch(role), " ", named(role), ` ${version(number)}`], perSecond(arm.requests_per_second), refusedWords(role, entry), count(arm.faults),
        count(arm.fallbacks), kindWords(arm), breakerWords(own(entry.versions, String(number))?.breaker)];
    });
  if (!rows.length) return null;
  return el("section", { class: "card faults" },
    el("h3", null, "Faults and fallbacks"),
    table(windowWords(one), ["Version", "Requests", "Refused in the last minute", "Faults", "Fallbacks", "Faults by kind", "Breaker"], rows));
}

/** The same of requests that were refused, where no version is compared with another; null where none was. */
function refusedTable(entry) {
  const rows = Object.entries(entry.last_minute?.aliases ?? {})
    .filter(([, minute]) => minute.refused > 0 || minute.passed_on > 0)
    .map(([role, minute]) => [[swatch(role), " ", named(role)], count(minute.requests), refusedWords(role, entry)]);
  if (!rows.length) return null;
  return el("section", { class: "card faults" },
    el("h3", null, "Refused requests"),
    table("In the last minute", ["Alias", "Requests", "Refused"], rows));
}

/** Requests of an alias for which there was no room: those whose callers got 503, and those that production answered. */
function refusedWords(role, entry) {
  const minute = own(entry.last_minute?.aliases, role);
  if (!minute) return DASH;
  const { requests, refused, passed_on: passedOn } = minute;
  const refusedCount = refused ? count(refused) : "none";
  return titled(minute.refusing ? mark(refusedCount) : refusedCount,
    refused > 0 && `${percent(refused / requests)} of ${count(requests)} got 503`,
    passedOn > 0 && `${count(passedOn)} of ${count(requests)} passed on, and production answered`);
}

function kindWords(arm) {
  const kinds = Object.entries(arm.faults_by_kind ?? {}).filter(([, faults]) => faults > 0)
    .sort(([one], [other]) => KINDS.indexOf(one) - KINDS.indexOf(other));
  if (!kinds.length) return arm.faults ? DASH : "none";
  return kinds.map(([kind, faults]) => `${kind.replaceAll("_", " ")} ${count(faults)}`).join(", ");
}

function breakerWords(breaker) {
  if (!breaker) return DASH;
  const faults = `${count(breaker.faults_of_last_50)} of its last ${Math.min(50, breaker.requests ?? 50)} requests were faults`;
  if (breaker.state !== "open") return titled("closed", breaker.requests ? faults : "nothing judged yet");
  return titled(mark("open"), breaker.why, isNumber(breaker.since) && `since ${clock(breaker.since)}`);
}
