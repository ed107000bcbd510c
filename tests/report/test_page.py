"""The page, in a real Chromium: it loads in silence, tables sort and filter, what an LLM said unfolds as text."""

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from made_runs import answered, make_run

from llmrl.checks import ConfigError
from llmrl.papers import reports
from llmrl.report.page import transcripts, videos
from llmrl.report.page.write import write
from llmrl.report.store.groups import select

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"


def study(outputs: Path) -> Path:
    """A study of two methods, of which one was told hostile things by its LLM; returns its directory."""
    for seed, last in enumerate((900.0, 1100.0, 1000.0)):
        make_run(outputs, seed=seed, returns=(0.0, last))
    llm = [*answered(1, [0.25, 0.75], answer=HOSTILE), *answered(2, None, answer="none")]
    made = make_run(outputs, method="llm_explorer", returns=(0.0, 20.0), llm=llm)
    make_run(outputs, method="llm_explorer", env="classic/pendulum", status="PAUSED", llm=answered(1, [0.5, 0.5]))
    (made / "video").mkdir()
    (made / "video" / "episode-0.mp4").write_bytes(b"\0" * 1000)
    return outputs / "main"


def written(outputs: Path, directory: Path) -> Path:
    return write(select([directory]), outputs / "report.html", title=f"{HOSTILE} & study")


# --- without a browser ------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """All start tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_asks_no_network(tmp_path):
    text = written(tmp_path, study(tmp_path)).read_text()
    for tag, attributes in Elements(text).found:
        if source := attributes.get("src"):
            assert source.startswith("data:"), (tag, source)
        if tag == "a":
            assert not re.match(r"\w+:", attributes["href"] or ""), attributes
        assert tag != "link" or attributes["href"] == "data:,"
    assert "@import" not in text and "url(" not in text


def test_nothing_of_a_run_becomes_an_element(tmp_path):
    tags = [tag for tag, _ in Elements(written(tmp_path, study(tmp_path)).read_text()).found]
    with_llm = 2
    assert tags.count("script") == 1 + with_llm
    assert tags.count("img") == len(("curves", "profile", "bars", "exploration"))


