// Two histograms on one axis: production filled, the challenger hatched and outlined, so that colour says nothing alone.

const HIGH = 150; // of the plot, in pixels
const LEFT = 40;
const RIGHT = 32; // room for the word at the last mark
const TOP = 10;
const LANE = 15; // of one arm's marks below the axis

/** Shares of `counts`, and how many there are. */
function sharesOf(counts) {
  const all = (counts ?? []).reduce((sum, value) => sum + (value || 0), 0);
  return { all, shares: (counts ?? []).map((value) => (all ? value / all : 0)) };
}

/** A value below `part` of the counts lies, interpolated in its bin; null without counts. `edges` has one more. */
function quantileOf(counts, edges, part) {
  const { all } = sharesOf(counts);
  if (!all) return null;
  let below = 0;
  for (const [index, value] of counts.entries()) {
    if (below + value >= part * all && value > 0) {
      const [low, high] = [edges[index], edges[index + 1]];
      return Number.isFinite(high) ? low + (high - low) * ((part * all - below) / value) : low;
    }
    below += value;
  }
  return null;
}

/** Whether that value lies in the last bin, beyond the last edge: then it is no measurement. */
function isOver(counts, part) {
  const { all, shares } = sharesOf(counts);
  return all > 0 && shares.slice(0, -1).reduce((sum, share) => sum + share, 0) < part;
}

/**
 * The picture. `plot`: id, title, words (its figures), width in pixels; bins: [{from, to, label}] with positions
 * from 0 to 1; ticks: [{at, label}]; arms: [{role, counts, marks: [{at, label}]}], production first.
 */
function histogram(plot) {
  const inner = plot.width - LEFT - RIGHT;
  const x = (at) => LEFT + Math.min(1, Math.max(0, at)) * inner;
  const arms = plot.arms.map((arm) => ({ ...arm, ...sharesOf(arm.counts) }));
  const top = niceTop(Math.max(0.01, ...arms.flatMap((arm) => arm.shares)));
  const y = (share) => TOP + HIGH * (1 - share / top);
  const lanes = arms.filter((arm) => arm.marks.length);
  const height = TOP + HIGH + 24 + lanes.length * LANE + (lanes.length ? 4 : 0);
  const words = `${plot.id}-words`;
  const title = `${plot.id}-title`;
  return svg("svg", { class: "plot", viewBox: `0 0 ${plot.width} ${height}`, role: "img", "aria-labelledby": `${title} ${words}` },
    svg("title", { id: title }, plot.title),
    svg("desc", { id: words }, plot.words),
    [0, 0.5, 1].map((part) => [
      svg("line", { class: part ? "grid" : "axis", x1: LEFT, x2: plot.width - RIGHT, y1: y(part * top), y2: y(part * top) }),
      svg("text", { class: "tick", x: LEFT - 6, y: y(part * top) + 4, "text-anchor": "end" }, percent(part * top, 1).replace(GAP, "")),
    ]),
    arms.map((arm) => outline(arm, plot.bins, x, y)),
    plot.ticks.map((tick) => [
      svg("line", { class: "axis", x1: x(tick.at), x2: x(tick.at), y1: y(0), y2: y(0) + 4 }),
      svg("text", { class: "tick", x: x(tick.at), y: y(0) + 17, "text-anchor": anchorAt(tick.at) }, tick.label),
    ]),
    lanes.map((arm, lane) => marks(arm, x, y(0) + 24 + lane * LANE + LANE / 2)),
    plot.bins.map((bin, index) => bin.to > bin.from
      && svg("rect", { class: "hover", x: x(bin.from), y: TOP, width: x(bin.to) - x(bin.from), height: HIGH },
        svg("title", null, binWords(bin, index, arms)))));
}

function anchorAt(at) {
  return at < 0.02 ? "start" : at > 0.98 ? "end" : "middle";
}

function binWords(bin, index, arms) {
  return [bin.label, ...arms.map((arm) => `${arm.role}: ${percent(arm.shares[index] ?? 0)} (${count(arm.counts?.[index] ?? 0)})`)].join("\n");
}

/** The steps of one arm as an area. */
function outline(arm, bins, x, y) {
  if (!arm.all) return null;
  const full = arm.shares.map((share) => share > 0);
  const [first, last] = [full.indexOf(true), full.lastIndexOf(true)];
  const steps = bins.slice(first, last + 1).map((bin, index) => {
    const level = y(arm.shares[first + index]);
    return `L${x(bin.from)} ${level}L${x(bin.to)} ${level}`;
  });
  const path = `M${x(bins[first].from)} ${y(0)}${steps.join("")}L${x(bins[last].to)} ${y(0)}Z`;
  const hatched = arm.role !== "production";
  return svg("g", { class: `steps ${tone(arm.role)}` },
    hatched && svg("path", { class: "hatched", d: path }),
    svg("path", { class: hatched ? "edge" : "area", d: path }));
}

/** p50 and p95 as a line below the axis: a dot, and a bar. */
function marks(arm, x, y) {
  const [first, last] = [arm.marks[0], arm.marks.at(-1)];
  return svg("g", { class: `marks ${tone(arm.role)}` },
    svg("line", { class: "range", x1: x(first.at), x2: x(last.at), y1: y, y2: y }),
    svg("circle", { cx: x(first.at), cy: y, r: 4 }),
    arm.marks.length > 1 && svg("line", { class: "stop", x1: x(last.at), x2: x(last.at), y1: y - 5, y2: y + 5 }),
    svg("text", { class: "mark-label", x: x(first.at) - 8, y: y + 4, "text-anchor": "end" }, first.label),
    arm.marks.length > 1 && svg("text", { class: "mark-label", x: x(last.at) + 6, y: y + 4 }, last.label));
}

function niceTop(share) {
  return [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1].find((top) => share <= top) ?? 1;
}

/** Heading, legend with figures, picture and the figures of every bin. */
function chart(heading, note, plot, figures, below = "") {
  return el("figure", { class: "card chart", "aria-labelledby": `${plot.id}-heading` },
    el("h3", { id: `${plot.id}-heading` }, heading),
    note && el("p", { class: "note" }, note),
    figures,
    histogram(plot),
    below && el("p", { class: "note below" }, below),
    el("details", { class: "figures" },
      el("summary", null, "Figures of every bin"),
      table(`${plot.title}: share of each bin`, ["Bin", ...plot.arms.map((arm) => arm.name)],
        plot.bins.map((bin, index) => [bin.label, ...plot.arms.map((arm) => {
          const { shares } = sharesOf(arm.counts);
          return titled(percent(shares[index] ?? 0), count(arm.counts?.[index] ?? 0));
        })]), "narrow")));
}

/** The legend is a table: whose, how many, and the figures that the picture marks. */
function legend(caption, headings, arms) {
  return table(caption, ["Version", ...headings], arms.map((arm) =>
    [[swatch(arm.role), " ", named(arm.role), el("span", { class: "number" }, ` ${arm.version}`)], ...arm.figures]), "legend");
}
