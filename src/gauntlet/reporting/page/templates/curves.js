// Robust accuracy against the budget: curves of the selected variants and attacks in one norm, drawn as SVG.

const MARGIN = { left: 46, right: 14, top: 10, bottom: 46 };
// Number of worst cases up to which they have bands.
const MOST_BANDS = 6;
// Number of variants that are selected at first.
const FIRST_VARIANTS = 8;
// Ratio of budgets from which on their axis is logarithmic.
const WIDE_RATIO = 10;
// About the width of A4 and Letter between their margins, in pixels; the style sheet scales the chart to fit.
const PAPER_WIDTH = 700;

// Markers by matplotlib's names, as paths around the origin.
const MARKERS = {
  o: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", s: "M-3.5-3.5h7v7h-7z", "^": "M0-4.6L4.4 3.4h-8.8z",
  D: "M0-4.8L4.8 0 0 4.8-4.8 0z", v: "M0 4.6L4.4-3.4h-8.8z",
  P: "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", X: "M-4.4-2.6l1.8-1.8L0-1.8l2.6-2.6 1.8 1.8L1.8 0l2.6 2.6-1.8 1.8L0 1.8l-2.6 2.6-1.8-1.8L-1.8 0z",
  "*": "M0-5.2l1.4 3.4 3.6.3-2.8 2.3.9 3.6L0 2.4l-3.1 2 .9-3.6L-5-1.5l3.6-.3z",
};

const styles = new Map(DATA.variants.map((variant) => [variant.name, variant]));
const masked = new Set(DATA.curves.filter((curve) => curve.flags).map((curve) => curve.variant));

function lineStyle(variant, width) {
  const { color, dashes } = styles.get(variant);
  const style = { class: `line c${color}`, "stroke-width": width, fill: "none" };
  return dashes.length ? { ...style, "stroke-dasharray": dashes.map((dash) => dash * width).join(" ") } : style;
}

// The name of a variant, marked if it fails a check.
const markedName = (name) => name + (masked.has(name) ? " ‡" : "");

function swatch(variant) {
  const { color, marker } = styles.get(variant);
  return make("svg:svg", { class: "swatch", width: 34, height: 12, viewBox: "0 0 34 12", "aria-hidden": "true" },
    make("svg:path", { d: "M1 6H33", ...lineStyle(variant, 2) }),
    make("svg:path", { d: MARKERS[marker], transform: "translate(17 6)", class: `marker c${color}` }));
}

// Maps budgets to positions from 0 to 1: linear, or logarithmic above the first budget if they span a decade.
function scaleOf(budgets) {
  const positive = budgets.filter((value) => value > 0);
  const [first, last] = [positive[0] ?? 1, positive.at(-1) ?? 1];
  const raw = last / first < WIDE_RATIO ? (value) => value / last
    : (value) => (value <= first ? (0.6 * value) / first : 0.6 + Math.log10(value / first));
  const most = raw(last);
  return (value) => raw(value) / most;
}

// Returns as many budgets as there is room to label, the largest first.
function ticksOf(budgets, position, width) {
  const ticks = [];
  for (const [value, label] of [[0, "0"], ...[...budgets].reverse()]) {
    const labelWidth = 7 * (label.length + 1);
    const hasRoom = ([other]) => Math.abs(position(other) - position(value)) * width > labelWidth;
    if (ticks.every(hasRoom)) ticks.push([value, label]);
  }
  return ticks;
}

// The points of a curve, clean accuracy first; null for budgets that the attack was not run at.
function pointsOf(curve, budgets) {
  const measured = new Map(curve.points.map((point) => [point[0], point]));
  const clean = { curve, budget: 0, budgetText: "0", share: curve.clean, low: null, high: null };
  return [clean, ...budgets.map(([value, budgetText]) => {
    const point = measured.get(value);
    if (!point) return null;
    const [low, high] = point[5] === null ? [point[3], point[4]] : [point[5], point[6]];
    return { curve, budget: value, budgetText, share: point[2], low, high };
  })];
}

