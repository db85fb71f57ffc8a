// What happened, newest first, in words. Facts that this page does not know are shown as they are.

const SHOWN = 12;
const MOST = 200;

const CHANGE = "change", TROUBLE = "trouble", GOOD = "good", QUIET = "quiet";
const SIGNS = { [CHANGE]: "●", [TROUBLE]: "▲", [GOOD]: "✓", [QUIET]: "·" };

/** Each fact: how it is marked, and its words. */
const SENTENCES = {
  AliasAspired: (e) => [CHANGE, e.new === null ? ["The registry names no ", named(e.alias), " any more"]
    : ["Alias moved: the registry names ", version(e.new), " as ", named(e.alias), e.old === null ? "" : `, before ${version(e.old)}`]],
  AliasBound: (e) => [CHANGE, [named(e.alias), ` serves ${version(e.new)}`, e.old === null ? "" : `, before ${version(e.old)}`]],
  AliasUnbound: (e) => [CHANGE, [named(e.alias), ` no longer serves ${version(e.old)}; production has its share`]],
  BreakerOpened: (e) => [TROUBLE, ["Breaker open: production has the share of ", named(e.alias), ` ${version(e.version)}; ${e.why}`]],
  BreakerClosed: (e) => [GOOD, ["Breaker reset: ", named(e.alias), ` ${version(e.version)}; ${e.why}`]],
  VersionLoaded: (e) => [QUIET, [`${version(e.version)} is loaded`, secondsIn(e), e.note ? `: ${e.note}` : ""]],
  EnvironmentDiffers: (e) => [TROUBLE, e.own ? `The environment of ${version(e.version)} is not what it asks for` : `${version(e.version)} was logged in another environment`],
  EnvironmentBuilt: (e) => [QUIET, `The environment of ${version(e.version)} is built`],
  EnvironmentRebuilt: (e) => [TROUBLE, `An environment had changed and was put right for ${version(e.version)}: ${e.why}`],
  EnvironmentsRemoved: (e) => [QUIET, `Environments that nobody uses were removed: ${(e.names ?? []).join(", ")}`],
  EnvironmentsOverBound: () => [TROUBLE, "Environments are over their bound, and all are in use"],
  LoadRefused: (e) => [TROUBLE, `Swap failed: ${version(e.version)} did not load (${e.phase}); ${isNumber(e.retry_seconds) ? `next try in ${span(e.retry_seconds)}` : "not tried again by itself"}. ${e.error}`],
  VersionDraining: (e) => [QUIET, `${version(e.version)} finishes its last requests (${count(e.requests)})`],
  AliasWithoutVersion: (e) => [TROUBLE, ["Nothing answers for ", named(e.alias), `: ${version(e.version)} ends before ${version(e.successor)} is loaded`]],
  VersionGone: (e) => [QUIET, `${version(e.version)} is gone`],
  WorkerEnded: (e) => [TROUBLE, `A worker of ${version(e.version)} ended: ${String(e.reason).replaceAll("_", " ")}${e.detail ? `, ${e.detail}` : ""}`],
  WorkerLoadFailed: (e) => [TROUBLE, `A worker of ${version(e.version)} did not load; next try ${e.retry_seconds ? `in ${span(e.retry_seconds)}` : "now"}. ${e.error}`],
  WorkerReplaced: (e) => [GOOD, `${version(e.version)} has all its workers again, after ${duration(e.seconds)}`],
  CanaryFaulted: (e) => [TROUBLE, ["First fault of its kind: ", named(e.alias), ` ${version(e.version)}, ${String(e.kind).replaceAll("_", " ")}`]],
  Polled: (e) => (e.error ? [TROUBLE, `The registry ${e.refused ? "refuses to be read" : "does not answer"}: ${e.error}`]
    : [GOOD, "The registry answers again"]),
  SplitInForce: (e) => [CHANGE, ["Split in force: ", splitWords(e.in_force), splitWords(e.in_force) === splitWords(e.configured) ? "" : ` (configured ${splitWords(e.configured)})`]],
  ConfigApplied: (e) => [CHANGE, e.changes?.length ? `Configuration in force: ${e.changes.join(", ")} changed` : "Configuration in force"],
  ConfigRejected: (e) => [TROUBLE, `Configuration refused, the former one stays: ${(e.problems ?? []).join("; ")}`],
  ReadinessChanged: (e) => (e.ready ? [GOOD, "The gateway is ready"] : [TROUBLE, "The gateway is not ready"]),
  ChildRestarted: (e) => [TROUBLE, `The ${e.child} was started again: ${e.reason}`],
  TickFailed: (e) => [TROUBLE, `The loop ${e.loop} failed: ${e.error}`],
  LoopRecovered: (e) => [GOOD, `The loop ${e.loop} works again`],
  ModelRemoved: () => [CHANGE, "It left the configuration"],
  ServingFromCache: () => [TROUBLE, "The registry was never reached: what served last is loaded from the cache"],
  LastGoodRefused: (e) => [TROUBLE, `What served last can not be taken from the cache: ${e.error}`],
  LastGoodNotWritten: (e) => [TROUBLE, `What serves could not be recorded: ${e.error}`],
  CapSet: (e) => [TROUBLE, ["Capped at ", percent(e.share, 3), ": ", ...capWords(e)]],
  CapLifted: (e) => [GOOD, ["Cap lifted: ", ...capWords(e)]],
  BreakGlassOn: (e) => [TROUBLE, `Break-glass: every canary is off. ${e.why}`],
  BreakGlassOff: (e) => [GOOD, `Break-glass is over. ${e.why}`],
  GatePassed: (e) => [e.override ? TROUBLE : GOOD, [e.override ? "Let through without having passed the gate: " : "Passed the gate: ", named(e.alias), ` ${version(e.version)}; ${e.by_what}`]],
  GateNotPassed: (e) => [TROUBLE, [named(e.alias), ` ${version(e.version)} has not passed the gate and is ${e.held ? "held at 0" : "served all the same"}: ${e.why}`]],
  PreflightEnded: (e) => [{ pass: GOOD, fail: TROUBLE }[e.report?.verdict] ?? QUIET,
    [`Pre-flight of ${version(e.version)}: ${preflightVerdict(e.report?.verdict)}${e.held ? ", held at 0" : ""}; ${e.report?.why}`]],
  MoveExplained: (e) => [CHANGE, `${e.by} moves aliases in the registry: ${e.why}`],
  StateNotDurable: (e) => [TROUBLE, `Caps and journal are not durable: ${e.reason}`],
  StateDurable: () => [GOOD, "Caps and journal are durable again"],
  StateSetAside: (e) => [TROUBLE, `A file of the state directory can not be read: ${e.name}; ${e.why}`],
  JournalCut: (e) => [QUIET, `The journal ended in the middle of a line; ${count(e.size)} bytes were cut off`],
  PeerLost: (e) => [TROUBLE, `Another gateway does not answer, so its caps are not known here: ${e.error}`],
  PeerFound: () => [GOOD, "A gateway that did not answer does so again"],
  NotificationTried: (e) => (e.result === "delivered" ? [GOOD, `Notifications are taken again by ${e.receiver}`]
    : [TROUBLE, `A notification was not taken by ${e.receiver}: ${e.why}`]),
  VerdictChanged: (e) => [own(VERDICTS, e.verdict) === VERDICTS.fail ? TROUBLE : CHANGE,
    ["Verdict of ", named(e.alias), ` ${version(e.version)}: ${verdictWord(e.verdict)}, before ${verdictWord(e.before)}. ${e.why}`]],
};

