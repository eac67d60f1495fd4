// Tables: sorting by any column, moving between numbers with the arrow keys, filtering the cells.

const headers = (table) => [...table.tHead.rows[0].cells];

// The ids of a number, from the data attributes of its table, row and column; null for a cell without a number.
function idsOf(cell) {
  const table = cell.closest("table");
  const header = headers(table)[cell.cellIndex];
  const isNumber = header && header.dataset.column && cell.tagName === "TD" && cell.colSpan === 1;
  if (!isNumber || ["", "–"].includes(cell.textContent.trim())) return null;
  const ids = { ...table.dataset, ...cell.parentElement.dataset, ...header.dataset };
  if (ids.budget !== undefined) ids.budgetText = header.textContent.replace(/^\s*ε = /, "").trim();
  return ids;
}

function openNumber(cell) {
  const ids = idsOf(cell);
  const parts = cell.childElementCount ? [...cell.children] : [cell];
  if (ids) showOrigin(ids, parts.map((part) => part.textContent.replace(/\s+/g, " ").trim()).join(" "));
}

// Rows and columns may be hidden by the filter of their table, and by that of the factors.
const isVisible = (part) => Boolean(part) && !part.hidden && !part.classList.contains("other-level");

// The next number in a direction, skipping blanks and hidden rows; null at the edge.
function neighbor(cell, down, right) {
  let row = cell.parentElement;
  let column = cell.cellIndex;
  do {
    if (down) row = down > 0 ? row.nextElementSibling : row.previousElementSibling;
    column += right;
    const next = row?.cells[column];
    if (!row || (right && !next)) return null;
    if (isVisible(row) && isVisible(next) && idsOf(next)) return next;
  } while (true);
}

// Steps down and right of the arrow keys.
const STEPS = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };

function firstNumber(table) {
  for (const row of table.tBodies[0].rows) {
    if (!isVisible(row)) continue;
    const cell = [...row.cells].find((one) => isVisible(one) && idsOf(one));
    if (cell) return cell;
  }
  return null;
}

