"""The live page: what it reads and refuses over real HTTP, and how it looks and grows in a real Chromium."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from made_runs import answered, lines, make_run
from test_page import HOSTILE, all_of, chromium  # noqa: F401 (the fixture)

from llmrl.papers import asked, reports
from llmrl.report.store.reading import read_run
from llmrl.report.view.curves import MOST, thinned
from llmrl.report.view.listing import Listing
from llmrl.report.view.programs import compared
from llmrl.runs.files import read_json, write_json

pytest.importorskip("aiohttp")
HOPPER = "main/vanilla-dqn/mujoco-hopper/s0-00000001"
ASKED = "main/llm_explorer-dqn/classic-cart_pole/s0-00000001"
SEARCH = "artifacts/lesr/0a1b2c3d"
PROGRAM = """```python
import numpy as np
def revise_state(s):
    return np.concatenate([s, [s[0] + {}]])
def intrinsic_reward(s):
    return s[-1]
```"""


class Served:
    """A server of the page in a thread of its own, and requests to it."""

    def __init__(self, outputs: Path, host: str = "127.0.0.1", ask: bool = False) -> None:
        from aiohttp import web

        from llmrl.report.view.guard import Guard
        from llmrl.report.view.server import Server

        self.guard, self._loop = Guard.made_for(host, ask), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def start() -> web.AppRunner:
            app = Server(outputs.resolve(), outputs.resolve()).application(self.guard)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner

        self._runner = asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        """(status, headers, text)"""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, headers={"Host": f"127.0.0.1:{self.port}"} | headers)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read().decode()
        connection.close()
        return found

    def get(self, name: str, **params: Any) -> dict[str, Any]:
        status, _, text = self.ask(f"/api/{name}?{urlencode(params)}")
        assert status == 200, text
        return json.loads(text)


def search(outputs: Path) -> Path:
    """A LESR search of two iterations, of which the second is not trained yet."""
    made = make_run(outputs, method="lesr_search", agent="td3", study="x", status="INTERRUPTED")
    path = outputs / SEARCH
    path.parent.mkdir(parents=True)
    made.rename(path)
    call = {"kind": "call", "purpose": "lesr.sample", "model": "m", "served_model": "m", "prompt_tokens": 7,
            "completion_tokens": 5, "usd": 0.5, "messages": [{"role": "user", "content": "write"}]}  # fmt: skip

    def event(index: str, name: str, **facts: Any) -> dict:
        return {"kind": "event", "purpose": "lesr.sample", "index": index, "event": name} | facts

    rows = [
        {**call, "index": i, "answer": PROGRAM.format(n)} for n, i in enumerate(("0/0/0", "0/1/0", "1/0/0", "1/1/0"))
    ]
    rows += [event(i, "accepted", features=1) for i in ("0/0/0", "0/1/0", "1/0/0")]
    rows += [event("0/0/0", "trained", failed="", score=-5.0), event("0/1/0", "trained", failed="", score=-2.0)]
    rows += [event("1/1/0", "rejected", reason="raised", detail="ValueError: no")]
    (path / "llm.jsonl").write_text(lines(rows))
    (path / "candidates" / "0-1").mkdir(parents=True)
    write_json(path / "candidates" / "0-1" / "config.json", {"choices": {}})
    return path


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand runs: one grows, one asks, one is a search, the others are there."""
    outputs = tmp_path_factory.mktemp("outputs")
    make_run(outputs, env="mujoco/hopper", status="INTERRUPTED", returns=(0.0, 10.0))
    llm = [*answered(1, [0.25, 0.75], answer=HOSTILE), *answered(2, None, answer="nothing of use")]
    make_run(outputs, method="llm_explorer", llm=llm)
    search(outputs)
    for seed in range(997):
        make_few(outputs, seed)
    return outputs


def make_few(outputs: Path, seed: int) -> None:
    """A run with what the list needs, in less than a millisecond."""
    path = outputs / "many" / "vanilla-td3" / "mujoco-ant" / f"s{seed}-00000001"
    path.mkdir(parents=True)
    names = {"method": "vanilla", "agent": "td3", "env": "mujoco/ant"}
    status = {"status": "INTERRUPTED" if seed % 10 else "PAUSED", "env_steps": seed, "target_env_steps": 1000}
    files = {"config": {"choices": names}, "identity": {}, "versions": {"starts": []}, "status": status}
    for name, value in files.items():
        (path / f"{name}.json").write_text(json.dumps(value))


