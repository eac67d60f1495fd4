"""The page in a real browser: display, pointer, keyboard and print."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from itertools import pairwise

import duckdb
import pyarrow as pa
import pytest

from gauntlet.core.parquet import read_table, write_table
from gauntlet.core.provenance.recipes import Recipe
from gauntlet.reporting.aggregation import ATTACKS_VOLATILE, ORIGINS_VOLATILE, measure_attacks, read_origins, summarize
from gauntlet.reporting.figures.drawing import write_figure
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.formatting import percent_text
from gauntlet.reporting.page import write_report
from gauntlet.reporting.page.page import TEMPLATES
from gauntlet.robustness.diagnostics.checks import add_verdicts, collect_flags
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from tests.support import browser, synthetic
from tests.support.grids import grid_plan, write_results

pytestmark = pytest.mark.slow

COMMIT = "c0ffee" * 6 + "beef"
ROWS = "#cells-table tbody tr"
RIGHT, DOWN, UP, ENTER, ESCAPE, TAB = "\ue014", "\ue015", "\ue013", "\ue007", "\ue00c", "\ue004"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page with every feature: a missing cell, a flag, certificates, images, origins, two figures."""
    browser.require_browser()
    folder = tmp_path_factory.mktemp("page")
    plan = synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1), synthetic.ATTACKS)
    absent = synthetic.cells(plan)[1]
    made = synthetic.write_experiment(folder, plan, samples=60, absent=[absent])
    found = Measurement.share("unbounded_budget", "linf", range(45), 60, "PGD does not reach them")
    diagnostics = add_verdicts(measurement_table([found], experiment="digits", variant="ecc", seed=1))
    write_table(folder / "diagnostics.parquet", diagnostics, {})
    write_table(folder / "summary.parquet", summarize(made.evaluations, flags=collect_flags(diagnostics)), {})
    write_table(folder / "attacks.parquet", measure_attacks(made.evaluations), {}, volatile=ATTACKS_VOLATILE)
    files = {}
    for cell in synthetic.cells(plan):
        path = folder / "cells" / cell.variant / str(cell.seed) / f"{cell.name}.parquet"
        if cell != absent:
            recipe = Recipe("evaluate", {"attack": {"name": cell.name, "steps": 40}}, {})
            write_table(path, read_table(path), {**recipe.metadata(), "gauntlet.commit": COMMIT})
            files[cell] = path
    write_table(folder / "origins.parquet", read_origins(files), {}, volatile=ORIGINS_VOLATILE)
    inputs = FigureInputs(
        plan.variants,
        made.evaluations,
        folder / "summary.parquet",
        made.certificates,
        examples=tuple(ExamplesFile(*key, path) for key, path in made.examples.items()),
        attacks=folder / "attacks.parquet",
        diagnostics=folder / "diagnostics.parquet",
        origins=folder / "origins.parquet",
    )
    drawn = {name: write_figure(name, inputs, folder, formats=("svg",))[0] for name in ("robust_accuracy", "heat_map")}
    write_report(folder / "report.html", inputs, figures=drawn, mark="gauntlet-cell:sha256:" + "0" * 64)
    return folder, replace(inputs, examples=())


@pytest.fixture(scope="module")
def chromium(written):
    """One browser for all tests of this module."""
    with browser.open_browser() as opened:
        yield opened


@pytest.fixture
def page(chromium, written):
    """The page, freshly loaded."""
    chromium.open(written[0] / "report.html")
    return chromium


def shown(page, selector=ROWS):
    """Return the texts of the visible lines."""
    return page.run_script(
        "return [...document.querySelectorAll(arguments[0])].filter(row => row.offsetParent !== null)"
        ".map(one => (one.cells ? [...one.cells] : [one]).map(cell => cell.textContent.trim()).join(' '))",
        selector,
    )


def settle(page):
    """Wait until a typed filter has been applied."""
    page.driver.execute_async_script("setTimeout(arguments[0], 150)")


