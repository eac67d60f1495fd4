// The origin of a number: the query that returns it, and the cells it is computed from, each with its recipe.

const TITLES = {
  robust: "Robust accuracy", clean: "Clean accuracy", distance: "Median distance", samples: "Samples",
  fooled: "Fooled samples", errors: "Samples that ended in an error", forwards: "Forward passes",
  backwards: "Backward passes", share: "Share certified", at: "Certified accuracy", median: "Median certified radius",
  verdict: "Verdict", models: "Models", success: "Fooled samples, in percent",
};

const sqlText = (value) => `'${String(value).replaceAll("'", "''")}'`;

function queryOf(ids) {
  const values = {
    rows: sqlText(DATA.files.rows), radii: sqlText(DATA.files.radii), checks: sqlText(DATA.files.checks),
    variant: sqlText(ids.variant), attack: sqlText(ids.attack), norm: sqlText(ids.norm), seed: ids.seed,
    certificate: sqlText(ids.certificate), check: sqlText(ids.check), budget: sqlText(ids.budget),
  };
  const query = DATA.queries[`${ids.table}.${ids.column}`];
  return query && query.replace(/:(rows|radii|checks|variant|attack|norm|seed|certificate|check|budget)\b/g, (_, name) => values[name]);
}

function titleOf(ids) {
  const number = ids.table === "cell" && ids.column === "robust" ? "Robust samples" : TITLES[ids.column];
  const budget = ids.budget === undefined ? "" : ` at ε = ${ids.budgetText ?? ids.budget}`;
  const variant = ids.variant === undefined ? "all models" : ids.variant;
  const seed = ids.seed === undefined ? "" : `seed ${ids.seed}`;
  // Clean accuracy does not depend on the attack.
  if (ids.column === "clean") return `${number}: ${[variant, seed].filter(Boolean).join(", ")}`;
  const attack = ids.table === "worst" ? "worst case over all attacks" : ids.attack ?? ids.certificate ?? ids.check;
  return `${number}${budget}: ${[variant, seed, attack, DATA.norms[ids.norm]].filter(Boolean).join(", ")}`;
}

const origins = (() => {
  const { columns, shared, cells } = DATA.origins;
  let rows = null;
  return () => (rows ??= cells.map((cell) => {
    const row = Object.fromEntries(columns.map((name, index) => [name, cell[index]]));
    for (const name of Object.keys(shared)) row[name] = shared[name][row[name]];
    return row;
  }));
})();

// The cells that a number is computed from, models first.
function cellsBehind(ids) {
  const stage = { certified: "certify", check: "diagnose" }[ids.table] ?? "evaluate";
  const attacks = ids.table === "worst" ? new Set(attacksOn(ids.variant, ids.norm).map((attack) => attack.name)) : null;
  const name = ids.attack ?? ids.certificate;
  const isOfModel = (row) =>
    (ids.variant === undefined || row.variant === ids.variant) &&
    (ids.seed === undefined || row.seed === Number(ids.seed));
  const measured = origins().filter(
    (row) => row.stage === stage && isOfModel(row) && (attacks ? attacks.has(row.name) : !name || row.name === name));
  const models = new Set(measured.map((row) => `${row.seed} ${row.variant}`));
  return [...origins().filter((row) => row.stage === "train" && models.has(`${row.seed} ${row.variant}`)), ...measured];
}

const shellWord = (value) => (/^[\w.:+-]+$/.test(value) ? value : `'${String(value).replaceAll("'", "'\\''")}'`);

function commandOf(row) {
  const option = { evaluate: ` --attack ${shellWord(row.name)}`, certify: ` --certificate ${shellWord(row.name)}` }[row.stage] ?? "";
  const ids = `--experiment ${shellWord(DATA.experiment)} --variant ${shellWord(row.variant)} --seed ${row.seed}`;
  return `gauntlet ${row.stage} ${ids}${option} --force`;
}

const committed = (commit, dirty) => (commit ? commit + (dirty === "true" ? ", with uncommitted changes" : "") : "unknown");

function definitionList(pairs) {
  const list = make("dl");
  for (const [name, value] of pairs) {
    if (value !== null && value !== undefined && value !== "") list.append(make("dt", {}, name), make("dd", {}, value));
  }
  return list;
}