@pytest.fixture(scope="module")
def served(outputs: Path) -> Iterator[Served]:
    with Served(outputs) as one:
        yield one


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", f"/api/run?run={HOPPER}", "/events"])
def test_nothing_but_reading_is_allowed(served, method, path):
    assert served.ask(path, method)[0] == 405


NO_RUNS = ("../outputs", "main/../many", "/etc", "main//x", ".index", "", "main", "a\0b", "x" * 5000, "..\\x",
           "main/vanilla-dqn/mujoco-hopper/..%2fs0-00000001")  # fmt: skip


@pytest.mark.parametrize("run", NO_RUNS)
@pytest.mark.parametrize("name", ["run", "calls", "programs", "compare"])
def test_only_runs_below_the_directory_are_read(served, run, name):
    status, _, text = served.ask(f"/api/{name}?{urlencode({'run': run})}")
    assert status == 404 and json.loads(text)["error"].startswith("there is no run")


@pytest.mark.parametrize(
    "path", ["/static/..%2f..%2fguard.py", "/static/../server.py", "/../../etc/passwd", "/static/"]
)
def test_only_the_pages_own_files_are_served(served, path):
    assert served.ask(path)[0] == 404


def test_links_that_lead_out_are_not_followed(tmp_path):
    secret = make_run(tmp_path / "elsewhere", llm=answered(1, [1.0, 0.0], answer="secret"))
    (secret / "eval.jsonl").write_text("a secret line\n")
    outputs = tmp_path / "outputs"
    run = make_run(outputs, method="llm_explorer", status="PAUSED")
    os.symlink(secret / "llm.jsonl", run / "llm.jsonl")
    other = make_run(outputs, seed=1)
    (other / "eval.jsonl").unlink()
    os.symlink(secret / "eval.jsonl", other / "eval.jsonl")
    os.symlink(secret, outputs / "main" / "linked")
    os.symlink(tmp_path / "elsewhere" / "main", outputs / "study")
    with Served(outputs) as served:
        for path in (
            run,
            other,
            outputs / "main" / "linked",
            outputs / "study" / secret.relative_to(secret.parents[2]),
        ):
            name = str(path.relative_to(outputs))
            for call in ("run", "calls", "compare"):
                status, _, text = served.ask(f"/api/{call}?{urlencode({'run': name})}")
                assert status == 404 and "secret" not in text
    listing = Listing(outputs.resolve(), outputs.resolve())
    listing.look()
    rows = listing.since(0)["rows"]
    assert [row["status"] for row in rows] == ["DAMAGED", "DAMAGED"]
    assert "secret line" not in json.dumps(rows) and all("lead out of" in row["reason"] for row in rows)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "10.0.0.1", ""])
def test_names_that_were_made_to_lead_here_are_refused(served, host):
    assert served.ask("/", Host=host)[0] in (400, 421)
    assert served.ask("/", Host=f"localhost:{served.port}")[0] == 200


def test_elsewhere_than_on_loopback_a_token_is_asked_for(outputs):
    with Served(outputs, host="0.0.0.0") as served:
        token = served.guard.token
        assert len(token) >= 32  # 192 bits, as letters
        for path in (
            "/",
            "/events",
            f"/api/run?run={HOPPER}",
            "/static/view.js",
            "/?token=",
            "/?token=%ff",
            f"/?token={token}x",
        ):
            status, headers, text = served.ask(path)
            assert status == 401 and "Set-Cookie" not in headers and token not in text
        status, headers, _ = served.ask(f"/?token={token}")
        assert status == 302 and headers["Location"] == "./" and "HttpOnly" in headers["Set-Cookie"]
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert served.ask("/", Cookie=cookie)[0] == 200
        assert served.ask("/", Cookie=cookie[:-1])[0] == 401
        assert served.ask("/", Cookie=cookie, Host="evil.example")[0] == 421
        assert (
            served.ask("/", Cookie=cookie, Host="192.0.2.7:8765")[0] == 200
        )  # an address in numbers is no other's name


