"""The page in a real browser: no errors, no requests, fits a telephone and a desk, light and dark, by keys alone."""

import re
import shutil
import time

import pytest

from apet.reporting.study import write_report
from synthetic_results import curves, failing, study, transfer

pytest.importorskip("playwright", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
SECTIONS = (
    "answer",
    "gap_by_scale",
    "structure",
    "convergence",
    "score_by_budget",
    "thresholds",
    "transfer",
    "gap_surface",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    runs = failing(study(2, tasks=["films", "claims"], backbones=["tiny", "mid"], grid=(64, 16_384), sd=0.01), 3)
    synthetic_curves = curves(runs, lambda m: {"apet-adjacent": 10.0, "apet-discrete": 20.0}.get(m, 15.0))
    place = tmp_path_factory.mktemp("place") / "report"
    provenance = {"name": "synthetic", "settings": "seeds: 2\n"}
    with pytest.MonkeyPatch.context() as m:
        m.setattr("apet.reporting.study._print_figures", lambda *_: [])  # printed figures have tests of their own
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

    def at(width, scheme="light"):
        page = browser.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.said, page.asked = [], []
        page.on("console", lambda m: page.said.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: page.said.append(str(e)))
        page.on("request", lambda r: page.asked.append(r.url))
        page.goto(report.page.as_uri())
        page.wait_for_selector("html[data-drawn]")
        opened.append(page)
        return page

    yield at
    for page in opened:
        page.close()


@pytest.mark.parametrize("width", [400, 1400])
def test_it_reads_without_errors_requests_or_sideways_scrolling(open_page, report, width):
    page = open_page(width)
    for section in SECTIONS:
        box = page.locator(f"#figure-{section} .plot svg").bounding_box()
        assert 0.9 * page.locator(f"#figure-{section}").bounding_box()["width"] <= box["width"] <= width, section
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.said == []
    assert [u for u in page.asked if not u.startswith(("data:", "blob:"))] == [report.page.as_uri()]
    assert "Partial: the study is not finished" in page.inner_text("[role=status]")
    assert page.inner_text(".headline").replace("\u00a0", " ") == report.headline


def test_nothing_in_it_could_upload_a_number(open_page, report):
    page = open_page(1400)
    assert page.locator(".vega-actions, .vega-embed details summary").count() == 0
    assert page.evaluate("fetch('https://example.invalid').then(() => 'sent', () => 'refused')") == "refused"
    # later, for what a debugger runs at once may do more than the page
    attempt = "try { new Function('1'); window.made = 'made' } catch { window.made = 'refused' }"
    page.add_script_tag(content=f"setTimeout(() => {{ {attempt} }})")
    page.wait_for_function("window.made")
    assert page.evaluate("window.made") == "refused"
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', report.page.read_text("utf-8"))[1]
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize("width", [400, 1400])
def test_the_answer_and_its_picture_stand_in_the_first_viewport(open_page, width):
    page = open_page(width)
    assert page.locator(".headline").bounding_box()["y"] < 300
    picture = page.locator("#figure-answer .plot").bounding_box()
    assert picture["y"] + picture["height"] / 2 < 900
    order = page.evaluate("[...document.querySelectorAll('figure, #findings')].map(e => e.id.replace('figure-', ''))")
    assert order[:3] == ["answer", "findings", "gap_by_scale"]


def test_the_first_paint_comes_within_a_second(open_page):
    page = open_page(1400)
    paints = page.evaluate("performance.getEntriesByType('paint').map(e => e.startTime)")
    assert paints
    assert max(paints) < 1_000


def test_every_figure_has_a_text_alternative_a_caption_and_its_table(open_page):
    page = open_page(1400)
    figures = page.locator("main figure, #figure-answer")
    assert figures.count() == len(SECTIONS)
    for i in range(figures.count()):
        figure = figures.nth(i)
        assert "table below" in figure.locator("[role=img]").get_attribute("aria-label")
        assert len(figure.locator("figcaption").inner_text()) > 80
        figure.locator("summary").click()
        figure.locator("tbody tr").first.wait_for()


MARKS = """(section) => [...document.querySelectorAll(`#figure-${section} .mark-symbol.role-mark path`)]
  .map(e => [e.getAttribute('fill'), e.getAttribute('stroke')]).flat()"""


def color_of(page, method):
    labels = page.locator("#methods button").all_inner_texts()
    return f"var(--m{labels.index(method)})"


def test_a_switch_hides_a_method_in_every_figure(open_page):
    page = open_page(1400)
    lora, bitfit = color_of(page, "LoRA"), color_of(page, "BitFit")
    for section in ("gap_by_scale", "score_by_budget"):
        assert lora in page.evaluate(MARKS, section)
    page.click("#methods button[data-method=LoRA]")
    assert page.get_attribute("#methods button[data-method=LoRA]", "aria-pressed") == "false"
    for section in ("gap_by_scale", "score_by_budget"):
        page.wait_for_function(f"!({MARKS})('{section}').includes('{lora}')")
        assert bitfit in page.evaluate(MARKS, section)
    page.click("#methods button[data-method=LoRA]")
    page.wait_for_function(f"({MARKS})('score_by_budget').includes('{lora}')")
    assert page.said == []


def test_a_choice_shows_another_task(open_page):
    page = open_page(1400)
    texts = "() => document.querySelector('#figure-convergence .plot').textContent"
    assert "mid, N = " in page.evaluate(texts)
    page.select_option("#figure-convergence select[name=backbone]", "tiny")
    page.wait_for_function(f"({texts})().includes('tiny, N = ')")
    assert "mid, N = " not in page.evaluate(texts)


def test_a_pointer_over_a_mean_shows_its_intervals_and_seeds(open_page):
    page = open_page(1400)
    page.select_option("#figure-gap_by_scale select[name=task]", "films")
    page.locator("#figure-gap_by_scale .plot").scroll_into_view_if_needed()
    point = page.locator("#figure-gap_by_scale .mark-symbol.role-mark path").last.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    page.wait_for_selector("#vg-tooltip-element.visible")
    shown = page.inner_text("#vg-tooltip-element")
    for part in ("method", "films", "seeds (n = 2, sd ", "0, 1", "own intervals (n = 1,000): "):
        assert part in shown


def test_keys_alone_reach_switches_choices_tables_and_their_order(open_page):
    page = open_page(1400)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.tagName"))
        if page.evaluate("document.activeElement.dataset.method") == "LoRA":
            page.keyboard.press("Enter")
            assert page.get_attribute("#methods button[data-method=LoRA]", "aria-pressed") == "false"
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", "what has the focus is seen"
            break
    assert {"SELECT", "SUMMARY", "A", "BUTTON"} <= seen


CONTRASTS = """() => {
  const parse = (c) => {  // rgb(…), or color(srgb …) with channels up to 1
    const m = c.match(/[\\d.]+/g).map(Number), unit = c.startsWith('color(srgb') ? 255 : 1;
    return [...m.slice(0, 3).map(v => unit * v), m[3] ?? 1];
  };
  const linear = (v) => v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const luminance = (c) => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3] > 0) return c;
    }
    return [255, 255, 255, 1];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement, text = node.data.trim();
    if (!text || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(e.tagName) || !e.getClientRects().length) continue;
    if (e.closest('[aria-label*="Heat map"]') || e.closest('.skip')) continue;  // its cells have a test of their own
    const style = getComputedStyle(e);
    const color = parse(e instanceof SVGElement ? style.fill : style.color);
    const behind = ground(e.closest('svg')?.parentElement || e);
    const [a, b] = [luminance(color), luminance(behind)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(open_page, scheme):
    page = open_page(1400, scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 30)"}[scheme]
    page.click("#methods button[data-method=LoRA]")  # a switch that is off is text, too
    assert page.evaluate(CONTRASTS) == []


def test_on_paper_the_page_is_white_and_without_controls(open_page):
    page = open_page(1400, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#methods").is_visible()
    assert not page.locator("#figure-answer select").first.is_visible()
    assert all(page.locator(f"#figure-{s} .plot svg").is_visible() for s in SECTIONS)


def column(page, table, nth):
    return page.locator(f"#{table} [data-table={table}] tbody tr td:nth-child({nth})").all_inner_texts()


def test_tables_sort_by_number_both_ways_and_filter(open_page):
    page = open_page(1400)
    head = page.locator("[data-table=task_table] th").nth(2).locator("button")
    for down in (False, True):
        head.click()
        shown = [int(x.replace(",", "")) for x in column(page, "task_table", 3)]
        assert shown == sorted(shown, reverse=down)
    page.fill("#task_table input[type=search]", "lora")
    assert set(column(page, "task_table", 2)) == {"LoRA"}


def test_long_tables_come_in_pages(open_page):
    page = open_page(400)
    page.click("#runs summary")
    page.wait_for_selector("#runs tbody tr")  # rows are made when the table opens
    assert len(column(page, "runs", 1)) == 50
    first = column(page, "runs", 1)[0]
    page.click("#runs .pages button:has-text('next')")
    assert column(page, "runs", 1)[0] != first
    assert "51–100 of" in page.inner_text("#runs .pages")


def test_failures_and_settings_are_there(open_page):
    page = open_page(400)
    assert "diverged: loss is not finite at step 7" in page.inner_text("#failed")
    assert "seeds: 2" in page.inner_text("#settings")


@pytest.mark.slow
def test_seven_hundred_runs_fit_two_megabytes(tmp_path, monkeypatch):
    names = ["b1", "b2", "b3", "b4"]
    import synthetic_results

    monkeypatch.setattr(synthetic_results, "SIZES", {n: 10 ** (5 + i) for i, n in enumerate(names)})
    monkeypatch.setattr(synthetic_results, "GAPS", dict.fromkeys(names, 0.03))
    monkeypatch.setattr("apet.reporting.study._print_figures", lambda *_: [])
    runs = study(3, sd=0.01, tasks=[f"task{i}" for i in range(4)], backbones=names, grid=(64, 1_024, 16_384))
    assert len(runs) >= 700
    began = time.process_time()
    report = write_report(tmp_path / "r", runs, curves(runs, lambda _: 15.0), {}, transfer=None)
    assert report.page.stat().st_size < 2e6
    assert time.process_time() - began < 120
