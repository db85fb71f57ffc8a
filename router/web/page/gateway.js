// The gateway itself: its version, its configuration, its registry, and the gateways that it judges with.

function gatewayLine(state, now) {
  const { config = {}, registry = {} } = state;
  const together = gatewaysWords(state.fleet?.gateways);
  const items = [
    ["Gateway", ["canary-router ", String(state.version ?? DASH), state.ready ? ", ready" : [", ", mark("not ready")]]],
    ["Configuration", [el("code", { title: config.digest ?? "" }, String(config.digest ?? DASH).slice(0, 12)),
      config.error && [" ", mark("not the newest")]]],
    ["Registry", registry.reachable ? ["answers, last ", moment(registry.last_success_timestamp, now)]
      : [mark("does not answer"), registry.last_success_timestamp ? [", last ", moment(registry.last_success_timestamp, now)] : ""]],
    together && ["Judged together", together],
    ["Serving from the cache", state.serving_from_cache ? mark("yes: the registry has not answered since the start") : "no"],
  ];
  return [el("h2", null, "Gateway"),
    el("dl", null, items.filter(Boolean).map(([term, value]) => el("div", null, el("dt", null, term), el("dd", null, value)))),
    el("p", { class: "note" }, "The same as JSON: ", el("a", { href: "v1/state" }, "/v1/state"), ", ",
      el("a", { href: "v1/compare" }, "/v1/compare"), ". For Prometheus: ", el("a", { href: "metrics" }, "/metrics"), ".")];
}

/** Whose evidence makes a verdict; null where there is only this gateway. */
function gatewaysWords(gateways) {
  const { counted = [], waiting = [], left_out: leftOut = [] } = gateways ?? {};
  if (counted.length + leftOut.length < 2) return null;
  return [counted.map((host, index) => [index ? ", " : "", named(host)]),
    waiting.map((one) => el("span", null, "; ", mark("waiting"), " for ", named(one.host), `, silent for ${span(one.silent_seconds)}`)),
    leftOut.map((one) => el("span", null, "; ", mark("left out"), " ", named(one.host), `: ${one.why}`))];
}

function listed(error) {
  return Array.isArray(error) ? error.join("; ") : String(error);
}
