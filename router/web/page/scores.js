// What the versions answered: scores on one linear axis, or classes side by side.

/** A chart for each counted output of the challenger `alias`. */
function scoreCharts(id, alias, one, width) {
  return (one.scores ?? []).map((counted, index) => {
    const heading = (one.scores.length > 1 || String(counted.output) !== "0")
      ? [counted.kind === "class" ? "Classes, output " : "Scores, output ", named(counted.output)]
      : counted.kind === "class" ? "Classes" : "Scores";
    const own = { id: `${id}-${index}`, alias, one, counted, heading, width };
    if (!sharesOf(counted.production).all && !sharesOf(counted.canary).all) return empty(heading, one);
    return counted.kind === "class" ? classChart(own) : scoreChart(own);
  });
}

function outputOf(one, counted) {
  return (checkOf(one, "scores")?.outputs ?? []).find((output) => String(output.output) === String(counted.output) && (!output.kind || output.kind === counted.kind));
}

function armsOf({ alias, one, counted }, more) {
  return [["production", "production", one.production_version], ["canary", alias, one.version]].map(([key, role, number]) => {
    const counts = counted[key] ?? [];
    return { role, version: version(number), name: `${role} ${version(number)}`, counts, ...more(key, counts) };
  });
}

function scoreChart(given) {
  const { id, alias, one, counted, heading, width } = given;
  const edges = [isNumber(counted.low) ? counted.low : 0, ...(counted.edges ?? [])];
  const [low, high] = [edges[0], edges.at(-1)];
  const at = (value) => (value - low) / (high - low || 1);
  const bins = edges.slice(1).map((to, index) => ({ from: at(edges[index]), to: at(to), label: `${digits(edges[index])} to ${digits(to)}` }));
  const shift = outputOf(one, counted);
  const arms = armsOf(given, (key, counts) => {
    const [p50, p95] = [0.5, 0.95].map((part, index) => own(shift?.[key], ["p50", "p95"][index]) ?? quantileOf(counts, edges, part));
    const marks = [["p50", p50], ["p95", p95]].filter(([, value]) => isNumber(value)).map(([name, value]) => ({ at: at(value), label: name }));
    return { marks, figures: [count(sharesOf(counts).all), digits(own(shift?.[key], "mean")), digits(p50), digits(p95)] };
  });
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => ({ at: part, label: digits(low + part * (high - low)) }));
  const words = arms.map((arm) => `${arm.name}: ${arm.figures[0]} scores, mean ${arm.figures[1]}, p50 ${arm.figures[2]}, p95 ${arm.figures[3]}.`);
  const plot = { id, width, bins, ticks, arms, title: `Scores of production and ${alias}`, words: [...words, shiftWords(shift)].join(" ") };
  return chart(heading, `Share of the scores in each bin, ${windowWords(one)}.`, plot,
    legend("Scores and where they lie", ["Scores", "Mean", "p50", "p95"], arms), shiftWords(shift));
}

function shiftWords(shift) {
  if (!isNumber(shift?.psi)) return "";
  const size = own({ none: "no shift seen", small: "a small shift", moderate: "a moderate shift", large: "a large shift" }, shift.size);
  return `PSI ${digits(shift.psi, 2)} (noise ${digits(shift.noise, 2)})${size ? `: ${size}` : ""}.`;
}

/** Classes have no order: two bars for each, with their names. */
function classChart(given) {
  const { id, alias, one, counted, heading, width } = given;
  const arms = armsOf(given, (key, counts) => ({ figures: [count(sharesOf(counts).all)], ...sharesOf(counts) }));
  const top = niceTop(Math.max(0.01, ...arms.flatMap((arm) => arm.shares)));
  const classes = (counted.classes ?? []).map((name) => (name === "__other__" ? "any other" : String(name)));
  const inner = width - 70;
  const row = 50;
  const words = classes.map((name, index) => `${name}: ${arms.map((arm) => `${arm.role} ${percent(arm.shares[index] ?? 0)}`).join(", ")}.`).join(" ");
  const shift = outputOf(one, counted);
  return el("figure", { class: "card chart", "aria-labelledby": `${id}-heading` },
    el("h3", { id: `${id}-heading` }, heading),
    el("p", { class: "note" }, `Share of the answers of each class, ${windowWords(one)}.`),
    legend("Answers", ["Answers"], arms),
    svg("svg", { class: "plot", viewBox: `0 0 ${width} ${classes.length * row + 4}`, role: "img", "aria-labelledby": `${id}-title ${id}-words` },
      svg("title", { id: `${id}-title` }, `Classes of production and ${alias}`),
      svg("desc", { id: `${id}-words` }, words),
      classes.map((name, index) => [
        svg("text", { class: "class-name", x: 0, y: index * row + 13 }, shortened(name, width / 8)),
        arms.map((arm, lane) => {
          const [share, y] = [arm.shares[index] ?? 0, index * row + 19 + lane * 13];
          const long = Math.max(1, (share / top) * inner);
          return svg("g", { class: `class-bar ${tone(arm.role)}` },
            lane > 0 && svg("rect", { class: "hatched", x: 0, y, width: long, height: 11 }),
            svg("rect", { class: lane ? "edge" : "area", x: lane ? 0.5 : 0, y, width: long, height: 11 }),
            svg("text", { class: "tick", x: long + 6, y: y + 10 }, percent(share)));
        }),
      ])),
    shiftWords(shift) && el("p", { class: "note below" }, shiftWords(shift)));
}

function shortened(text, most) {
  const letters = [...text];
  return letters.length > most ? `${letters.slice(0, Math.floor(most) - 1).join("")}…` : text;
}
