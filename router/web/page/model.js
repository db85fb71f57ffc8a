// One registered model, from its verdict to what happened.

/** An id that a link can name, made of any model's name. */
function anchor(model) {
  return "model-" + [...model].map((letter) => (/[A-Za-z0-9]/.test(letter) ? letter : `_${letter.codePointAt(0).toString(16)}`)).join("");
}

/** The section of `model`. `seen`: state, compared (by challenger), events, now, width of a chart in pixels. */
function modelSection(model, seen) {
  const id = anchor(model);
  const entry = seen.state.models[model];
  try {
    return el("section", { id, class: "model", "aria-labelledby": `${id}-name`, tabindex: "-1" },
      el("h2", { id: `${id}-name` }, named(model)),
      leverCard(id, model, entry), // before all that comes and goes, so that what is typed into it stays
      parts(id, model, entry, seen));
  } catch (error) {
    return el("section", { id, class: "model" }, el("h2", null, named(model)),
      el("p", { class: "warning" }, `This page could not draw it (${error}). Its facts are in /v1/state.`));
  }
}

function parts(id, model, entry, { compared, events, now, width }) {
  const mine = eventsOf(events, model);
  const challengers = Object.entries(compared ?? {});
  const shown = challengers.filter(([, one]) => one.checks?.length);
  return [
    banners(entry, compared),
    warnings(entry),
    el("div", { class: "pair" }, splitBars(entry, compared), versionsTable(entry, now)),
    shown.map(([alias, one], index) => [
      checksTable(alias, one, challengers.length > 1),
      patternCard(alias, one, challengers.length > 1),
      el("div", { class: "pair" },
        latencyChart(`${id}-latency-${index}`, alias, one, width),
        scoreCharts(`${id}-scores-${index}`, alias, one, width)),
      faultsTable(alias, one, entry),
    ]),
    shown.length ? null : refusedTable(entry),
    timeline(mine, now),
  ];
}

/** Links to the models, with the verdict of each; nothing where there is only one. */
function modelLinks(models, compare) {
  return models.map((model) => {
    const verdict = worst(own(compare?.models, model));
    return el("a", { href: `#${anchor(model)}`, class: "model-link" }, named(model), " ", verdict && badge(verdict, true));
  });
}