def test_every_answer_forbids_other_hosts_scripts(served):
    for path in ("/", "/static/view.js", f"/api/run?run={HOPPER}", "/nothing"):
        _, headers, _ = served.ask(path)
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'"), path
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert not any(name.lower().startswith("access-control") for name in headers)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_whatever_the_files_of_a_run_hold_the_others_are_listed(tmp_path):
    make_run(tmp_path)
    spoilt: dict[str, list[Any]] = {
        "config.json": [[], {"choices": []}, {"choices": {"env": 3}}],
        "status.json": [
            {"status": "DONE", "env_steps": "x"},
            {"status": 3},
            [],
            {"status": "PAUSED", "env_steps": None},
        ],
        "versions.json": [{"starts": 3}, {"starts": [3]}, {"starts": [{"code": 1}]}],
        "eval.jsonl": [[1], {"policy": "greedy"}],
        "result.json": [{"llm": {}}, {"llm": 3}],
        "llm.jsonl": [{"kind": "call"}],
        "artifact.json": [[], {"path": 3}],
    }
    number = 0
    for name, values in spoilt.items():
        for value in (*values, None):
            number += 1
            status = "PAUSED" if name == "llm.jsonl" else "DONE"
            path = make_run(tmp_path, seed=number, status=status, llm=answered(1, [0.5, 0.5]))
            (path / name).write_text('{"torn' if value is None else json.dumps(value) + "\n")
    listing = Listing(tmp_path.resolve(), tmp_path.resolve())
    assert listing.look() and listing.problem == "" and len(listing.rows) == number + 1
    assert sum(row["status"] == "DONE" for _, row in listing.rows.values()) >= 1
    with Served(tmp_path) as served:
        for path in listing.rows:
            for call in ("run", "calls", "programs", "compare"):
                status, _, text = served.ask(f"/api/{call}?{urlencode({'run': path})}")
                assert status in (200, 409) and json.loads(text)


def test_a_row_says_what_tells_its_run_from_others_of_its_kind(tmp_path):
    """Beside the seed; the method's settings come before others, and keys that only some have are not named."""
    runs = [make_run(tmp_path, seed=seed, k=k) for k, seed in ((4, 0), (4, 1), (8, 0))]
    asked = read_json(runs[2] / "identity.json") | {"llm": {"model": "a"}, "budget": {"env_steps": 9}}
    write_json(runs[2] / "identity.json", asked)
    listing = Listing(tmp_path.resolve(), tmp_path.resolve())

    def told():
        listing.look()
        return {path: row["differs"] for path, (_, row) in listing.rows.items()}

    names = [str(run.relative_to(tmp_path)) for run in runs]
    assert told() == dict(zip(names, ["method.k=4", "method.k=4", "method.k=8"]))
    other = make_run(tmp_path, seed=2, k=8)
    few = {"budget": {"env_steps": 7, "paper": "x" * 60}, "eval": {"sets": 1}, "agent": {"gamma": 0.9}}
    write_json(other / "identity.json", asked | few)
    assert told()[str(other.relative_to(tmp_path))] == "agent.gamma=0.9 · method.k=8 · budget.env_steps=7"


def test_only_what_changed_is_told(tmp_path):
    run = make_run(tmp_path, status="INTERRUPTED")
    make_run(tmp_path, seed=1)
    listing = Listing(tmp_path.resolve(), tmp_path.resolve())
    assert listing.look() and len(listing.since(0)["rows"]) == 2
    assert not listing.look()
    version = listing.version
    write_json(run / "status.json", {"status": "INTERRUPTED", "env_steps": 900, "target_env_steps": 1000})
    assert listing.look()
    (row,) = listing.since(version)["rows"]
    assert (row["steps"], row["target"], row["status"]) == (900, 1000, "INTERRUPTED")
    version = listing.version
    run.rename(tmp_path / ".gone")
    assert listing.look() and listing.since(version)["gone"] == [row["path"]] and listing.since(0)["gone"] == []


def test_a_study_alone_is_listed_as_in_all_outputs(tmp_path):
    make_run(tmp_path, study="a/b")
    make_run(tmp_path, study="c")
    search(tmp_path)
    from llmrl.report.view.places import outputs_above

    root = (tmp_path / "a").resolve()
    assert outputs_above(root) == tmp_path.resolve()
    listing = Listing(tmp_path.resolve(), root)
    listing.look()
    assert [row["study"] for row in listing.since(0)["rows"]] == ["a/b"]
    assert not (root / ".index").exists()


def test_many_points_are_averaged():
    x, y = thinned(list(range(10 * MOST + 1)), [1.0] * (10 * MOST) + [float("nan")])
    assert len(x) == len(y) <= MOST and x[-1] == 10 * MOST and y[0] == 1.0 and y[-1] is None


def test_programs_have_their_difference_to_the_best_of_the_iteration_before(outputs):
    search = read_run(outputs / SEARCH, outputs)
    found, problems = asked(reports().found, "programs", lambda report: report.programs(search))
    assert problems == []
    assert [(one.index, one.iteration, one.outcome, one.score) for one in found] == [
        ("0/0/0", 0, "trained", -5.0), ("0/1/0", 0, "trained", -2.0), ("1/0/0", 1, "accepted", None),
        ("1/1/0", 1, "rejected", None)]  # fmt: skip
    plain = compared(found)
    assert [one["before"] for one in plain] == ["", "", "0/1/0", "0/1/0"]
    assert (
        "-    return np.concatenate([s, [s[0] + 1]])\n+    return np.concatenate([s, [s[0] + 2]])" in plain[2]["diff"]
    )