// Lets the Tab key stop once in a table, at the current number.
function makeNavigable(table) {
  let current = null;
  const setCurrent = (cell) => {
    if (current) current.removeAttribute("tabindex");
    current = cell;
    if (cell) cell.tabIndex = 0;
  };
  setCurrent(firstNumber(table));
  table.classList.add("numbers");
  table.setAttribute("role", "grid");
  table.addEventListener("filtered", () => {
    if (!current || !isVisible(current.parentElement) || !isVisible(current)) setCurrent(firstNumber(table));
  });
  table.addEventListener("click", (event) => {
    const cell = event.target.closest("td");
    if (!cell || !idsOf(cell)) return;
    setCurrent(cell);
    cell.focus({ preventScroll: true });
    openNumber(cell);
  });
  table.addEventListener("keydown", (event) => {
    const cell = event.target;
    if (cell.tagName !== "TD" || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") openNumber(cell);
    else if (STEPS[event.key]) {
      const next = neighbor(cell, ...STEPS[event.key]);
      if (next) {
        setCurrent(next);
        next.focus();
      }
    } else return;
    event.preventDefault();
  });
}

// One list of levels per factor, which hides the variants of other levels in the rows and columns of all tables.
function startFactors() {
  const form = find("#factors-filter");
  if (!DATA.factors) return;
  const controls = DATA.factors.map((factor, index) => {
    const levels = [...new Set(Object.values(DATA.levels).map((labels) => labels[index]))].filter(Boolean);
    return select([["", "all"], ...levels.map((level) => [level, level])], "");
  });
  const count = make("output", { class: "status muted" });
  form.append(...controls.map((control, index) => withLabel(DATA.factors[index], control)), count);
  const parts = all("table [data-variant]").map((part) => {
    const table = part.closest("table");
    const column = part.tagName === "TH" ? [...table.rows].map((row) => row.cells[part.cellIndex]) : [part];
    return [part.dataset.variant, column.filter(Boolean)];
  });
  const apply = () => {
    const fits = (labels) => controls.every((control, index) => !control.value || labels[index] === control.value);
    const shown = new Set(DATA.variants.map(({ name }) => name).filter((name) => fits(DATA.levels[name])));
    for (const [variant, cells] of parts) {
      for (const cell of cells) cell.classList.toggle("other-level", !shown.has(variant));
    }
    count.textContent = `${shown.size} of ${DATA.variants.length} variants, in all tables`;
    for (const table of all("table[data-table]")) table.dispatchEvent(new Event("filtered"));
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
  form.hidden = false;
}

// The number that a text begins with, such as the mean of "91.2 ± 0.3", or the lower end of an interval; "< 0.001" is
// the smallest p-value.
function leadingNumber(text) {
  const match = /^(<\s*)?\[?([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/.exec(text);
  return match && (match[1] ? 0 : Number(match[2]));
}

function sortKey(row, column) {
  const cell = row.cells[column];
  if (!cell || (cell.colSpan > 1)) return null;
  const text = (find(".mean", cell) ?? cell).textContent.trim();
  if (/^(–[*†‡]*)?$/.test(text)) return null;
  const isName = cell.tagName === "TH" || cell.classList.contains("name");
  return (isName ? null : leadingNumber(text)) ?? text.toLowerCase();
}

const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);

function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  headers(table).forEach((header, column) => {
    const button = make("button", { type: "button", class: "sort" }, ...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const order = { none: "ascending", ascending: "descending", descending: "none" }[header.ariaSort ?? "none"];
      for (const other of headers(table)) other.removeAttribute("aria-sort");
      let rows = original;
      if (order !== "none") {
        header.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const keyed = original.map((row) => [sortKey(row, column), row]);
        const known = keyed.filter(([key]) => key !== null).sort(([a], [b]) => sign * compare(a, b));
        // Rows without a value stay last in either order.
        rows = [...known, ...keyed.filter(([key]) => key === null)].map(([, row]) => row);
      }
      body.replaceChildren(...rows);
    });
  });
}

function makeFilterable(table, form) {
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.textContent.replace(/\s+/g, " ").toLowerCase() }));
  const seeds = [...new Set(rows.map(({ row }) => row.dataset.seed))];
  const normOf = Object.fromEntries(DATA.attacks.map((attack) => [attack.name, attack.norm]));
  const options = (names) => [["", "all"], ...names.map((name) => [name, name])];
  const search = make("input", { type: "search", placeholder: "words in the row" });
  const variant = select(options(DATA.variants.map((item) => item.name)), "");
  const attack = select(options(DATA.attacks.map((item) => item.name)), "");
  const norm = select([["", "all"], ...Object.entries(DATA.norms)], "");
  const seed = select(options(seeds), "");
  const state = select([["", "all"], ["missing", "missing"], ["errors", "with errors"]], "");
  const count = make("output", { class: "status muted" });
  form.append(withLabel("search", search), withLabel("variant", variant), withLabel("attack", attack),
    withLabel("norm", norm), withLabel("seed", seed), withLabel("show", state), count);
  const errors = headers(table).findIndex((header) => header.dataset.column === "errors");
  const hasState = { "": () => true, missing: (row) => row.classList.contains("missing"),
    errors: (row) => row.cells[errors] && Number(row.cells[errors].textContent) > 0 };
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let visible = 0;
    for (const { row, text } of rows) {
      const ids = row.dataset;
      const fits = (!variant.value || ids.variant === variant.value) && (!attack.value || ids.attack === attack.value) &&
        (!norm.value || normOf[ids.attack] === norm.value) && (!seed.value || ids.seed === seed.value) &&
        hasState[state.value](row) && words.every((word) => text.includes(word));
      if (row.hidden === fits) row.hidden = !fits;
      visible += fits;
    }
    count.textContent = `${visible} of ${rows.length} cells`;
    table.dispatchEvent(new Event("filtered"));
  };
  let timer = 0;
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 80); });
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
  form.hidden = false;
}
