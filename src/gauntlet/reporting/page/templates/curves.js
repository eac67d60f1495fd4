// Robust accuracy against the budget: lines of chosen variants and attacks in one norm, drawn as SVG.

const MARGIN = { left: 46, right: 14, top: 10, bottom: 46 };
const FEW = 6;
const FIRST_SHOWN = 8;
const WIDE_RATIO = 10;
// Pixels that A4 and Letter have between their margins, nearly; the style fits the chart to what there is.
const PAPER_WIDTH = 700;

// Markers by matplotlib's letters, as paths around the origin.
const MARKERS = {
  o: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", s: "M-3.5-3.5h7v7h-7z", "^": "M0-4.6L4.4 3.4h-8.8z",
  D: "M0-4.8L4.8 0 0 4.8-4.8 0z", v: "M0 4.6L4.4-3.4h-8.8z",
  P: "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", X: "M-4.4-2.6l1.8-1.8L0-1.8l2.6-2.6 1.8 1.8L1.8 0l2.6 2.6-1.8 1.8L0 1.8l-2.6 2.6-1.8-1.8L-1.8 0z",
  "*": "M0-5.2l1.4 3.4 3.6.3-2.8 2.3.9 3.6L0 2.4l-3.1 2 .9-3.6L-5-1.5l3.6-.3z",
};

const look = new Map(DATA.variants.map((one) => [one.name, one]));
const masked = new Set(DATA.curves.filter((one) => one.flags).map((one) => one.variant));

function lineStyle(variant, width) {
  const { color, dashes } = look.get(variant);
  const style = { class: `line c${color}`, "stroke-width": width, fill: "none" };
  return dashes.length ? { ...style, "stroke-dasharray": dashes.map((each) => each * width).join(" ") } : style;
}

function swatch(variant) {
  const { color, marker } = look.get(variant);
  return make("svg:svg", { class: "swatch", width: 34, height: 12, viewBox: "0 0 34 12", "aria-hidden": "true" },
    make("svg:path", { d: "M1 6H33", ...lineStyle(variant, 2) }),
    make("svg:path", { d: MARKERS[marker], transform: "translate(17 6)", class: `mark c${color}` }));
}

// Where budgets stand, from 0 to 1: evenly, or by their logarithm beyond the first where they span a decade.
function scaleOf(budgets) {
  const positive = budgets.filter((value) => value > 0);
  const [first, last] = [positive[0] ?? 1, positive.at(-1) ?? 1];
  const raw = last / first < WIDE_RATIO ? (value) => value / last
    : (value) => (value <= first ? (0.6 * value) / first : 0.6 + Math.log10(value / first));
  const most = raw(last);
  return (value) => raw(value) / most;
}

function ticksOf(budgets, place, width) {
  const kept = [];
  for (const [value, shown] of [[0, "0"], ...[...budgets].reverse()]) {
    const room = 7 * (shown.length + 1);
    if (kept.every(([other]) => Math.abs(place(other) - place(value)) * width > room)) kept.push([value, shown]);
  }
  return kept;
}

// The points of a line, clean accuracy first; null where an attack was not run at a budget of the others.
function pointsOf(curve, budgets) {
  const found = new Map(curve.points.map((point) => [point[0], point]));
  const start = { curve, budget: 0, shown: "0", share: curve.clean, low: null, high: null };
  return [start, ...budgets.map(([value, shown]) => {
    const point = found.get(value);
    if (!point) return null;
    const [low, high] = point[5] === null ? [point[3], point[4]] : [point[5], point[6]];
    return { curve, budget: value, shown, share: point[2], low, high };
  })];
}