function verdictWord(verdict) {
  return (own(VERDICTS, verdict) ?? UNKNOWN).word;
}

function capWords(cap) {
  return [named(cap.alias), cap.version === null ? ", whatever version" : ` ${version(cap.version)}`, `, by ${cap.by}: ${cap.why}`];
}

function splitWords(shares) {
  return Object.entries(shares ?? {}).map(([role, share]) => `${role} ${percent(share, 3)}`).join(", ");
}

function secondsIn(event) {
  const phases = Object.values(event.phase_seconds ?? {}).filter(isNumber);
  return phases.length ? ` in ${duration(phases.reduce((sum, one) => sum + one, 0))}` : "";
}

/** Those of one model and of the gateway as a whole. */
function eventsOf(events, model) {
  return events.filter((event) => event.model === undefined || event.model === model);
}

function timeline(events, now) {
  const newest = events.slice(-MOST).reverse();
  const items = newest.map((event) => el("li", null, eventLine(event, now)));
  return el("section", { class: "card timeline" },
    el("h3", null, "What happened"),
    items.length ? el("ol", { class: "events" }, items.slice(0, SHOWN)) : el("p", { class: "note" }, "Nothing since the start."),
    items.length > SHOWN && el("details", { class: "older" },
      el("summary", null, `${items.length - SHOWN} before that`),
      el("ol", { class: "events" }, items.slice(SHOWN))));
}

function eventLine(event, now) {
  const [kind, words] = sentence(event);
  return [
    el("span", { class: `sign ${kind}`, "aria-hidden": "true" }, SIGNS[kind]),
    el("span", { class: "words" }, words),
    moment(event.timestamp, now),
  ];
}

function sentence(event) {
  try {
    const known = own(SENTENCES, event.event);
    if (known) return known(event);
  } catch {
    // A fact of another shape than ours is shown as it is.
  }
  const { event: name, timestamp, ...rest } = event;
  return [QUIET, `${name ?? "something"}: ${JSON.stringify(rest)}`];
}
