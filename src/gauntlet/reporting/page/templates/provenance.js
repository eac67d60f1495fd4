// Where a number comes from: the query that gives it, the cells it rests on, and what made each of them.

const TITLES = {
  robust: "Robust accuracy", clean: "Clean accuracy", distance: "Median distance", samples: "Samples",
  fooled: "Samples fooled", errors: "Samples that ended in an error", forwards: "Forwards", backwards: "Backwards",
  share: "Share certified", at: "Certified accuracy", median: "Median certified radius", verdict: "Verdict",
  models: "Models", success: "Broken, in percent",
};

const text = (value) => `'${String(value).replaceAll("'", "''")}'`;

function queryOf(ids) {
  const values = {
    rows: text(DATA.files.rows), radii: text(DATA.files.radii), checks: text(DATA.files.checks),
    variant: text(ids.variant), attack: text(ids.attack), norm: text(ids.norm), seed: ids.seed,
    certificate: text(ids.certificate), check: text(ids.check), budget: text(ids.budget),
  };
  const query = DATA.queries[`${ids.kind}.${ids.q}`];
  return query && query.replace(/:(rows|radii|checks|variant|attack|norm|seed|certificate|check|budget)\b/g, (_, name) => values[name]);
}

function titleOf(ids) {
  const kind = ids.kind === "cell" && ids.q === "robust" ? "Samples that withstood" : TITLES[ids.q];
  const budget = ids.budget === undefined ? "" : ` at ε = ${ids.shownBudget ?? ids.budget}`;
  const of = ids.variant === undefined ? "all models" : ids.variant;
  const seed = ids.seed === undefined ? "" : `seed ${ids.seed}`;
  // The model's own, whatever the attack.
  if (ids.q === "clean") return `${kind}: ${[of, seed].filter(Boolean).join(", ")}`;
  const under = ids.kind === "worst" ? "worst case over all attacks" : ids.attack ?? ids.certificate ?? ids.check;
  return `${kind}${budget}: ${[of, seed, under, DATA.norms[ids.norm]].filter(Boolean).join(", ")}`;
}

const origins = (() => {
  const { columns, shared, cells } = DATA.origins;
  let rows = null;
  return () => (rows ??= cells.map((cell) => {
    const row = Object.fromEntries(columns.map((name, place) => [name, cell[place]]));
    for (const name of Object.keys(shared)) row[name] = shared[name][row[name]];
    return row;
  }));
})();

// The cells a number rests on, models first.
function cellsBehind(ids) {
  const stage = { certified: "certify", check: "diagnose" }[ids.kind] ?? "evaluate";
  const attacks = ids.kind === "worst" ? new Set(attacksOn(ids.variant, ids.norm).map((one) => one.name)) : null;
  const name = ids.attack ?? ids.certificate;
  const wanted = (row) =>
    (ids.variant === undefined || row.variant === ids.variant) &&
    (ids.seed === undefined || row.seed === Number(ids.seed));
  const measured = origins().filter(
    (row) => row.stage === stage && wanted(row) && (attacks ? attacks.has(row.name) : !name || row.name === name));
  const models = new Set(measured.map((row) => `${row.seed} ${row.variant}`));
  return [...origins().filter((row) => row.stage === "train" && models.has(`${row.seed} ${row.variant}`)), ...measured];
}

const word = (value) => (/^[\w.:+-]+$/.test(value) ? value : `'${String(value).replaceAll("'", "'\\''")}'`);

function commandOf(row) {
  const option = { evaluate: ` --attack ${word(row.name)}`, certify: ` --certificate ${word(row.name)}` }[row.stage] ?? "";
  const ids = `--experiment ${word(DATA.experiment)} --variant ${word(row.variant)} --seed ${row.seed}`;
  return `gauntlet ${row.stage} ${ids}${option} --force`;
}

const committed = (commit, dirty) => (commit ? commit + (dirty === "true" ? ", with changes that were not committed" : "") : "unknown");

function entries(pairs) {
  const list = make("dl");
  for (const [name, value] of pairs) {
    if (value !== null && value !== undefined && value !== "") list.append(make("dt", {}, name), make("dd", {}, value));
  }
  return list;
}

