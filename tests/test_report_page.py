"""The page in a real browser: no errors, no requests, hovers, switches, sorts, and fits a telephone and a desk."""

import shutil

import pytest

from apet.reporting.study import write_report
from synthetic_results import curves, failing, study, transfer

pytest.importorskip("playwright", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WIDTHS = (400, 1400)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    runs = failing(study(2, tasks=["films", "claims"], backbones=["tiny", "mid"], sd=0.01), 3)
    synthetic_curves = curves(runs, lambda m: {"apet-adjacent": 10.0, "apet-discrete": 20.0}.get(m, 15.0))
    place = tmp_path_factory.mktemp("place") / "report"
    provenance = {"name": "synthetic", "settings": "seeds: 2\n"}
    with pytest.MonkeyPatch.context() as m:
        m.setattr("apet.reporting.study._draw_figures", lambda *_: {})  # printed figures have tests of their own
        return write_report(place, runs, synthetic_curves, provenance, transfer=transfer(), partial=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        profile = tmp_path_factory.mktemp("profile")
        context = p.chromium.launch_persistent_context(str(profile), executable_path=CHROMIUM, args=ARGS)
        yield context
        context.close()


@pytest.fixture
def open_page(browser, report):
    opened = []

    def at(width):
        page = browser.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.said, page.asked = [], []
        page.on("console", lambda m: page.said.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: page.said.append(str(e)))
        page.on("request", lambda r: page.asked.append(r.url))
        page.goto(report.page.as_uri())
        opened.append(page)
        return page

    yield at
    for page in opened:
        page.close()


def see(page, section):
    """Scroll to a section and wait for its plot."""
    page.locator(f"#{section}").scroll_into_view_if_needed()
    page.wait_for_selector(f"#{section} .main-svg", state="attached")


@pytest.mark.parametrize("width", WIDTHS)
def test_it_reads_without_errors_requests_or_sideways_scrolling(open_page, report, width):
    page = open_page(width)
    for section in ("gap_by_scale", "structure", "convergence", "score_by_budget", "thresholds", "transfer"):
        see(page, section)
        assert page.locator(f"#{section} .js-plotly-plot").bounding_box()["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.said == []
    assert [u for u in page.asked if not u.startswith(("data:", "blob:"))] == [report.page.as_uri()]
    assert "Partial: the study is not finished" in page.inner_text("[role=status]")
    assert page.inner_text(".headline").replace("\u00a0", " ") == report.headline


def traces(page, section, method):
    return page.evaluate(
        """([section, method]) => document.querySelector(`#${section} .js-plotly-plot`)
          .data.filter(t => t.meta === method).map(t => t.visible)""",
        [section, method],
    )


def test_a_switch_hides_a_method_in_every_figure_also_in_those_not_yet_seen(open_page):
    page = open_page(1400)
    see(page, "gap_by_scale")
    assert set(traces(page, "gap_by_scale", "lora")) == {True}
    page.click("#methods button[data-method=lora]")
    assert set(traces(page, "gap_by_scale", "lora")) == {False}
    assert set(traces(page, "gap_by_scale", "bitfit")) == {True}
    see(page, "score_by_budget")
    assert set(traces(page, "score_by_budget", "lora")) == {False}
    assert page.get_attribute("#methods button[data-method=lora]", "aria-pressed") == "false"
    page.click("#methods button[data-method=lora]")
    assert set(traces(page, "score_by_budget", "lora")) == {True}
    assert page.said == []


def test_a_hover_names_the_run_its_seed_and_its_count(open_page):
    page = open_page(1400)
    see(page, "score_by_budget")
    page.select_option("#score_by_budget select >> nth=1", "films")
    page.wait_for_function(
        "document.querySelector('#score_by_budget .js-plotly-plot').data.some(t => t.mode === 'markers')"
    )
    page.evaluate(
        """() => {
          const plot = document.querySelector('#score_by_budget .js-plotly-plot');
          const curve = plot.data.findIndex(t => t.mode === 'markers' && t.meta === 'apet-adjacent');
          Plotly.Fx.hover(plot, [{ curveNumber: curve, pointNumber: 0 }]);
        }"""
    )
    shown = page.text_content("#score_by_budget .hoverlayer .hovertext")
    assert "APET-adjacent, N = 64" in shown
    assert "seed 0" in shown
    assert "run tiny-films-apet-adjacent-64-0" in shown
    assert "items: " in shown


@pytest.mark.parametrize(
    ("section", "task"), [("gap_by_scale", "films"), ("structure", "films"), ("thresholds", "films")]
)
def test_a_hover_shows_what_stands_behind_a_point_in_every_figure(open_page, section, task):
    page = open_page(1400)
    see(page, section)
    page.locator(f"#{section} select").last.select_option(task)
    page.evaluate(
        """(section) => {
          const plot = document.querySelector(`#${section} .js-plotly-plot`);
          const curve = plot.data.findIndex(t => t.meta === 'apet-adjacent' && t.mode !== 'lines');
          Plotly.Fx.hover(plot, [{ curveNumber: curve, pointNumber: 0 }]);
        }""",
        section,
    )
    shown = page.text_content(f"#{section} .hoverlayer .hovertext")
    assert "APET-adjacent on tiny" in shown
    assert "N = " in shown
    assert "seeds (n = 2, sd " in shown
    assert "own intervals (n = 1,000): " in shown
    assert "filmsseeds 0, 1" in shown  # text alone: a line each in the page


def test_a_real_pointer_over_a_mean_shows_both_intervals(open_page):
    page = open_page(1400)
    see(page, "gap_by_scale")
    page.locator("#gap_by_scale .plot").scroll_into_view_if_needed()
    point = page.locator("#gap_by_scale .scatterlayer .trace").last.locator(".points path").first.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    page.wait_for_selector("#gap_by_scale .hoverlayer .hovertext")
    shown = page.text_content("#gap_by_scale .hoverlayer .hovertext")
    assert "APET-discrete on tiny" in shown
    assert "items, from the runs' own intervals" in shown


def test_the_axis_of_counts_is_logarithmic_or_linear(open_page):
    page = open_page(1400)
    see(page, "score_by_budget")
    kind = "document.querySelector('#score_by_budget .js-plotly-plot').layout.xaxis.type"
    assert page.evaluate(kind) == "log"
    page.click("#score_by_budget .controls button")
    assert page.evaluate(kind) == "linear"
    assert page.inner_text("#score_by_budget .controls button") == "axis: linear"


def column(page, table, nth):
    return page.locator(f"#table-{table} tbody tr td:nth-child({nth})").all_inner_texts()


def test_tables_sort_by_number_both_ways_and_filter(open_page):
    page = open_page(1400)
    head = page.locator("#table-task_table th").nth(2).locator("button")
    for down in (False, True):
        head.click()
        shown = [int(x.replace(",", "")) for x in column(page, "task_table", 3)]
        assert shown == sorted(shown, reverse=down)
    page.fill("#task_table input[type=search]", "lora")
    assert set(column(page, "task_table", 2)) == {"LoRA"}


def test_long_tables_come_in_pages(open_page):
    page = open_page(400)
    page.click("#runs summary")
    assert len(column(page, "runs", 1)) == 50
    first = column(page, "runs", 1)[0]
    page.click("#runs .pages button:has-text('next')")
    assert column(page, "runs", 1)[0] != first
    assert "51–100 of" in page.inner_text("#runs .pages")


def test_failures_and_settings_are_there(open_page):
    page = open_page(400)
    assert "diverged: loss is not finite at step 7" in page.inner_text("#failed")
    assert "seeds: 2" in page.inner_text("#settings")
