// Asks the gateway every two seconds while somebody looks, and shows what it says.

const EVERY_MS = 2000;
const ASK_TIMEOUT_MS = 5000;

const at = (id) => document.getElementById(id);
let known = null; // what the gateway last said
let answeredAt = null; // the reader's clock, in seconds
let skew = 0; // the gateway's clock minus the reader's, in seconds
let silent = false;
let timer = null;
let spoken = null; // verdicts when last looked at, by model, alias and version

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(ASK_TIMEOUT_MS), cache: "no-store", credentials: "same-origin" });
  if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
  const date = Date.parse(answer.headers.get("Date") ?? "");
  // The header has whole seconds; less than two of them are no difference.
  if (Number.isFinite(date)) skew = Math.abs(date - Date.now()) > 2000 ? (date - Date.now()) / 1000 : 0;
  return answer.json();
}

async function look() {
  let answers = null;
  try {
    const [state, compare] = await Promise.all([ask("v1/state"), ask("v1/compare").catch((error) => ({ models: {}, error: String(error) }))]);
    answers = { state, compare };
  } catch {
    speak(true);
  }
  if (answers) take(answers);
  clearTimeout(timer); // of a look that was under way beside this one
  if (!document.hidden) timer = setTimeout(look, EVERY_MS);
}

function take(answers) {
  const first = known === null;
  known = answers;
  answeredAt = Date.now() / 1000;
  speak(false);
  notice(known.compare.error ? `No comparison: ${known.compare.error}` : "");
  try {
    noteVerdicts();
    show();
  } catch (error) {
    notice(`This page could not draw what the gateway says (${error}). It is in /v1/state and /v1/compare.`);
  }
  if (first && location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

/** Say once that the gateway is silent, and once that it answers again. */
function speak(isSilent) {
  if (isSilent !== silent) announce(isSilent ? "The gateway does not answer." : "The gateway answers again.");
  silent = isSilent;
  document.body.classList.toggle("silent", silent);
  if (silent) {
    notice(answeredAt === null ? "No answer from the gateway yet. This page keeps asking."
      : `No answer since ${clock(answeredAt)}. What you see is from then; this page keeps asking.`);
  }
  pulse();
}

function pulse() {
  at("pulse").textContent = silent ? "▲ no answer"
    : document.hidden ? "paused" : `live · ${clock(answeredAt)}`;
}

function notice(words) {
  const place = at("notice");
  place.hidden = !words;
  if (place.textContent !== words) place.textContent = words;
}

/** For screen readers: what is said is gone from the document soon, so that nobody reads it twice. */
function announce(words) {
  at("announcer").textContent = words;
  setTimeout(() => {
    if (at("announcer").textContent === words) at("announcer").textContent = "";
  }, 10000);
}

/** Announce a sentence when its verdict is another one; figures that grow are no news. */
function noteVerdicts() {
  const now = new Map();
  for (const [model, challengers] of Object.entries(known.compare.models ?? {})) {
    for (const [alias, one] of Object.entries(challengers)) {
      const id = JSON.stringify([model, alias, one.version]);
      now.set(id, one.verdict);
      if (spoken === null || spoken.get(id) === one.verdict) continue;
      announce(`${model}: ${verdictWord(one.verdict)}. ${one.why ?? ""}`);
    }
  }
  spoken = now;
}

function show() {
  const { state, compare } = known;
  const models = Object.keys(state.models ?? {});
  const events = state.events ?? [];
  const seen = { state, events, now: Date.now() / 1000 + skew, width: chartWidth() };
  renew(at("main"), el("div", null, gatewayWarnings(state), models.length
    ? models.map((model) => modelSection(model, { ...seen, compared: own(compare.models, model) }))
    : el("p", { class: "note" }, "No registered model is configured.")));
  at("models").hidden = models.length < 2;
  renew(at("models"), el("div", null, modelLinks(models, compare)));
  renew(at("gateway"), el("div", null, gatewayLine(state, seen.now)));
  document.title = titleOf(models, compare);
}

function titleOf(models, compare) {
  const verdict = worst(Object.assign({}, ...models.map((model, index) =>
    Object.fromEntries(Object.entries(own(compare.models, model) ?? {}).map(([alias, one]) => [`${index} ${alias}`, one])))));
  const named = models.length === 1 ? `${models[0]} · ` : "";
  return `${verdict ? `${VERDICTS[verdict].sign} ${VERDICTS[verdict].word} · ` : ""}${named}canary-router`;
}

/** Pictures are drawn as wide as they are shown, so that their texts have the size of the others. */
function chartWidth() {
  const columns = window.matchMedia("(min-width: 60rem)").matches ? 2 : 1;
  const whole = Math.min(document.documentElement.clientWidth, 1200);
  return Math.max(240, Math.round((whole - (columns === 2 ? 32 + 16 : 24)) / columns - 34));
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
    pulse();
  } else {
    look();
  }
});
window.addEventListener("resize", () => known && show());
look();