function cellDetails(row, open) {
  const title = row.stage === "evaluate" || row.stage === "certify" ? row.name : { train: "the model", diagnose: "probes" }[row.stage];
  const details = make("details", { open }, make("summary", {}, `${row.variant}, seed ${row.seed}: ${title}`));
  const fill = () => {
    if (details.childElementCount > 1) return;
    const json = (value) => make("pre", { tabindex: 0 }, JSON.stringify(value, null, 1));
    details.append(entries([
      ["made again by", make("code", {}, commandOf(row))],
      ["commit", committed(row.commit, row.dirty)],
      ["recipe", row.recipe && make("code", {}, row.recipe)],
      ["digest of its rows", row.digest && make("code", {}, row.digest)],
      ["finished", row.finished && row.finished + (row.seconds === null ? "" : ` after ${row.seconds.toFixed(1)} s`)],
      ["versions", row.versions],
      ["configuration", json(row.slice)],
      ["read", json(row.inputs)],
    ]));
  };
  if (open) fill();
  details.addEventListener("toggle", fill);
  return details;
}

function curveBehind(ids) {
  if (ids.kind !== "worst" && ids.kind !== "single") return null;
  const attack = ids.kind === "worst" ? "" : ids.attack;
  return DATA.curves.find((one) => one.norm === ids.norm && one.variant === ids.variant && one.attack === attack) ?? null;
}

const range = (low, high) => (low === null ? null : `${percent(low)} to ${percent(high)} %`);

// What the numbers of the summary say beyond what is shown: all digits, both intervals, counts, marks.
function facts(ids) {
  const curve = curveBehind(ids);
  if (!curve) return [];
  const point = ids.q === "robust" && curve.points.find((one) => String(one[0]) === String(Number(ids.budget)));
  const known = ids.q === "clean" ? curve.clean : point ? point[2] : null;
  const doubts = ids.q === "clean" ? [] : [
    ["†", curve.errors ? `${curve.errors} samples ended in an error and count as fooled` : null],
    ["‡", curve.flags ? `gradients look masked: ${curve.flags.replaceAll("_", " ")}; it may be too high` : null],
    ["diagnostics", curve.flags === null ? "none were made: gradients may be masked" : null],
  ];
  return [
    ["exactly", known === null ? null : `${100 * known} %`],
    ["95 % interval over samples", point ? range(point[3], point[4]) : null],
    ["95 % interval over seeds", point ? range(point[5], point[6]) : null],
    ["rests on", `${curve.samples} rows of ${curve.seeds} ${curve.seeds === 1 ? "seed" : "seeds"}`],
    ["*", curve.missing ? `${curve.missing} cells are missing${ids.q === "clean" ? "" : "; it may be too high"}` : null],
    ...doubts,
  ];
}

function showOrigin(ids, shown) {
  const dialog = find("#origin");
  const cells = cellsBehind(ids);
  const query = queryOf(ids);
  const close = make("button", { type: "button", class: "close" }, "Close");
  close.addEventListener("click", () => dialog.close());
  const source = { certified: DATA.files.radii, check: DATA.files.checks }[ids.kind] ?? DATA.files.rows;
  const list = make("div", { class: "origins" });
  for (const row of cells) list.append(cellDetails(row, cells.length <= 2));
  const again = `gauntlet aggregate --experiment ${word(DATA.experiment)} && gauntlet report --experiment ${word(DATA.experiment)}`;
  const made = DATA.table;
  dialog.replaceChildren(
    make("div", { class: "bar" }, make("h2", { id: "origin-title" }, titleOf(ids)), close),
    make("p", { class: "shown" }, shown),
    entries(facts(ids)),
    make("h3", {}, `The query, DuckDB on ${source}`),
    make("pre", { tabindex: 0, id: "origin-query" }, query ?? "It is no count of these rows."),
    make("h3", {}, cells.length ? `What it rests on: ${cells.length} files` : "What it rests on"),
    cells.length ? list : make("p", {}, "The cells' own files were not at hand when this page was made."),
    make("h3", {}, "The table of all samples"),
    entries([
      ["made again by", make("code", {}, again)],
      ["commit", committed(made.commit, made.dirty)],
      ["recipe", made.cell && make("code", {}, made.cell)],
      ["digest", made.stream_digest && make("code", {}, made.stream_digest)],
      ["finished", made.finished],
    ]),
    make("p", { class: "faint" }, "Commands read config.yaml unless another configuration file is named; --force makes anew what is up to date."),
  );
  dialog.showModal();
  dialog.scrollTop = 0;
}

find("#origin").addEventListener("click", (event) => {
  // A click beside the dialog's content lands on the dialog itself.
  const box = event.currentTarget.getBoundingClientRect();
  const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
  if (event.target === event.currentTarget && !inside) event.currentTarget.close();
});