function startCurves() {
  const form = find("#curves-controls");
  const chart = find("#curves-chart");
  const told = find("#curves-told");
  const legend = find("#curves-legend");
  const state = {
    norm: Object.keys(DATA.norms)[0],
    variants: new Set(DATA.variants.slice(0, FIRST_SHOWN).map((one) => one.name)),
    attacks: new Set([""]),
    active: null,
  };
  let points = [];

  function check(text, checked, change, ...before) {
    const box = make("input", { type: "checkbox", checked });
    box.addEventListener("change", () => { change(box.checked); draw(); });
    return make("label", { class: "check" }, box, ...before, make("span", {}, text));
  }

  function toggle(set) {
    return (name) => (on) => { if (on) set.add(name); else set.delete(name); };
  }

  function attackBoxes() {
    const names = DATA.attacks.filter((one) => one.norm === state.norm).map((one) => one.name);
    state.attacks = new Set([...state.attacks].filter((name) => name === "" || names.includes(name)));
    return ["", ...names].map((name) => check(name || "worst case", state.attacks.has(name), toggle(state.attacks)(name)));
  }

  function controls() {
    const norms = make("fieldset", { class: "choice" }, make("legend", {}, "Norm"));
    for (const [norm, shown] of Object.entries(DATA.norms)) {
      const radio = make("input", { type: "radio", name: "norm", value: norm, checked: norm === state.norm });
      radio.addEventListener("change", () => {
        state.norm = norm;
        attacks.replaceChildren(attacks.firstChild, ...attackBoxes());
        draw();
      });
      norms.append(make("label", { class: "check" }, radio, make("span", {}, shown)));
    }
    const attacks = make("fieldset", { class: "choice", id: "curves-attacks" }, make("legend", {}, "Attacks"), ...attackBoxes());
    const variants = make("fieldset", { class: "choice many", id: "curves-variants" }, make("legend", {}, "Variants"));
    const boxes = () => DATA.variants.map(({ name }) =>
      check(name + (masked.has(name) ? " ‡" : ""), state.variants.has(name), toggle(state.variants)(name), swatch(name)));
    const both = ["all", "none"].map((shown) => {
      const button = make("button", { type: "button" }, shown);
      button.addEventListener("click", () => {
        state.variants = new Set(shown === "all" ? DATA.variants.map((one) => one.name) : []);
        list.replaceChildren(...boxes());
        draw();
      });
      return button;
    });
    const list = make("div", { class: "list" }, ...boxes());
    variants.append(make("div", { class: "buttons" }, ...both), list);
    form.append(norms, attacks, variants);
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // On paper, where the controls are left out: which lines are whose.
  function explain(shown) {
    const drawn = new Set(shown.map((one) => one.variant));
    const single = new Set(shown.map((one) => one.attack).filter(Boolean));
    const variants = DATA.variants.filter(({ name }) => drawn.has(name));
    const some = variants.length < DATA.variants.length ? `${variants.length} of ${DATA.variants.length} variants. ` : "";
    const bold = shown.some((one) => !one.attack) ? "Bold: worst case. " : "";
    const thin = single.size ? `Thin: ${[...single].join(", ")}.` : "";
    legend.replaceChildren(
      ...variants.map(({ name }) => make("span", { class: "check" }, swatch(name), name + (masked.has(name) ? " ‡" : ""))),
      make("p", {}, `${DATA.norms[state.norm]}. ${some}${bold}${thin}`));
  }

  function draw(room = chart.clientWidth) {
    const here = DATA.curves.filter((one) => one.norm === state.norm);
    const texts = new Map(here.flatMap((one) => one.points.map((point) => [point[0], point[1]])));
    const budgets = [...texts].sort(([a], [b]) => a - b);
    const shown = here.filter((one) => state.variants.has(one.variant) && state.attacks.has(one.attack));
    // Single attacks lie below the worst cases, which count.
    shown.sort((a, b) => (a.attack === "") - (b.attack === ""));
    explain(shown);
    const width = Math.max(280, room);
    const height = Math.min(420, Math.max(280, Math.round(width * 0.5)));
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const place = scaleOf(budgets.map(([value]) => value));
    const x = (value) => MARGIN.left + place(value) * inner.width;
    const y = (share) => MARGIN.top + (1 - Math.min(1, Math.max(0, share))) * inner.height;
    const svg = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, width, height, tabindex: 0, role: "application",
      "aria-label": "Robust accuracy against ε. Left and right walk along a line, up and down between lines, Enter tells where a number comes from." });
    for (const share of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
      svg.append(make("svg:path", { class: "grid", d: `M${MARGIN.left} ${y(share)}H${width - MARGIN.right}` }),
        make("svg:text", { x: MARGIN.left - 7, y: y(share) + 4, "text-anchor": "end" }, String(Math.round(100 * share))));
    }
    for (const [value, label] of ticksOf(budgets, place, inner.width)) {
      svg.append(make("svg:path", { class: "grid", d: `M${x(value)} ${MARGIN.top}V${height - MARGIN.bottom}` }),
        make("svg:text", { x: x(value), y: height - MARGIN.bottom + 17, "text-anchor": "middle" }, label));
    }
    const title = (attributes, text) => make("svg:text", { class: "axis", "text-anchor": "middle", ...attributes }, text);
    svg.append(title({ x: MARGIN.left + inner.width / 2, y: height - 6 }, `budget ε in ${DATA.norms[state.norm]}`),
      title({ transform: `translate(12 ${MARGIN.top + inner.height / 2}) rotate(-90)` }, "robust accuracy (%)"));
    const bands = shown.filter((one) => one.attack === "").length <= FEW;
    points = shown.map((curve) => pointsOf(curve, budgets));
    for (const line of points) {
      const { curve } = line[0];
      const { color, marker } = look.get(curve.variant);
      const known = line.filter((point) => point && point.low !== null);
      if (bands && !curve.attack && known.length > 1) {
        const edge = (end) => known.map((point) => `${x(point.budget)} ${y(point[end])}`);
        svg.append(make("svg:path", { class: `band c${color}`, d: `M${[...edge("high"), ...edge("low").reverse()].join("L")}Z` }));
      }
      let d = "";
      line.forEach((point, number) => {
        if (point) d += `${number && line[number - 1] ? "L" : "M"}${x(point.budget).toFixed(1)} ${y(point.share).toFixed(1)}`;
      });
      svg.append(make("svg:path", { d, ...lineStyle(curve.variant, curve.attack ? 0.9 : 2.2) }));
      for (const point of line) {
        if (!point) continue;
        point.at = [x(point.budget), y(point.share)];
        const size = curve.attack ? 0.7 : 1;
        svg.append(make("svg:path", { class: `mark c${color}`, d: MARKERS[marker],
          transform: `translate(${point.at.map((each) => each.toFixed(1)).join(" ")}) scale(${size})` }));
      }
    }
    const ring = make("svg:circle", { class: "ring", r: 8, visibility: "hidden" });
    svg.append(ring);
    const tip = make("div", { class: "tip", hidden: true });
    chart.replaceChildren(svg, tip);
    state.active = null;
    told.textContent = points.length ? "" : "Nothing is chosen.";
    listen(svg, ring, tip, width);
  }

  function describe(point) {
    const { curve } = point;
    // Without a perturbation no attack has a part in it.
    if (point.budget === 0) return `${curve.variant}, clean: ${percent(point.share)} %`;
    const interval = point.low === null ? "" : ` (${percent(point.low)} to ${percent(point.high)})`;
    const marks = (curve.missing ? "*" : "") + (curve.errors ? "†" : "") + (curve.flags ? "‡" : "");
    return `${curve.variant}, ${curve.attack || "worst case"}, ε = ${point.shown}: ${percent(point.share)} %${marks}${interval}`;
  }

  function listen(svg, ring, tip, width) {
    const activate = (point) => {
      state.active = point;
      ring.setAttribute("visibility", point ? "visible" : "hidden");
      tip.hidden = !point;
      svg.style.cursor = point ? "pointer" : "";
      if (!point) return;
      ring.setAttribute("cx", point.at[0]);
      ring.setAttribute("cy", point.at[1]);
      tip.textContent = told.textContent = describe(point);
      tip.style.left = `${Math.max(0, Math.min(point.at[0] + 12, width - tip.offsetWidth))}px`;
      tip.style.top = `${point.at[1] < 70 ? point.at[1] + 14 : point.at[1] - tip.offsetHeight - 10}px`;
    };
    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const [px, py] = [event.clientX - box.left, event.clientY - box.top];
      let best = null;
      let least = 28 ** 2;
      for (const point of points.flat()) {
        const distance = point ? (point.at[0] - px) ** 2 + (point.at[1] - py) ** 2 : Infinity;
        if (distance <= least) [best, least] = [point, distance];
      }
      return best;
    };
    const tell = (point) => {
      const { curve } = point;
      const ids = { kind: curve.attack ? "single" : "worst", q: point.budget ? "robust" : "clean", norm: curve.norm, variant: curve.variant };
      if (curve.attack) ids.attack = curve.attack;
      if (point.budget) Object.assign(ids, { budget: point.budget, shownBudget: point.shown });
      showOrigin(ids, describe(point));
    };
    svg.addEventListener("pointermove", (event) => activate(nearest(event)));
    svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) activate(null); });
    svg.addEventListener("click", (event) => {
      const point = nearest(event);
      activate(point);
      if (point) tell(point);
    });
    svg.addEventListener("focus", () => { if (!state.active && points.length) activate(points.at(-1).find(Boolean)); });
    svg.addEventListener("blur", () => activate(null));
    svg.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (!state.active || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Enter" || event.key === " ") tell(state.active);
      else if (step) activate(beside(state.active, step));
      else return;
      event.preventDefault();
    });
  }

  // The next point of the same line, or at the same budget the one of the line above or below.
  function beside(point, [down, right]) {
    const line = points.find((each) => each.includes(point));
    if (right) {
      const known = line.filter(Boolean);
      return known[known.indexOf(point) + right] ?? point;
    }
    const column = points.map((each) => each[line.indexOf(point)]).filter(Boolean).sort((a, b) => b.share - a.share);
    return column[column.indexOf(point) + down] ?? point;
  }

  controls();
  draw();
  let drawn = chart.clientWidth;
  new ResizeObserver(() => {
    if (Math.abs(chart.clientWidth - drawn) < 2) return;
    drawn = chart.clientWidth;
    draw();
  }).observe(chart);
  window.addEventListener("beforeprint", () => draw(PAPER_WIDTH));
  window.addEventListener("afterprint", () => draw());
}