def test_a_transcript_is_searched_by_purpose_verdict_and_text(served):
    def asked(**by: str) -> list[tuple[str, str]]:
        found = served.get("calls", run=ASKED, **by)
        return [(call["purpose"].partition(".")[2], call["index"]) for call in found["calls"]]

    assert len(asked()) == 4
    assert asked(purpose="llm_explorer.strategy") == [("strategy", "1/0"), ("strategy", "2/0")]
    assert asked(verdict="rejected") == [("strategy", "2/0")]
    assert asked(text="NOTHING use") == [("strategy", "2/0")]
    assert asked(text="analyse", verdict="accepted", purpose="llm_explorer.strategy") == [("strategy", "1/0")]
    one = served.get("call", run=ASKED, number=1)
    assert one["answer"] == HOSTILE and one["after"] == ["accepted distribution: [0.25, 0.75]"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_is_wrong(llmrl, tmp_path):
    done = llmrl("view")
    assert done.code == 2 and "there is no directory outputs" in done.err
    (tmp_path / "outputs").mkdir()
    with Served(tmp_path) as other:
        done = llmrl("view", "--port", str(other.port))
    assert done.code == 2 and f"port {other.port} of 127.0.0.1 is taken" in done.err and "--port 0" in done.err
    for flags, why in (
        (["--port", "70000"], "0 to 65535"),
        (["--host", "192.0.2.1", "--port", "0"], "not possible to listen"),
    ):
        done = llmrl("view", *flags)
        assert done.code == 2 and why in done.err


def test_the_printed_address_works_and_ctrl_c_ends_it(tmp_path):
    import signal
    import subprocess
    import sys
    from urllib.request import urlopen

    make_run(tmp_path / "outputs")
    command = [sys.executable, "-m", "llmrl", "view", "--port", "0", "--token"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        assert "?token=" in address
        with pytest.raises(Exception, match="401"):
            urlopen(address.partition("?")[0])
        from http.cookiejar import CookieJar
        from urllib.request import HTTPCookieProcessor, build_opener

        page = build_opener(HTTPCookieProcessor(CookieJar())).open(address)
        assert page.status == 200 and "token" not in page.url
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


# --- in Chromium ------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(chromium: Any, served: Served) -> Iterator[Any]:  # noqa: F811
    """The page, opened once; at the end nothing was complained of and no text of a run was executed."""
    if not chromium.current_url.startswith(served.url):
        chromium.get(served.url)
    go(chromium, "#/costs")
    go(chromium, "#/")
    wait(chromium, lambda: len(visible(chromium)) == 1000)
    yield chromium
    assert [entry for entry in chromium.get_log("browser") if entry["level"] != "INFO"] == []
    assert chromium.execute_script("return window.hacked") is None


def go(driver: Any, page: str) -> None:
    driver.execute_script("location.hash = arguments[0]", page)


def wait(driver: Any, true: Any) -> Any:
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 120, ignored_exceptions=[StaleElementReferenceException]).until(lambda _: true())


def visible(driver: Any) -> list[str]:
    """The paths of the rows that are shown, in order."""
    rows = "[...document.querySelectorAll('#runs-table tbody tr')]"
    return driver.execute_script(f"return {rows}.filter((r) => !r.hidden).map((r) => r.dataset.path)")


def text(driver: Any, css: str) -> str:
    return " ".join(one.text for one in all_of(driver, css))


def test_a_thousand_runs_are_filtered_and_sorted_from_the_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    opened.find_element("css selector", "body").send_keys("/")  # leads to the filter
    opened.switch_to.active_element.send_keys("dqn HOPPER")
    assert visible(opened) == [HOPPER] and text(opened, ".filter output") == "1 of 1,000 runs"
    opened.switch_to.active_element.send_keys(Keys.CONTROL, "a")
    opened.switch_to.active_element.send_keys(Keys.BACKSPACE)
    chip = next(one for one in all_of(opened, ".chip") if "PAUSED" in one.text)
    assert chip.text == "100 PAUSED"
    chip.send_keys(Keys.ENTER)
    assert len(visible(opened)) == 100
    head = next(one for one in all_of(opened, "#runs-table th button") if one.text.startswith("progress"))
    head.send_keys(Keys.ENTER)
    head.send_keys(Keys.ENTER)
    assert visible(opened)[0] == "many/vanilla-td3/mujoco-ant/s990-00000001"
    opened.refresh()  # the address holds the filter
    wait(opened, lambda: len(visible(opened)) == 100)


def test_a_run_is_seen_growing_without_a_reload(opened, outputs):
    opened.execute_script("window.stays = true")
    link = opened.find_element("css selector", f"tr[data-path='{HOPPER}'] a")
    link.send_keys("\n")
    wait(opened, lambda: "100 of 100" in text(opened, ".facts") or "100" in text(opened, ".facts"))
    drawn = wait(opened, lambda: all_of(opened, ".chart svg[role=img]"))[0].get_attribute("aria-label")
    assert "evaluation return, greedy 10.00 at 100" in drawn
    with open(outputs / HOPPER / "eval.jsonl", "a") as file:
        file.write(lines([{"env_steps": 700, "policy": "greedy", "return_mean": 77.0, "returns": [76.0, 78.0]}]))
    write_json(outputs / HOPPER / "status.json", {"status": "INTERRUPTED", "env_steps": 700, "target_env_steps": 1000})
    wait(opened, lambda: "700 of 1,000" in text(opened, ".facts"))
    chart = all_of(opened, ".chart svg[role=img]")[0]
    wait(opened, lambda: "greedy 77.00 at 700" in chart.get_attribute("aria-label"))
    chart.send_keys("\ue012")  # the left arrow reads the curve from its end
    assert "77.00 at 700" in text(opened, ".reading")
    go(opened, "#/")
    assert "700 of 1,000" in wait(opened, lambda: text(opened, f"tr[data-path='{HOPPER}']"))
    assert opened.execute_script("return window.stays")


def test_a_transcript_is_filtered_and_an_answer_stays_text(opened):
    go(opened, f"#/run?{urlencode({'run': ASKED, 'part': 'transcript'})}")
    wait(opened, lambda: len(all_of(opened, "details.call")) == 4)
    all_of(opened, "input[type=search]")[0].send_keys("hacked")
    wait(opened, lambda: text(opened, ".filter ~ output") == "1 of 4 calls")
    call = all_of(opened, "details.call")[0]
    call.find_element("css selector", "summary").send_keys("\n")
    assert wait(opened, lambda: all_of(call, "pre.answer"))[0].text == HOSTILE
    assert all_of(call, "img, script") == []


def test_a_search_shows_programs_and_differences(opened):
    go(opened, f"#/run?{urlencode({'run': SEARCH, 'part': 'programs'})}")
    programs = wait(opened, lambda: all_of(opened, "details.call"))
    assert [one.text.split("\n")[0] for one in programs] == [
        "0/0/0 trained score -5.00", "0/1/0 trained score -2.00", "1/0/0 accepted", "1/1/0 rejected"]  # fmt: skip
    programs[2].find_element("css selector", "summary").click()
    wait(opened, lambda: all_of(programs[2], ".diff .plus"))
    assert text(programs[2], ".diff .plus") == "+    return np.concatenate([s, [s[0] + 2]])".strip()
    assert "revise_state" in text(programs[2], "pre.code:last-child")


def test_runs_are_compared_in_one_panel_and_costs_added(opened):
    for path in (HOPPER, ASKED):
        opened.find_element("css selector", f"tr[data-path='{path}'] input").send_keys(" ")
    all_of(opened, "a.action")[0].send_keys("\n")
    wait(opened, lambda: len(all_of(opened, ".legend li")) == 2)
    assert len(all_of(opened, ".chart path.curve")) == 2
    assert "choices.env" in text(opened, "#differences")
    go(opened, "#/costs")
    rows = wait(opened, lambda: all_of(opened, "#costs-table tbody tr"))
    assert rows[-1].text.split() == ["artifacts/lesr", "scripted", "1", "4", "28", "20", "2.0000", "0", "1"]


PAGES = ("#/", f"#/run?run={HOPPER}", f"#/run?run={ASKED}&part=transcript", f"#/run?run={SEARCH}&part=programs",
         f"#/compare?run={HOPPER}&run={ASKED}", "#/costs")  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_it_is_readable_at_700_pixels(opened, page):
    sizes = {"width": 700, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    go(opened, page)
    wait(opened, lambda: len(text(opened, "main")) > 60)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 700
    if page == "#/":
        assert opened.execute_script("return document.querySelector('main .scroll').scrollWidth") <= 700
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