function startCurves() {
  const form = find("#curves-controls");
  const chart = find("#curves-chart");
  const status = find("#curves-status");
  const legend = find("#curves-legend");
  const state = {
    norm: Object.keys(DATA.norms)[0],
    variants: new Set(DATA.variants.slice(0, FIRST_VARIANTS).map((variant) => variant.name)),
    attacks: new Set([""]),
    active: null,
  };
  let points = [];

  // A checkbox that selects a name of a set.
  function checkbox(set, name, text, ...icons) {
    const box = make("input", { type: "checkbox", checked: set.has(name) });
    box.addEventListener("change", () => {
      if (box.checked) set.add(name);
      else set.delete(name);
      draw();
    });
    return make("label", { class: "check" }, box, ...icons, make("span", {}, text));
  }

  function attackBoxes() {
    const names = DATA.attacks.filter((attack) => attack.norm === state.norm).map((attack) => attack.name);
    state.attacks = new Set([...state.attacks].filter((name) => name === "" || names.includes(name)));
    return ["", ...names].map((name) => checkbox(state.attacks, name, name || "worst case"));
  }

  function addControls() {
    const norms = make("fieldset", { class: "choice" }, make("legend", {}, "Norm"));
    for (const [norm, normText] of Object.entries(DATA.norms)) {
      const radio = make("input", { type: "radio", name: "norm", value: norm, checked: norm === state.norm });
      radio.addEventListener("change", () => {
        state.norm = norm;
        attacks.replaceChildren(attacks.firstChild, ...attackBoxes());
        draw();
      });
      norms.append(make("label", { class: "check" }, radio, make("span", {}, normText)));
    }
    const attacks = make("fieldset", { class: "choice", id: "curves-attacks" }, make("legend", {}, "Attacks"), ...attackBoxes());
    const variants = make("fieldset", { class: "choice many", id: "curves-variants" }, make("legend", {}, "Variants"));
    const boxes = () => DATA.variants.map(({ name }) => checkbox(state.variants, name, markedName(name), swatch(name)));
    const buttons = ["all", "none"].map((choice) => {
      const button = make("button", { type: "button" }, choice);
      button.addEventListener("click", () => {
        state.variants = new Set(choice === "all" ? DATA.variants.map((variant) => variant.name) : []);
        list.replaceChildren(...boxes());
        draw();
      });
      return button;
    });
    const list = make("div", { class: "list" }, ...boxes());
    variants.append(make("div", { class: "buttons" }, ...buttons), list);
    form.append(norms, attacks, variants);
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // The legend on paper, where the controls are not printed.
  function drawLegend(curves) {
    const names = new Set(curves.map((curve) => curve.variant));
    const attacks = new Set(curves.map((curve) => curve.attack).filter(Boolean));
    const variants = DATA.variants.filter(({ name }) => names.has(name));
    const count = variants.length < DATA.variants.length ? `${variants.length} of ${DATA.variants.length} variants. ` : "";
    const bold = curves.some((curve) => !curve.attack) ? "Bold: worst case. " : "";
    const thin = attacks.size ? `Thin: ${[...attacks].join(", ")}.` : "";
    legend.replaceChildren(
      ...variants.map(({ name }) => make("span", { class: "check" }, swatch(name), markedName(name))),
      make("p", {}, `${DATA.norms[state.norm]}. ${count}${bold}${thin}`));
  }

  function draw(availableWidth = chart.clientWidth) {
    const ofNorm = DATA.curves.filter((curve) => curve.norm === state.norm);
    const texts = new Map(ofNorm.flatMap((curve) => curve.points.map(([value, text]) => [value, text])));
    const budgets = [...texts].sort(([a], [b]) => a - b);
    const curves = ofNorm.filter((curve) => state.variants.has(curve.variant) && state.attacks.has(curve.attack));
    // Worst cases are drawn over single attacks.
    curves.sort((a, b) => (a.attack === "") - (b.attack === ""));
    drawLegend(curves);
    const width = Math.max(280, availableWidth);
    const height = Math.min(420, Math.max(280, Math.round(width * 0.5)));
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const position = scaleOf(budgets.map(([value]) => value));
    const x = (value) => MARGIN.left + position(value) * inner.width;
    const y = (share) => MARGIN.top + (1 - Math.min(1, Math.max(0, share))) * inner.height;
    const svg = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, width, height, tabindex: 0, role: "application",
      "aria-label": "Robust accuracy against ε. Left and right move along a curve, up and down between curves, Enter shows the origin of a number." });
    for (const share of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
      svg.append(make("svg:path", { class: "grid", d: `M${MARGIN.left} ${y(share)}H${width - MARGIN.right}` }),
        make("svg:text", { x: MARGIN.left - 7, y: y(share) + 4, "text-anchor": "end" }, String(Math.round(100 * share))));
    }
    for (const [value, label] of ticksOf(budgets, position, inner.width)) {
      svg.append(make("svg:path", { class: "grid", d: `M${x(value)} ${MARGIN.top}V${height - MARGIN.bottom}` }),
        make("svg:text", { x: x(value), y: height - MARGIN.bottom + 17, "text-anchor": "middle" }, label));
    }
    const title = (attributes, text) => make("svg:text", { class: "axis", "text-anchor": "middle", ...attributes }, text);
    svg.append(title({ x: MARGIN.left + inner.width / 2, y: height - 6 }, `budget ε in ${DATA.norms[state.norm]}`),
      title({ transform: `translate(12 ${MARGIN.top + inner.height / 2}) rotate(-90)` }, "robust accuracy (%)"));
    const hasBands = curves.filter((curve) => curve.attack === "").length <= MOST_BANDS;
    points = curves.map((curve) => pointsOf(curve, budgets));
    for (const line of points) {
      const { curve } = line[0];
      const { color, marker } = styles.get(curve.variant);
      const known = line.filter((point) => point && point.low !== null);
      if (hasBands && !curve.attack && known.length > 1) {
        const edge = (end) => known.map((point) => `${x(point.budget)} ${y(point[end])}`);
        svg.append(make("svg:path", { class: `band c${color}`, d: `M${[...edge("high"), ...edge("low").reverse()].join("L")}Z` }));
      }
      // The budgets that a worst case lacks are those of attacks outside of it.
      const joined = curve.attack ? line : line.filter(Boolean);
      let d = "";
      joined.forEach((point, number) => {
        if (point) d += `${number && joined[number - 1] ? "L" : "M"}${x(point.budget).toFixed(1)} ${y(point.share).toFixed(1)}`;
      });
      svg.append(make("svg:path", { d, ...lineStyle(curve.variant, curve.attack ? 0.9 : 2.2) }));
      for (const point of line) {
        if (!point) continue;
        point.coordinates = [x(point.budget), y(point.share)];
        const size = curve.attack ? 0.7 : 1;
        svg.append(make("svg:path", { class: `marker c${color}`, d: MARKERS[marker],
          transform: `translate(${point.coordinates.map((value) => value.toFixed(1)).join(" ")}) scale(${size})` }));
      }
    }
    const ring = make("svg:circle", { class: "ring", r: 8, visibility: "hidden" });
    svg.append(ring);
    const tip = make("div", { class: "tip", hidden: true });
    chart.replaceChildren(svg, tip);
    state.active = null;
    status.textContent = points.length ? "" : "No curve is selected.";
    listen(svg, ring, tip, width);
  }

  function describe(point) {
    const { curve } = point;
    // Clean accuracy does not depend on the attack.
    if (point.budget === 0) return `${curve.variant}, clean: ${accuracyText(point.share)} %${curve.cleanMarks}`;
    const interval = point.low === null ? "" : ` (${percent(point.low)} to ${percent(point.high)})`;
    const marks = (curve.missing ? "*" : "") + (curve.errors ? "†" : "") + (curve.flags ? "‡" : "");
    return `${curve.variant}, ${curve.attack || "worst case"}, ε = ${point.budgetText}: ${accuracyText(point.share)} %${marks}${interval}`;
  }

  function listen(svg, ring, tip, width) {
    const activate = (point) => {
      state.active = point;
      ring.setAttribute("visibility", point ? "visible" : "hidden");
      tip.hidden = !point;
      svg.style.cursor = point ? "pointer" : "";
      if (!point) return;
      ring.setAttribute("cx", point.coordinates[0]);
      ring.setAttribute("cy", point.coordinates[1]);
      tip.textContent = status.textContent = describe(point);
      tip.style.left = `${Math.max(0, Math.min(point.coordinates[0] + 12, width - tip.offsetWidth))}px`;
      tip.style.top = `${point.coordinates[1] < 70 ? point.coordinates[1] + 14 : point.coordinates[1] - tip.offsetHeight - 10}px`;
    };
    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const [px, py] = [event.clientX - box.left, event.clientY - box.top];
      let best = null;
      let least = 28 ** 2;
      for (const point of points.flat()) {
        const distance = point ? (point.coordinates[0] - px) ** 2 + (point.coordinates[1] - py) ** 2 : Infinity;
        if (distance <= least) [best, least] = [point, distance];
      }
      return best;
    };
    const openPoint = (point) => {
      const { curve } = point;
      const ids = { table: curve.attack ? "single" : "worst", column: point.budget ? "robust" : "clean", norm: curve.norm, variant: curve.variant };
      if (curve.attack) ids.attack = curve.attack;
      if (point.budget) Object.assign(ids, { budget: point.budget, budgetText: point.budgetText });
      showOrigin(ids, describe(point));
    };
    svg.addEventListener("pointermove", (event) => activate(nearest(event)));
    svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) activate(null); });
    svg.addEventListener("click", (event) => {
      const point = nearest(event);
      activate(point);
      if (point) openPoint(point);
    });
    svg.addEventListener("focus", () => { if (!state.active && points.length) activate(points.at(-1).find(Boolean)); });
    svg.addEventListener("blur", () => activate(null));
    svg.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (!state.active || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Enter" || event.key === " ") openPoint(state.active);
      else if (step) activate(nextPoint(state.active, step));
      else return;
      event.preventDefault();
    });
  }

  // The next point of the same curve, or the next curve's point at the same budget.
  function nextPoint(point, [down, right]) {
    const line = points.find((candidate) => candidate.includes(point));
    if (right) {
      const measured = line.filter(Boolean);
      return measured[measured.indexOf(point) + right] ?? point;
    }
    const column = points.map((other) => other[line.indexOf(point)]).filter(Boolean).sort((a, b) => b.share - a.share);
    return column[column.indexOf(point) + down] ?? point;
  }

  addControls();
  draw();
  let drawnWidth = chart.clientWidth;
  new ResizeObserver(() => {
    if (Math.abs(chart.clientWidth - drawnWidth) < 2) return;
    drawnWidth = chart.clientWidth;
    draw();
  }).observe(chart);
  window.addEventListener("beforeprint", () => draw(PAPER_WIDTH));
  window.addEventListener("afterprint", () => draw());
}