def choose(page, form, label, value):
    """Select an option by its label."""
    page.run_script(
        "const field = [...document.querySelectorAll(arguments[0] + ' .field')]"
        ".find(one => one.innerText.startsWith(arguments[1])).querySelector('select');"
        "field.value = arguments[2]; field.dispatchEvent(new Event('input', {bubbles: true}));",
        form,
        label,
        value,
    )
    settle(page)


def click(page, element):
    """Click an element once it is at rest in the middle of the window, since content is laid out when visible."""
    for _ in range(2):
        page.run_script("arguments[0].scrollIntoView({block: 'center'})", element)
        settle(page)
    element.click()


def lines(page):
    """Count the drawn curves."""
    return page.run_script("return document.querySelectorAll('#curves-chart .line').length")


def test_it_loads_without_console_messages_or_requests(chromium, written):
    """The only file requested is the page itself."""
    chromium.console_messages()
    chromium.requests()
    path = written[0] / "report.html"
    chromium.open(path)
    settle(chromium)
    assert chromium.console_messages() == []
    assert chromium.requests() == [path.resolve().as_uri()]


def test_no_other_script_may_run_and_nothing_may_be_fetched(page):
    """The browser refuses an injected script and any request by the page's policy."""
    page.run_script(
        "const script = document.createElement('script'); script.textContent = 'window.intruded = true';"
        "document.body.append(script); const image = new Image(); image.src = 'file:///tmp/x.png';"
        "document.body.append(image)"
    )
    settle(page)
    assert page.run_script("return window.intruded ?? null") is None
    complaints = page.console_messages()
    assert len(complaints) == 2
    assert all("Content Security Policy" in one for one in complaints)


def test_cells_are_filtered_by_words_and_by_choice(page):
    """Lines that do not match disappear, the count is shown, and all return."""
    whole = shown(page)
    assert len(whole) == 36
    page.find("#cells-filter input").send_keys("ecc cw")
    settle(page)
    assert [line.split()[:3] for line in shown(page)] == [["ecc", "0", "cw"], ["ecc", "1", "cw"]]
    assert page.find("#cells-filter output").text == "2 of 36 cells"
    page.find("#cells-filter input").clear()
    page.run_script("document.querySelector('#cells-filter input').dispatchEvent(new Event('input', {bubbles: true}))")
    choose(page, "#cells-filter", "norm", "l2")
    assert {line.split()[3] for line in shown(page)} == {"L2"}
    choose(page, "#cells-filter", "norm", "")
    choose(page, "#cells-filter", "show", "missing")
    assert [line.split()[-1] for line in shown(page)] == ["missing"]
    choose(page, "#cells-filter", "show", "")
    assert shown(page) == whole


def test_any_column_sorts_with_missing_values_last(page):
    """A column sorts up, down and back to the plan's order, numbers by value."""
    whole = shown(page)
    (button,) = [one for one in page.all("#cells-table .sort") if one.text == "fooled"]
    orders = []
    for _ in range(2):
        page.run_script("arguments[0].click()", button)
        orders.append(shown(page))
    up, down = ([int(line.split()[6]) for line in order[:-1]] for order in orders)
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)
    assert orders[0][-1].endswith("missing")
    assert orders[1][-1].endswith("missing")
    assert page.all('#cells-table th[aria-sort="descending"]')
    page.run_script("arguments[0].click()", button)
    assert shown(page) == whole


