// Caps, in words; and, on the admin listener, taking a canary's share away and giving it back.

const hasLevers = document.body.hasAttribute("data-levers");
const saidOf = new Map(); // what the gateway last said to somebody at this page, by model

/** What a cap is on: one version, or all that the alias may have. */
function capName({ alias, version: number }) {
  return alias + (number === null ? ", whatever version" : ` v${number}`);
}

/** A sentence for each cap: on what, by whom, why and since when. */
function capLines(entry) {
  return (entry.caps ?? []).map((cap) =>
    `${capName(cap)}${cap.version === null ? "," : ""} is capped at ${percent(cap.to_percent / 100, 3)} by ${cap.by}`
    + `${isNumber(cap.timestamp) ? ` since ${clock(cap.timestamp)}` : ""}: ${cap.reason}`);
}

/** Where verbs are taken: abort and resume, with a reason. Typed texts stay when the page is drawn anew. */
function leverCard(id, model, entry) {
  if (!hasLevers || Object.keys(entry.aliases ?? {}).length < 2) return null;
  const field = (name, words, more) => el("label", { class: "field" }, words,
    el("input", { id: `${id}-${name}`, name, autocomplete: "off", ...more }));
  const button = (verb, words, kind) => el("button", { type: "button", class: kind, "data-verb": verb }, words);
  return el("section", { class: "card" },
    el("h3", null, "Levers"),
    el("p", { class: "note" }, "Abort takes the share of what the canary's alias serves, at once; it stays loaded, and production answers its keys. Resume lifts what is capped."),
    el("form", { class: "levers", "data-model": model, autocomplete: "off" }, el("div", { class: "fields" },
      field("reason", "Reason", { maxlength: 500, required: true }),
      field("by", "Your name", { maxlength: 500, required: true }),
      field("token", "Admin token, where the gateway has one", { type: "password", autocomplete: "off" })),
      el("p", { class: "buttons" }, button("abort", "Abort", "strong"), button("resume", "Resume", "plain")),
      el("p", { class: "said", role: "status" }, saidOf.get(model) ?? "")));
}

// One listener for all buttons: the page is drawn anew every two seconds, and those who listen on nodes go with them.
document.addEventListener("click", (event) => {
  const button = event.target instanceof Element && event.target.closest("button[data-verb]");
  if (button) send(button.closest(".levers"), button.dataset.verb);
});

document.addEventListener("submit", (event) => event.preventDefault()); // the key Enter sends nothing

async function send(card, verb) {
  const { model } = card.dataset;
  const typed = (name) => card.querySelector(`[name=${name}]`).value.trim();
  const body = { model, reason: typed("reason"), by: typed("by") };
  if (!body.reason || !body.by) {
    say(model, "Say why, and who you are: both are shown and recorded.");
    return;
  }
  // The token is in its field and in this request's header, and nowhere else.
  const headers = { "Content-Type": "application/json" };
  if (typed("token")) headers.Authorization = `Bearer ${typed("token")}`;
  try {
    const answer = await fetch(`-/${verb}`, {
      method: "POST", headers, body: JSON.stringify(body), cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(ASK_TIMEOUT_MS),
    });
    say(model, outcomeWords(verb, answer, await answer.json().catch(() => ({}))));
  } catch {
    say(model, `The gateway did not answer: whether it took the ${verb} is not known. What holds stands above.`);
  }
  look();
}

function say(model, words) {
  saidOf.set(model, words);
  if (known) show();
}

function outcomeWords(verb, answer, said) {
  if (!answer.ok) return `Refused (${answer.status}): ${said.errors?.join("; ") ?? said.detail ?? "the gateway does not say why"}.`;
  const lasting = said.durable ? "" : ` Not durable: ${said.not_durable_because}.`;
  if (verb === "abort") {
    const capped = (said.capped ?? []).map((one) => `${capName(one)} at ${percent(one.to_percent / 100, 3)}`).join(", ");
    return `Capped: ${capped || "nothing"}.${lasting}`;
  }
  return `Lifted: ${(said.lifted ?? []).map(capName).join("; ") || "nothing was capped"}.${lasting}`;
}