function cellDetails(row, open) {
  const title = row.stage === "evaluate" || row.stage === "certify" ? row.name : { train: "model", diagnose: "probes" }[row.stage];
  const details = make("details", { open }, make("summary", {}, `${row.variant}, seed ${row.seed}: ${title}`));
  const fill = () => {
    if (details.childElementCount > 1) return;
    const json = (value) => make("pre", { tabindex: 0 }, JSON.stringify(value, null, 1));
    details.append(definitionList([
      ["command", make("code", {}, commandOf(row))],
      ["commit", committed(row.commit, row.dirty)],
      ["recipe", row.recipe && make("code", {}, row.recipe)],
      ["digest of the rows", row.digest && make("code", {}, row.digest)],
      ["finished", row.finished && row.finished + (row.seconds === null ? "" : ` after ${row.seconds.toFixed(1)} s`)],
      ["versions", row.versions],
      ["configuration", json(row.slice)],
      ["inputs", json(row.inputs)],
    ]));
  };
  if (open) fill();
  details.addEventListener("toggle", fill);
  return details;
}

function curveBehind(ids) {
  if (ids.table !== "worst" && ids.table !== "single") return null;
  const attack = ids.table === "worst" ? "" : ids.attack;
  const isBehind = (curve) => curve.norm === ids.norm && curve.variant === ids.variant && curve.attack === attack;
  return DATA.curves.find(isBehind) ?? null;
}

const range = (low, high) => (low === null ? null : `${percent(low)} to ${percent(high)} %`);

// The rest of a number's summary row: all digits, both intervals, counts, and explanations of its marks.
function facts(ids) {
  const curve = curveBehind(ids);
  if (!curve) return [];
  const isClean = ids.column === "clean";
  const point = ids.column === "robust" && curve.points.find(([budget]) => String(budget) === String(Number(ids.budget)));
  const share = isClean ? curve.clean : point ? point[2] : null;
  const failed = (curve.flags ?? "").split(", ").filter((check) => check && (!isClean || DATA.accuracyChecks.includes(check)));
  const doubts = [["‡", failed.length ? `fails ${failed.join(", ").replaceAll("_", " ")}; the number may be too high` : null]];
  if (!isClean) doubts.push(
    ["†", curve.errors ? `${curve.errors} samples ended in an error and count as fooled` : null],
    ["diagnostics", curve.flags === null ? "not diagnosed: gradients may be masked" : null]);
  return [
    ["all digits", share === null ? null : `${100 * share} %`],
    ["95 % interval over samples", point ? range(point[3], point[4]) : null],
    ["95 % interval over seeds", point ? range(point[5], point[6]) : null],
    ["computed from", `${curve.samples} rows of ${curve.seeds} ${curve.seeds === 1 ? "seed" : "seeds"}`],
    ["*", isClean ? (curve.cleanMarks.includes("*") ? "training seeds are missing" : null)
      : curve.missing ? `${curve.missing} cells are missing; the number may be too high` : null],
    ...doubts,
  ];
}

function showOrigin(ids, numberText) {
  const dialog = find("#origin");
  const cells = cellsBehind(ids);
  const query = queryOf(ids);
  const close = make("button", { type: "button", class: "close" }, "Close");
  close.addEventListener("click", () => dialog.close());
  const source = { certified: DATA.files.radii, check: DATA.files.checks }[ids.table] ?? DATA.files.rows;
  const list = make("div", { class: "origins" });
  for (const row of cells) list.append(cellDetails(row, cells.length <= 2));
  const command = `gauntlet aggregate --experiment ${shellWord(DATA.experiment)} && gauntlet report --experiment ${shellWord(DATA.experiment)}`;
  const table = DATA.table;
  dialog.replaceChildren(
    make("div", { class: "bar" }, make("h2", { id: "origin-title" }, titleOf(ids)), close),
    make("p", { class: "number" }, numberText),
    definitionList(facts(ids)),
    make("h3", {}, `DuckDB query on ${source}`),
    make("pre", { tabindex: 0, id: "origin-query" }, query ?? "This number is not computed from these rows."),
    make("h3", {}, cells.length ? `Computed from ${cells.length} files` : "Computed from"),
    cells.length ? list : make("p", {}, "The origins of the cells were not available when this page was written."),
    make("h3", {}, "The table of all samples"),
    definitionList([
      ["command", make("code", {}, command)],
      ["commit", committed(table.commit, table.dirty)],
      ["recipe", table.cell && make("code", {}, table.cell)],
      ["digest", table.stream_digest && make("code", {}, table.stream_digest)],
      ["finished", table.finished],
    ]),
    make("p", { class: "muted" }, "Commands read config.yaml unless another configuration file is named; --force repeats cells that are up to date."),
  );
  dialog.setAttribute("aria-label", titleOf(ids));
  dialog.showModal();
  dialog.scrollTop = 0;
}

find("#origin").addEventListener("click", (event) => {
  // A click outside the content of the dialog has the dialog itself as its target.
  const box = event.currentTarget.getBoundingClientRect();
  const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
  if (event.target === event.currentTarget && !inside) event.currentTarget.close();
});
