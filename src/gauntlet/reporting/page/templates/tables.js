// Tables: sorting by any column, walking through numbers by arrow keys, filtering the cells.

const headers = (table) => [...table.tHead.rows[0].cells];

function idsOf(cell) {
  const table = cell.closest("table");
  const header = headers(table)[cell.cellIndex];
  const known = header && header.dataset.q && cell.tagName === "TD" && cell.colSpan === 1;
  if (!known || ["", "–"].includes(cell.textContent.trim())) return null;
  const ids = { ...table.dataset, ...cell.parentElement.dataset, ...header.dataset };
  if (ids.budget !== undefined) ids.shownBudget = header.textContent.replace(/^\s*ε = /, "").trim();
  return ids;
}

function openNumber(cell) {
  const ids = idsOf(cell);
  const parts = cell.childElementCount ? [...cell.children] : [cell];
  if (ids) showOrigin(ids, parts.map((part) => part.textContent.replace(/\s+/g, " ").trim()).join(" "));
}

// The number next to one in a direction, over blanks and hidden rows; none at the edge.
function neighbour(cell, down, right) {
  let row = cell.parentElement;
  let place = cell.cellIndex;
  do {
    if (down) row = down > 0 ? row.nextElementSibling : row.previousElementSibling;
    place += right;
    const next = row?.cells[place];
    if (!row || (right && !next)) return null;
    if (!row.hidden && next && idsOf(next)) return next;
  } while (true);
}

const STEPS = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };

function firstNumber(table) {
  for (const row of table.tBodies[0].rows) {
    if (row.hidden) continue;
    const cell = [...row.cells].find(idsOf);
    if (cell) return cell;
  }
  return null;
}

function walkable(table) {
  let current = null;
  const hold = (cell) => {
    if (current) current.removeAttribute("tabindex");
    current = cell;
    if (cell) cell.tabIndex = 0;
  };
  hold(firstNumber(table));
  table.classList.add("numbers");
  table.setAttribute("role", "grid");
  table.addEventListener("renew", () => { if (!current || current.parentElement.hidden) hold(firstNumber(table)); });
  table.addEventListener("click", (event) => {
    const cell = event.target.closest("td");
    if (!cell || !idsOf(cell)) return;
    hold(cell);
    cell.focus({ preventScroll: true });
    openNumber(cell);
  });
  table.addEventListener("keydown", (event) => {
    const cell = event.target;
    if (cell.tagName !== "TD" || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") openNumber(cell);
    else if (STEPS[event.key]) {
      const next = neighbour(cell, ...STEPS[event.key]);
      if (next) {
        hold(next);
        next.focus();
      }
    } else return;
    event.preventDefault();
  });
}

function sortKey(row, place) {
  const cell = row.cells[place];
  if (!cell || (cell.colSpan > 1)) return null;
  const shown = (find(".mean", cell) ?? cell).textContent.trim();
  if (shown === "" || shown === "–") return null;
  const number = Number(shown);
  return Number.isNaN(number) ? shown.toLowerCase() : number;
}

const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);

function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  headers(table).forEach((header, place) => {
    const button = make("button", { type: "button", class: "sort" }, ...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[header.ariaSort ?? "none"];
      for (const other of headers(table)) other.removeAttribute("aria-sort");
      let rows = original;
      if (next !== "none") {
        header.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const keyed = original.map((row) => [sortKey(row, place), row]);
        const known = keyed.filter(([key]) => key !== null).sort(([a], [b]) => sign * compare(a, b));
        // What has no value stays last in either direction.
        rows = [...known, ...keyed.filter(([key]) => key === null)].map(([, row]) => row);
      }
      body.replaceChildren(...rows);
    });
  });
}

function filterable(table, form) {
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, words: row.textContent.replace(/\s+/g, " ").toLowerCase() }));
  const seeds = [...new Set(rows.map(({ row }) => row.dataset.seed))];
  const norms = Object.entries(DATA.norms);
  const normOf = Object.fromEntries(DATA.attacks.map((one) => [one.name, one.norm]));
  const named = (list) => [["", "all"], ...list.map((name) => [name, name])];
  const words = make("input", { type: "search", placeholder: "words in the line" });
  const variant = select(named(DATA.variants.map((one) => one.name)), "");
  const attack = select(named(DATA.attacks.map((one) => one.name)), "");
  const norm = select([["", "all"], ...norms], "");
  const seed = select(named(seeds), "");
  const kind = select([["", "all"], ["absent", "missing"], ["errors", "with errors"]], "");
  const told = make("output", { class: "told faint" });
  form.append(labelled("search", words), labelled("variant", variant), labelled("attack", attack),
    labelled("norm", norm), labelled("seed", seed), labelled("show", kind), told);
  const errors = headers(table).findIndex((header) => header.dataset.q === "errors");
  const kinds = { "": () => true, absent: (row) => row.classList.contains("absent"),
    errors: (row) => row.cells[errors] && Number(row.cells[errors].textContent) > 0 };
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of rows) {
      const { variant: v, attack: a, seed: s } = one.row.dataset;
      const fits = (!variant.value || v === variant.value) && (!attack.value || a === attack.value) &&
        (!norm.value || normOf[a] === norm.value) && (!seed.value || s === seed.value) &&
        kinds[kind.value](one.row) && wanted.every((each) => one.words.includes(each));
      if (one.row.hidden === fits) one.row.hidden = !fits;
      shown += fits;
    }
    told.textContent = `${shown} of ${rows.length} cells`;
    table.dispatchEvent(new Event("renew"));
  };
  let waiting = 0;
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 80); });
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
  form.hidden = false;
}