def test_a_summary_row_says_n_and_interval(tmp_path):
    text = written(tmp_path, study(tmp_path)).read_text()
    row = re.search(r"<tr><td class=\"\"><span class=\"setting\">vanilla-dqn</span></td>.*?</tr>", text)[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    # Student's t with two degrees of freedom: 1000 ± 4.3027 · 100 / √3
    cells[0] = re.sub("<.*?>", "", cells[0])
    assert cells[:5] == ["vanilla-dqn", "classic/cart_pole", "3", "1,000.0", "751.6 to 1,248.4"]


def test_an_unfinished_run_counts_in_no_mean(tmp_path):
    make_run(tmp_path, seed=0, returns=(0.0, 5.0))
    make_run(tmp_path, seed=1, returns=(0.0, 50.0), status="INTERRUPTED")
    row = re.search(
        r"<tr><td class=\"\"><span class=\"setting\">vanilla-dqn</span></td>.*?</tr>",
        written(tmp_path, tmp_path).read_text(),
    )[0]
    assert re.findall(r"<td[^>]*>(.*?)</td>", row)[2:5] == ["1 of 2", "5.00", ""]


def test_large_videos_are_linked(tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "MAX_VIDEO_MB", 0.0005)
    text = written(tmp_path, study(tmp_path)).read_text()
    assert "<video" not in text
    assert 'href="main/llm_explorer-dqn/classic-cart_pole/s0-00000001/video/episode-0.mp4"' in text


def test_long_transcripts_are_cut_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(transcripts, "MAX_ROWS", 2)
    monkeypatch.setattr(transcripts, "MAX_TEXT", 10)
    llm = [line for episode in (1, 2, 3) for line in answered(episode, [0.5, 0.5], answer="x" * 15)]
    make_run(tmp_path, method="llm_explorer", llm=llm)
    (record,) = select([tmp_path])
    data = transcripts.llm_data(record)
    assert [call.get("gap", "call") for call in data["calls"]] == [
        "call", "… 4 calls in between are left out; llm.jsonl holds them", "call"]  # fmt: skip
    (details,), _ = transcripts.details_of(record, reports().found)
    assert [one.get("cells", [None])[0] for one in details["rows"]] == [1, None, 3]
    assert "xxxxxxxxxx\n… 5 more characters are in llm.jsonl" in data["texts"]


def test_answers_are_counted_by_model_and_call_a_shared_transcript_once(tmp_path):
    llm = [
        line for episode, vector in ((1, [0.5, 0.5]), (2, None), (3, [1.0, 0.0])) for line in answered(episode, vector)
    ]
    for seed in (0, 1):
        make_run(tmp_path, method="llm_explorer", seed=seed, llm=llm)
    text = written(tmp_path, tmp_path).read_text()
    row = re.search(r"<tr><td class=\"\">scripted</td>(?:(?!</tr>).)*llm_explorer.strategy.*?</tr>", text)[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    assert cells == ["scripted", "classic/cart_pole", "llm_explorer.strategy", "3", "2", "0.67", "0.21 to 0.94",
                     "no_json 1x"]  # fmt: skip


def test_damaged_runs_are_named(tmp_path):
    make_run(tmp_path, seed=0)
    damaged = make_run(tmp_path, seed=1)
    (damaged / "eval.jsonl").write_text("<b>\n")
    text = written(tmp_path, tmp_path).read_text()
    assert f"Left out, damaged: {damaged / 'eval.jsonl'}, line 1: not a JSON object: &#x27;&lt;b&gt;&#x27;" in text
    shutil.rmtree(damaged.parent / "s0-00000001")
    with pytest.raises(ConfigError, match="damaged"):
        written(tmp_path, tmp_path)


def test_the_command(llmrl, tmp_path):
    study(tmp_path / "outputs")
    done = llmrl("report", "outputs/main")
    assert done.code == 0 and (tmp_path / "outputs/main/report.html").exists(), done.err
    assert llmrl("report", "outputs/main", "--out", "here/page.html").code == 0
    assert (tmp_path / "here/page.html").exists()
    assert llmrl("report", "outputs/nothing").code == 2


def test_a_lone_surrogate_in_an_answer_is_survived(tmp_path):
    make_run(tmp_path, method="llm_explorer", llm=answered(1, None, answer=json.loads('"\\ud800"')))
    assert written(tmp_path, tmp_path).exists()


# --- in Chromium ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking",
                 "disable-sync", "disable-component-update", "window-size=1400,1000",
                 f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=Service(driver)) as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("outputs")
    return written(outputs, study(outputs))


@pytest.fixture
def opened(chromium: Any, report: Path) -> Iterator[Any]:
    """The page, loaded afresh; at the end nothing was complained of and no text of a run was executed."""
    chromium.get(report.as_uri())
    yield chromium
    assert [entry for entry in chromium.get_log("browser") if entry["level"] != "INFO"] == []
    assert chromium.execute_script("return window.hacked") is None


def all_of(driver: Any, css: str) -> list[Any]:
    return driver.find_elements("css selector", css)


def built(driver: Any, details: Any, css: str) -> list[Any]:
    """What stands in `details` once it has been unfolded: its contents are built by the toggle event."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 30).until(lambda _: all_of(details, css))


def column(driver: Any, number: int) -> list[str]:
    """A column of the summary, of the rows that are shown."""
    cells = all_of(driver, f"#summary-table tbody tr td:nth-child({number})")
    return [cell.text for cell in cells if cell.is_displayed()]


def test_it_loads_without_an_error(opened):
    assert opened.title == f"{HOSTILE} & study"
    assert [h.text for h in all_of(opened, "h2")] == [
        "Summary", "Plots", "Videos", "Runs", "LLM: cost and failures", "LLM: answers by model",
        "LLM: what it read and answered", "Configurations", "Versions and code",
    ]  # fmt: skip
    drawn = opened.execute_script("return [...document.images].map((i) => i.complete && i.naturalWidth > 100)")
    assert drawn and all(drawn)


def test_a_table_sorts_by_number(opened):
    (button,) = all_of(opened, "#summary-table th:nth-child(4) button")
    button.click()
    assert column(opened, 4) == ["20.0", "1,000.0", ""]  # as numbers; what is missing stands last
    button.click()
    assert column(opened, 4) == ["1,000.0", "20.0", ""]
    assert all_of(opened, "#summary-table th:nth-child(4)")[0].get_attribute("aria-sort") == "descending"


def test_a_table_sorts_from_the_keyboard(opened):
    (button,) = all_of(opened, "#summary-table th:nth-child(2) button")
    button.send_keys("\n")
    assert column(opened, 2) == ["classic/cart_pole", "classic/cart_pole", "classic/pendulum"]
    button.send_keys(" ")
    assert column(opened, 2) == ["classic/pendulum", "classic/cart_pole", "classic/cart_pole"]


def test_a_table_filters(opened):
    (box,) = all_of(opened, "#summary-table-filter")
    box.send_keys("LLM_explorer pendulum")
    assert column(opened, 2) == ["classic/pendulum"]
    assert all_of(opened, "[data-table=summary-table] output")[0].text == "1 of 3 rows"
    box.clear()
    box.send_keys("nowhere")
    assert column(opened, 2) == []


def test_a_transcript_unfolds_and_an_answer_stays_text(opened):
    details = all_of(opened, "details[data-build=transcript]")[0]
    assert all_of(details, "details") == []  # built when someone looks
    details.find_element("css selector", "summary").send_keys("\n")
    calls = built(opened, details, "details.call")
    assert [call.text.split(" · ")[:2] for call in calls[:2]] == [
        ["llm_explorer.status", "1/0"], ["llm_explorer.strategy", "1/0"]]  # fmt: skip
    calls[1].find_element("css selector", "summary").click()
    assert built(opened, calls[1], "pre.answer")[0].text == HOSTILE
    assert all_of(calls[1], "img, script") == []
    assert "accepted distribution: [0.25, 0.75]" in calls[1].text


def test_the_case_study_says_what_was_read_answered_and_used(opened):
    details = all_of(opened, "details[data-build^=details]")[0]
    details.find_element("css selector", "summary").click()
    rows = [[cell.text for cell in all_of(row, "td")] for row in built(opened, details, "tbody tr")]
    assert rows[0][:6] == ["1", "10", "1", "return 1", "described 1", HOSTILE]
    assert rows[0][6].split("\n") == ["0 left", "0.2500", "1 right", "0.7500"]
    assert rows[1][5:] == ["none\nnot usable: no_json: x", "no usable answer"]


def test_it_follows_dark_and_light(opened):
    def background(scheme: str) -> str:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        return opened.execute_script("return getComputedStyle(document.body).backgroundColor")

    assert background("light") == "rgb(255, 255, 255)"
    assert background("dark") == "rgb(20, 24, 29)"
