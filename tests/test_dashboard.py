"""A dashboard shows a study as it runs, on this machine alone, and lets the reader stand where they are."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request

import pytest

from apet import ApetError
from apet.commands.dashboard import Dashboard, server, status
from apet.studies.held_store import open_store
from apet.studies.results import Study
from apet.studies.tables import StudyTables
from stored_parts import DESIGN, write_part

CHROMIUM = shutil.which("chromium")
ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture
def folder(tmp_path):
    return write_part(tmp_path / "small", "small", 1_000_000, seeds=[0])


@pytest.fixture
def address(folder, monkeypatch):
    monkeypatch.setattr("apet.commands.dashboard.REST", 0)
    dashboard = Dashboard([folder])
    with server(dashboard) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return answer.read().decode()


def test_it_answers_with_the_reports_page_and_how_the_study_stands(address):
    page = get(address)
    assert "<h1>planted</h1>" in page
    assert "3 of 12 runs; about 10 minutes left" not in page, "three ends a minute apart"
    state = json.loads(get(f"{address}/state"))
    assert state["status"] == "3 of 12 runs; about 9 minutes left while it runs."
    assert f'data-version="{state["version"]}"' in page


def test_a_run_that_ends_is_a_new_version(address, folder):
    before = json.loads(get(f"{address}/state"))
    write_part(folder, "small", 1_000_000, seeds=[1])
    after = json.loads(get(f"{address}/state"))
    assert after["version"] != before["version"]
    assert after["status"].startswith("6 of 12 runs; ")


def test_no_file_is_written(address, folder):
    before = sorted(folder.rglob("*"))
    get(address)
    assert sorted(folder.rglob("*")) == before


def test_a_study_without_a_finished_run_has_a_page_that_says_so(tmp_path):
    with open_store(tmp_path) as store:
        store.describe("planted", definition=DESIGN, planned=12)
    assert "No run has ended yet." in Dashboard([tmp_path]).page()


def test_a_name_of_elsewhere_that_leads_here_reads_nothing(address):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(address, Host="example.org")
    assert refused.value.code == 403
    port = address.rpartition(":")[2]
    assert "planted" in get(address, Host=f"localhost:{port}")


@pytest.mark.parametrize("path", ["/study.sqlite", "/../study.sqlite", "/runs"])
def test_no_other_file_is_served(address, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(address + path)
    assert refused.value.code == 404


def test_no_study_and_a_taken_port_are_one_line(tmp_path, address, folder):
    with pytest.raises(ApetError, match="neither a study nor a finished run"):
        Dashboard([tmp_path / "nowhere"])
    port = int(address.rpartition(":")[2])
    with pytest.raises(ApetError, match=f"port {port} cannot be opened"):
        server(Dashboard([folder]), port)


def test_time_left_needs_runs_that_are_left_and_three_that_ended(tmp_path, folder):
    tables = StudyTables.of(Study(folder))
    few = StudyTables.of(Study(folder))
    few.runs.loc[few.runs.index[0], "state"] = "failed"
    assert status(few).endswith("runs.")
    tables.facts["planned"] = 3  # type: ignore[index]
    assert status(tables) == "3 of 3 runs."


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
def test_a_reader_sees_new_runs_and_keeps_what_was_chosen(address, folder, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as p:
        context = p.chromium.launch_persistent_context(str(tmp_path / "profile"), executable_path=CHROMIUM, args=ARGS)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda m: said.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("request", lambda r: asked.append(r.url))
        page.goto(address)
        page.wait_for_selector("html[data-drawn]")
        assert "3 of 12 runs" in page.locator("#live").inner_text()
        page.locator("#methods button", has_text="BitFit").click()
        page.evaluate("scrollTo(0, 400)")
        write_part(folder, "small", 1_000_000, seeds=[1])
        page.locator("#live", has_text="6 of 12 runs").wait_for()
        page.wait_for_selector("html[data-drawn]")
        page.wait_for_selector("#methods button[aria-pressed=false]")
        assert page.locator("#methods button[aria-pressed=false]").all_inner_texts() == ["BitFit"]
        for _ in range(600):  # frames
            if page.evaluate("new Promise(requestAnimationFrame).then(() => scrollY)") == 400:
                break
        assert page.evaluate("scrollY") == 400
        assert said == []
        assert {url.partition("/state")[0].rstrip("/") for url in asked if not url.startswith("data:")} == {address}
        context.close()