def test_columns_with_marks_and_intervals_sort_by_their_numbers(page):
    """A mark, an interval or a unit after a number makes it no text, and a p-value below 0.001 is the smallest."""
    texts = ["12.3 ± 0.4", "9.1‡", "–*", "[+10.0, +20.0]", "-1.2", "< 0.001", "100.00 %", "4 × wide", "", "+0.3 ± 2.0"]
    cells = "".join(f"<td>{text.replace('<', '&lt;')}</td>" for text in texts)
    sources = "".join((TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in ("page", "tables"))
    row = page.run_script(
        f"{sources}; const row = document.createElement('tr'); row.innerHTML = arguments[0]; "
        "return [...row.cells].map((_, column) => sortKey(row, column))",
        cells + '<th>4 × wide</th><td class="name">12 layers</td>',
    )
    assert row == [12.3, 9.1, None, 10, -1.2, 0, 100, 4, None, 0.3, "4 × wide", "12 layers"]


def test_variants_attacks_and_norms_change_the_curves(page):
    """Each chosen variant has a bold line, each attack a thin one, and norms have their own budgets."""
    assert lines(page) == 3
    first = page.find("#curves-chart").text
    click(page, page.find("#curves-variants .list input"))
    assert lines(page) == 2
    click(page, page.all("#curves-attacks input")[1])
    assert lines(page) == 4
    click(page, page.find('#curves-controls input[value="l2"]'))
    assert lines(page) == 2  # the worst case stays chosen, the other norm's attack does not
    assert page.find("#curves-chart").text != first
    click(page, page.find("#curves-variants .buttons button:last-child"))
    assert lines(page) == 0
    click(page, page.find("#curves-variants .buttons button"))
    assert lines(page) == 3


def test_a_worst_case_is_one_line_across_the_budgets_of_attacks_outside_of_it(chromium, tmp_path):
    """A single attack is broken at budgets that it was not run at; a worst case is stated at its own."""
    few = synthetic.AttackDesign("few", "linf", (0.05,), counts=False, samples=5)
    made = synthetic.write_experiment(tmp_path, synthetic.plan(("softmax",), (0,), (synthetic.ATTACKS[1], few)))
    write_report(tmp_path / "page.html", find_inputs(made.evaluations), figures={})
    chromium.open(tmp_path / "page.html")
    (path,) = (one.get_attribute("d") for one in chromium.all("#curves-chart .line"))
    assert (path.count("M"), path.count("L")) == (1, len(synthetic.LINF))


def test_pointing_at_a_mark_shows_its_number(page, written):
    """The tip has the summary's number, and so has the text for screen readers."""
    page.run_script("document.querySelector('#curves').scrollIntoView()")
    page.run_script(
        "const mark = document.querySelectorAll('#curves-chart .marker')[3].getBoundingClientRect();"
        "document.querySelector('#curves-chart svg').dispatchEvent(new PointerEvent('pointermove',"
        "{clientX: mark.x + mark.width / 2, clientY: mark.y + mark.height / 2}))"
    )
    text = page.find("#curves-chart .tip").text
    assert text == page.find("#curves-status").text
    row = next(
        row
        for row in read_table(written[1].summary).to_pylist()
        if (row["variant"], row["attack"], row["epsilon"]) == ("softmax", "worst:linf", 0.1)
    )
    assert text.startswith(f"softmax, worst case, ε = 0.1: {100 * row['robust_accuracy']:.1f} %*")


def test_curves_are_navigated_with_the_keyboard(page):
    """Arrow keys move between marks and lines, Enter opens the origin, Escape returns."""
    page.run_script("document.querySelector('#curves-chart svg').focus()")
    texts = [page.find("#curves-status").text]
    for key in (RIGHT, RIGHT, DOWN, UP):
        page.press(key)
        texts.append(page.find("#curves-status").text)
    assert ", clean: " in texts[0]
    assert "ε = 0.03:" in texts[2]
    assert all(one != other for one, other in pairwise(texts))
    page.press(ENTER)
    assert page.find("#origin").is_displayed()
    assert page.find("#origin .number").text == texts[-1]
    page.press(ESCAPE)
    assert not page.find("#origin").is_displayed()


def test_a_click_on_a_number_opens_its_origin(page, written):
    """It shows query, cells with recipe, commit, configuration, and the command to repeat each."""
    cell = page.find(f"{ROWS} td:nth-child(7)")
    number = cell.text
    click(page, cell)
    text = page.find("#origin").text
    row = read_table(written[1].origins).to_pylist()[0]
    assert page.find("#origin .number").text == number
    assert "gauntlet evaluate --experiment digits --variant softmax --seed 0 --attack fgsm --force" in text
    for expected in (COMMIT, row["recipe"], row["digest"], '"steps": 40'):
        assert expected in text
    click(page, page.find("#origin .close"))
    assert not page.find("#origin").is_displayed()


def test_the_keyboard_opens_a_numbers_origin(page):
    """A table is one Tab stop, arrow keys move in it, and focus returns afterwards."""
    focused = "return document.activeElement.innerText.trim()"
    assert page.run_script("return document.querySelectorAll('table[data-table=worst] td[tabindex]').length") == 2
    page.run_script("document.querySelector('table[data-table=worst] td[tabindex]').focus()")
    first = page.run_script(focused)
    page.press(RIGHT, DOWN)
    assert page.run_script(focused) != first
    assert page.run_script("return document.activeElement.parentElement.dataset.variant") == "ecc"
    held = page.run_script(focused)
    page.press(ENTER)
    assert "ecc, worst case over all attacks, L∞" in page.find("#origin-title").text
    assert "fails unbounded budget" in page.find("#origin").text
    assert page.run_script("return document.querySelectorAll('#origin details').length") == 6
    page.run_script("document.querySelector('#origin summary').focus()")
    page.press(ENTER)
    settle(page)  # what is unfolded is filled in afterwards
    assert COMMIT in page.find("#origin details").text
    page.press(ESCAPE)
    assert page.run_script(focused) == held


@pytest.mark.parametrize("kind", ["worst", "single"])
def test_clean_accuracy_names_no_attack_and_has_no_flag(page, kind):
    """The robust accuracy next to it has both."""
    texts = []
    for column in ("clean", "robust"):
        place = f"table[data-table={kind}] th[data-column={column}]"
        number = page.run_script(
            "const place = document.querySelector(arguments[0]).cellIndex;"
            "return document.querySelector(arguments[1]).cells[place]",
            place,
            f"table[data-table={kind}] tbody tr[data-variant=ecc]",
        )
        page.run_script("arguments[0].click()", number)
        texts.append((page.find("#origin-title").text, "fails unbounded budget" in page.find("#origin").text))
        page.press(ESCAPE)
    assert texts[0] == ("Clean accuracy: ecc", False)
    assert texts[1][0].startswith("Robust accuracy at ε = ")
    assert texts[1][1]


@pytest.mark.parametrize("kind", ["worst", "single", "cell", "certified", "cost", "check"])
def test_the_shown_query_returns_the_shown_number(page, written, kind):
    """The query runs in the results folder as copied, for some numbers of every table."""
    cells = page.all(f"table[data-table={kind}] tbody td:not(.name)")
    tried = 0
    for cell in cells[:: max(1, len(cells) // 7)]:
        page.run_script("arguments[0].click()", cell)
        if not page.find("#origin").is_displayed():
            continue
        query, number = page.find("#origin-query").text, page.find("#origin .number").text
        page.press(ESCAPE)
        if not query.startswith("SELECT"):
            continue
        tried += 1
        rows = duckdb.sql(re.sub(r"'(\w+\.parquet)'", rf"'{written[0]}/\1'", query)).fetchall()
        if kind == "check":
            assert number in {row[2] for row in rows}
        else:
            assert float(rows[0][0]) == pytest.approx(float(re.match(r"[\d.]+", number)[0]), abs=0.06, rel=6e-3)
    assert tried >= (1 if kind == "check" else 3)


def test_tables_that_fit_have_no_scroll_bar(chromium, written):
    """The marks of sortable columns stay within their cells: no table scrolls by a few pixels."""
    chromium.open(written[0] / "report.html", width=1280, height=900)
    beyond = chromium.run_script(
        "return [...document.querySelectorAll('.scroll')].filter(box => box.clientWidth).map(box =>"
        " box.scrollWidth - box.clientWidth)"
    )
    assert len(beyond) > 3
    assert not [pixels for pixels in beyond if 0 < pixels < 16]


def test_a_phone_scrolls_down_only(chromium, written):
    """At 390 pixels nothing exceeds the width, in the page or an open origin; tables scroll themselves."""
    chromium.open(written[0] / "report.html", width=390, height=844)
    assert chromium.run_script("return document.documentElement.scrollWidth") == 390
    chromium.run_script("document.querySelector('table[data-table=worst] td[tabindex]').click()")
    box = chromium.run_script(
        "const box = document.querySelector('#origin').getBoundingClientRect(); return [box.left, box.right]"
    )
    assert box[0] >= 0
    assert box[1] <= 390
    assert chromium.run_script(
        "const one = document.querySelector('#origin'); return one.scrollWidth <= one.clientWidth"
    )


CONTRAST = """
const channel = value => (value /= 255) <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
const parse = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const ground = one => {
  for (; one; one = one.parentElement) {
    const color = parse(getComputedStyle(one).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const ratio = (a, b) => (Math.max(light(a), light(b)) + .05) / (Math.min(light(a), light(b)) + .05);
const found = [];
for (const one of document.querySelectorAll("body *")) {
  if (!one.checkVisibility() || one.closest("option, select")) continue;
  const style = getComputedStyle(one), svg = one instanceof SVGElement;
  const texts = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const name = `${one.tagName} ${one.getAttribute("class")}`;
  if (texts) found.push(["text", name, ratio(parse(svg ? style.fill : style.color), ground(one))]);
  if (svg && one.matches(".line")) found.push(["line", name, ratio(parse(style.stroke), ground(one))]);
}
return found;
"""


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_enough_in_the_light_and_in_the_dark(chromium, written, dark):
    """Text has a contrast of 4.5 to 1; curves 3 to 1 in the dark mode, and 2 to 1 in the light one.

    The palette of the figures is of Okabe and Ito, some of which are pale on white; dashes and marks distinguish lines.
    """
    chromium.open(written[0] / "report.html", dark=dark)
    ground = chromium.run_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == dark
    chromium.run_script("document.querySelector('table[data-table=worst] td[tabindex]').click()")
    found = chromium.run_script(CONTRAST)
    assert {kind for kind, _, _ in found} == {"text", "line"}
    least = {"text": 4.5, "line": 3.0 if dark else 2.0}
    assert [one for one in found if one[2] < least[one[0]]] == []


def test_print_shows_everything(page, tmp_path):
    """Filtered, folded and hidden parts are printed, and controls are not."""
    page.find("#cells-filter input").send_keys("nothing fits this")
    settle(page)
    assert shown(page) == []
    page.media(kind="print")
    page.run_script("window.dispatchEvent(new Event('beforeprint'))")
    assert len(shown(page)) == 36
    assert page.run_script("return [...document.querySelectorAll('main details')].every(one => one.open)")
    assert page.run_script("return getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"
    assert shown(page, ".controls, nav, dialog") == []
    page.run_script("window.dispatchEvent(new Event('afterprint'))")
    assert not page.run_script("return [...document.querySelectorAll('main details')].some(one => one.open)")
    printed = page.driver.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
    page.media()


@pytest.mark.parametrize("width", [390, 1280, 1600])
def test_the_printed_chart_fits_the_paper_and_names_its_lines(chromium, written, width):
    """The window's width does not matter, and the chart is restored afterwards."""
    chromium.open(written[0] / "report.html", width=width)
    click(chromium, chromium.all("#curves-variants .list input")[1])
    click(chromium, chromium.all("#curves-attacks input")[1])
    assert not chromium.find("#curves-legend").is_displayed()
    drawn = "const chart = document.querySelector('#curves-chart svg');"
    before = chromium.run_script(f"{drawn} return chart.outerHTML")
    chromium.media(kind="print")
    settle(chromium)
    # In one go, as when printing: observers of sizes are not asked.
    right, edge, inner = chromium.run_script(
        "window.dispatchEvent(new Event('beforeprint')); document.documentElement.style.width = arguments[0] + 'px';"
        f"{drawn} return [chart.getBoundingClientRect().right, arguments[0], chart.viewBox.baseVal.width]",
        640,  # narrower than A4
    )
    assert 0.9 * edge < right < edge
    assert inner == 700  # whatever the window: letters have one size
    legend = [one.text for one in chromium.all("#curves-legend > *")]
    assert legend == ["softmax", "lipschitz", "L∞. 2 of 3 variants. Bold: worst case. Thin: fgsm."]
    assert len(chromium.all("#curves-legend .swatch .marker")) == 2
    chromium.media()
    chromium.run_script("document.documentElement.style.width = ''; window.dispatchEvent(new Event('afterprint'))")
    assert chromium.run_script(f"{drawn} return chart.outerHTML") == before


def test_the_gallery_shows_what_is_chosen(page):
    """Images of the chosen attack and variant have both classes and the distance."""
    choose(page, "#gallery-controls", "attack", "cw")
    choose(page, "#gallery-controls", "variant", "ecc")
    titles = [one.text for one in page.all("#gallery-images h3")]
    assert titles == ["ecc, cw, seed 0"]
    captions = [one.text for one in page.all("#gallery-images figcaption")]
    assert 1 <= len(captions) <= 8
    assert all(re.fullmatch(r"\d → \d L2 [\d.]+, sample \d+", one) for one in captions)
    loaded = "return [...document.querySelectorAll('#gallery-images img')].every(one => one.naturalWidth === 8)"
    settle(page)
    assert page.run_script(loaded)


def test_images_of_all_attacks_are_printed(chromium, written):
    """Afterwards the chosen ones are shown again."""
    chromium.open(written[0] / "report.html")
    count = "return document.querySelectorAll('#gallery-images h3').length"
    before = chromium.run_script(count)
    printed = chromium.run_script(f"window.dispatchEvent(new Event('beforeprint')); {count}")
    assert printed == chromium.run_script(
        "return JSON.parse(document.querySelector('#data').textContent).gallery.length"
    )
    assert printed > before
    assert chromium.run_script(f"window.dispatchEvent(new Event('afterprint')); {count}") == before


def test_a_name_with_markup_stays_a_name(chromium, tmp_path):
    """Names with markup are shown as text wherever the script writes them."""
    hostile = "</script><img src=x onerror=window.intruded=1>'"
    attack = synthetic.AttackDesign(hostile, "linf", (0.1, 0.3))
    plan = synthetic.ExperimentDesign(hostile, (hostile,), (0,), (attack,))
    cell = synthetic.make_cell("evaluate", hostile, hostile, 0, hostile)
    write_table(tmp_path / "cell.parquet", synthetic.evaluation(cell, attack, samples=20), {})
    synthetic.combine({cell: tmp_path / "cell.parquet"}, tmp_path / "evaluations.parquet", design=plan)
    write_table(tmp_path / "summary.parquet", summarize(tmp_path / "evaluations.parquet"), {})
    write_table(tmp_path / "origins.parquet", read_origins({cell: tmp_path / "cell.parquet"}), {})
    inputs = FigureInputs((hostile,), tmp_path / "evaluations.parquet", tmp_path / "summary.parquet")
    write_report(tmp_path / "page.html", replace(inputs, origins=tmp_path / "origins.parquet"), figures={})
    chromium.console_messages()
    chromium.open(tmp_path / "page.html")
    chromium.run_script("document.querySelector('table[data-table=cell] td[tabindex]').click()")
    assert hostile in chromium.find("#origin-title").text
    query = chromium.find("#origin-query").text
    (count,) = duckdb.sql(query.replace("'evaluations.parquet'", f"'{tmp_path}/evaluations.parquet'")).fetchall()
    assert count == (20,)
    assert chromium.run_script("return window.intruded ?? null") is None
    assert chromium.run_script("return document.querySelectorAll('img').length") == 0
    assert chromium.console_messages() == []


def test_variants_are_filtered_by_factor_in_all_tables(chromium, tmp_path):
    """Rows, and columns of the diagnostics; the arrow keys skip what is hidden, and nothing is wider than a phone."""
    plan = grid_plan((3, 4), attacks=synthetic.ATTACKS[1:2], seeds=(0,), alone=("plain",))
    evaluations = write_results(tmp_path, plan, samples=20)
    zero = Measurement("zero_gradients", None, 0.0)
    checked = [measurement_table([zero], experiment="digits", variant=name, seed=0) for name in plan.variants]
    write_table(tmp_path / "diagnostics.parquet", add_verdicts(pa.concat_tables(checked)), {})
    write_report(tmp_path / "page.html", find_inputs(evaluations), figures={})
    chromium.console_messages()
    chromium.open(tmp_path / "page.html", width=390, height=844)
    shown = (
        "const [part] = arguments; return [...document.querySelectorAll(part)]"
        ".filter((one) => getComputedStyle(one).display !== 'none').map((one) => one.dataset.variant)"
    )
    choose = (
        "const [index, level] = arguments; const list = document.querySelectorAll('#factors-filter select')[index];"
        "list.value = level; list.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    parts = ("table[data-table=worst] tbody tr", "#cells-table tbody tr", "table[data-table=check] th[data-variant]")
    assert all(chromium.run_script(shown, part) == list(plan.variants) for part in parts)
    chromium.run_script(choose, 0, "A1")
    chromium.run_script(choose, 1, "B2")
    assert all(chromium.run_script(shown, part) == ["a1_b2"] for part in parts)
    checks = "table[data-table=check] tbody tr:first-child td"
    assert len(chromium.run_script(shown, checks)) == 1
    assert "1 of 13 variants" in chromium.find("#factors-filter output").text
    assert chromium.run_script("return document.documentElement.scrollWidth") == 390
    chromium.run_script("document.querySelector('table[data-table=worst] td[tabindex]').focus()")
    current = "return document.activeElement.parentElement.dataset.variant"
    chromium.press(DOWN)
    assert chromium.run_script(current) == "a1_b2"
    assert chromium.console_messages() == []


def test_without_its_script_the_page_is_complete(chromium, written):
    """Tables and figures are there, and controls without effect are not."""
    chromium.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chromium.open(written[0] / "report.html")
        assert len(chromium.all(ROWS)) == 36
        assert not chromium.find("#curves").is_displayed()
        assert not chromium.find("#cells-filter").is_displayed()
    finally:
        chromium.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_script_rounds_as_the_tables(page):
    """The chart's percentages are those of the tables, ties included: 1 of 16 samples are 6.2 %, not 6.3 %."""
    source = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    function = re.search(r"^function percent\(.*?^}$", source, re.DOTALL | re.MULTILINE)[0]
    # Intervals over seeds may begin below 0.
    shares = [count / samples for samples in (16, 80, 400, 9999, 10000) for count in range(-samples, samples + 1)]
    texts = page.run_script(f"{function} return arguments[0].map(percent)", shares)
    assert texts == [f"{100 * share:z.1f}" for share in shares]
    accuracy = re.search(r"^function accuracyText\(.*?^}$", source, re.DOTALL | re.MULTILINE)[0]
    shares = [0.0, 1.0, 0.9996, 0.999996, 0.0004, 0.5, 1e-16, 1 - 1e-16]
    texts = page.run_script(f"{function} {accuracy} return arguments[0].map(accuracyText)", shares)
    assert texts == list(map(percent_text, shares))
