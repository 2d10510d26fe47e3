"""The page at / in a real browser, against the running service."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import ENVIRONMENT, Workspace
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, Request, Route, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
ASKING = "**/v1/predict/image*"
WORDS = {"mean": "mean probability", "vote": "of the votes"}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium")


def picture(seed: int = 0, name: str = "digit.png") -> FilePayload:
    """A PNG of 8 × 8 random grey pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


BROKEN: FilePayload = {"name": "broken.png", "mimeType": "image/png", "buffer": picture()["buffer"][:40]}


def asked(service: str, file: FilePayload, mode: str) -> dict[str, Any]:
    """What the API answers about the same file."""
    files = {"images": (file["name"], file["buffer"], file["mimeType"])}
    answer = httpx.post(f"{service}/v1/predict/image", params={"mode": mode}, files=files, timeout=30)
    assert answer.status_code == 200, answer.text
    return {**answer.json(), **answer.json()["predictions"][0]}


@contextmanager
def running(workspace: Workspace, folder: Path, **environment: str) -> Iterator[str]:
    """The service on ``workspace``'s models, as a process of its own; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"SISA_SERVE_STATE": str(folder), "BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "serving.service:Sisa",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=workspace.folder,
            env={**ENVIRONMENT, **settings, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            with suppress(httpx.TransportError):  # not listening yet
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            time.sleep(0.1)
        else:
            raise AssertionError(f"not ready within a minute\n{log.read_text()}")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def service(trained_base: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(trained_base, tmp_path_factory.mktemp("service")) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, service: str) -> Iterator[Page]:
    """The page, once it knows the ensemble."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(service)
        expect(page.locator("#facts")).to_be_visible()
        yield page


def card(page: Page, name: str = "digit.png") -> Locator:
    return page.locator(".card", has_text=name)


def test_a_picture_is_answered_as_the_api_answers_it(page: Page, service: str) -> None:
    page.set_input_files("#files", [picture()])
    expect(card(page).get_by_role("heading", level=2)).to_be_visible()
    mode = page.locator("[name=mode]:checked").input_value()
    answer = asked(service, picture(), mode)
    assert card(page).get_by_role("heading", level=2).inner_text() == answer["class"]
    assert f"{100 * answer['confidence']:.1f}% {WORDS[mode]}" in card(page).inner_text()
    assert f"generation {answer['generation']} " in card(page).inner_text()
    highest = sorted(answer["probabilities"], reverse=True)[:5]
    shares = card(page).locator(".bars > ul .share").all_inner_texts()
    assert [float(share.rstrip("%")) for share in shares] == pytest.approx([100 * value for value in highest], abs=0.06)


def test_the_vote_has_one_cell_for_each_shard_under_its_class(page: Page, service: str) -> None:
    ensemble = httpx.get(f"{service}/v1/ensemble").json()
    page.set_input_files("#files", [picture()])
    expect(card(page).locator(".votes")).to_be_visible()
    groups = card(page).locator(".votes > li")
    shown = {group.locator("b").inner_text(): group.locator("i").count() for group in groups.all()}
    votes = asked(service, picture(), "vote")["votes"]
    assert shown == {name: number for name, number in zip(ensemble["classes"], votes, strict=True) if number}
    assert sum(shown.values()) == sum(not shard["abstains"] for shard in ensemble["shards"])


def test_the_header_is_the_ensembles(page: Page, service: str) -> None:
    ensemble = httpx.get(f"{service}/v1/ensemble").json()
    names, values = (page.locator(f"#facts {tag}").all_inner_texts() for tag in ("dt", "dd"))
    facts = dict(zip(names, values, strict=True))
    assert facts["Generation"].strip() == str(ensemble["generation"])
    assert facts["Samples retained"].strip() == f"{sum(shard['retained'] for shard in ensemble['shards']):,}"
    assert facts["Shards"].split()[0] == str(len(ensemble["shards"]))


def test_a_file_that_is_no_picture_is_named_and_the_others_are_answered(page: Page) -> None:
    text: FilePayload = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    page.set_input_files("#files", [picture(1, "first.png"), BROKEN, text, picture(2, "last.png")])
    expect(card(page, "broken.png").get_by_role("alert")).to_contain_text("broken.png: ")
    expect(card(page, "notes.txt").get_by_role("alert")).to_contain_text("not a PNG, JPEG or WEBP picture")
    for name in ("first.png", "last.png"):
        expect(card(page, name).get_by_role("heading", level=2)).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("2 pictures answered, 2 refused")


def test_the_other_way_to_answer_asks_again_for_every_picture(page: Page, service: str) -> None:
    page.set_input_files("#files", [picture(0, "a.png"), picture(1, "b.png")])
    page.set_input_files("#files", [picture(2, "c.png")])
    for mode, words in (("vote", "majority vote"), ("mean", "mean probability")):
        page.locator("#modes").get_by_text(words).click()
        for seed, name in enumerate(("a.png", "b.png", "c.png")):
            expect(card(page, name).locator("figcaption")).to_contain_text(WORDS[mode])
            expected = asked(service, picture(seed), mode)["class"]
            assert card(page, name).get_by_role("heading", level=2).inner_text() == expected


def answer_with(page: Page, **fields: Any) -> None:
    """Every question after this one gets an answer with these fields."""

    def changed(route: Route) -> None:
        answer = route.fetch().json()
        answer["predictions"] = [{**prediction, **fields} for prediction in answer["predictions"]]
        route.fulfill(json=answer)

    page.route(ASKING, changed)


@pytest.mark.parametrize(
    ("votes", "certified", "words"),
    [
        ([5, 0], 2, "Certified margin 2: the vote would stay even if any 2 of the 5 shards' models were replaced,"),
        ([4, 1], 1, "Certified margin 1: the vote would stay even if any one of the 5 shards' models were replaced,"),
        ([3, 2], 0, "No certified margin: the vote might change if one of the 5 shards' models were replaced."),
    ],
)
def test_the_margin_is_put_in_words(page: Page, votes: list[int], certified: int, words: str) -> None:
    answer_with(page, label=0, votes=votes + [0] * 8, certified=certified)
    page.set_input_files("#files", [picture()])
    expect(card(page)).to_contain_text(words)


def test_a_margin_beside_a_mean_that_differs_from_the_vote_says_whose_it_is(page: Page, service: str) -> None:
    name = httpx.get(f"{service}/v1/ensemble").json()["classes"][1]
    answer_with(page, label=0, votes=[1, 4] + [0] * 8, certified=1)
    page.set_input_files("#files", [picture()])
    expect(card(page)).to_contain_text(f"the vote, which is for {name}, would stay")


def test_more_pictures_than_the_service_takes_are_not_sent(page: Page, service: str) -> None:
    most = httpx.get(f"{service}/v1/ensemble").json()["limits"]["max_images"]
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    page.set_input_files("#files", [picture(seed) for seed in range(most + 1)])
    expect(page.locator("#problem")).to_contain_text(f"These are {most + 1} pictures; the service takes {most} at once")
    assert page.locator(".card").count() == 0
    page.set_input_files("#files", [picture()])
    expect(page.get_by_role("status")).to_contain_text("digit.png: ")
    assert len(sent) == 1
    expect(page.locator("#problem")).to_be_hidden()


def test_pictures_that_are_too_large_only_together_are_all_answered(page: Page, service: str) -> None:
    side = int((0.4 * httpx.get(f"{service}/v1/ensemble").json()["limits"]["max_pixels"]) ** 0.5)
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    files = [picture(name=name) for name in ("a.png", "b.png", "c.png")]
    for each in files:
        each["buffer"] = file.getvalue()
    page.set_input_files("#files", files)
    expect(page.get_by_role("status")).to_have_text("3 pictures answered", timeout=30_000)


def test_a_busy_service_is_asked_again_when_the_reader_says_so(page: Page) -> None:
    busy = {"error": "the service is busy", "field": None, "expected": "at most 128 requests at once", "found": 129}
    page.route(ASKING, lambda route: route.fulfill(status=429, headers={"Retry-After": "3"}, json=busy), times=1)
    page.set_input_files("#files", [picture()])
    expect(page.locator("#problem p")).to_have_text(
        "The service is busy. Expected at most 128 requests at once, found 129. Try again in 3 seconds."
    )
    expect(card(page)).to_contain_text("No answer")
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_role("status")).to_contain_text("digit.png: ")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_broken_connection_and_a_proxys_page_are_told_in_words(page: Page) -> None:
    page.route(ASKING, lambda route: route.abort(), times=1)
    page.set_input_files("#files", [picture()])
    expect(page.locator("#problem")).to_contain_text("did not answer: the connection failed or was cut off")
    page.route(ASKING, lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"), times=1)
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("#problem")).to_contain_text("The service answered 502")


def test_a_token_is_asked_for_and_kept_for_the_tab_only(
    browser: Browser, trained_base: Workspace, tmp_path: Path
) -> None:
    token = "0123456789abcdef"
    with running(trained_base, tmp_path, SISA_API_TOKEN=token) as url, browser.new_context() as context:
        page = context.new_page()
        page.goto(url)
        expect(page.locator("#access")).to_contain_text("The service asks for an access token")
        for attempt in ("wrong", token):
            page.get_by_label("Access token").fill(attempt)
            page.keyboard.press("Enter")
            if attempt == "wrong":
                expect(page.locator("#access")).to_contain_text("does not accept this token")
        expect(page.locator("#facts")).to_be_visible()
        expect(page.locator("#access")).to_be_hidden()
        page.set_input_files("#files", [picture()])
        expect(page.get_by_role("status")).to_contain_text("digit.png: ")
        assert page.evaluate("Object.values(sessionStorage)") == [token]
        assert page.evaluate("localStorage.length") == 0
        assert context.cookies() == []
        assert token not in page.url


@pytest.mark.parametrize("status", [200, 404])
def test_the_report_is_linked_only_where_there_is_one(page: Page, status: int) -> None:
    page.route("**/report", lambda route: route.fulfill(status=status))
    with page.expect_response("**/report"):
        page.reload()
    expect(page.get_by_role("link", name="Report")).to_have_count(1 if status == 200 else 0)


def test_names_and_messages_are_text_never_markup(page: Page) -> None:
    trap = "<img src=x onerror=document.title='caught'>"
    page.route(ASKING, lambda route: route.fulfill(status=422, json={"error": trap, "field": "images[0]"}))
    page.set_input_files("#files", [picture(name=f"{trap}.png")])
    expect(page.locator(".card").get_by_role("alert")).to_have_text(f"{trap}.png: {trap}.")
    assert page.title() == "SISA ensemble"


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_pictures_can_be_dropped_and_pasted(page: Page, event: str) -> None:
    page.evaluate(
        """([event, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], 'given.png', {type: 'image/png'}));
            const options = {bubbles: true, cancelable: true};
            document.body.dispatchEvent(event === 'drop'
                ? new DragEvent('drop', {...options, dataTransfer: transfer})
                : new ClipboardEvent('paste', {...options, clipboardData: transfer}));
        }""",
        [event, list(picture()["buffer"])],
    )
    expect(page.get_by_role("status")).to_contain_text("given.png: ")


def test_the_page_is_worked_by_the_keyboard_alone(page: Page) -> None:
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Tab")
        expect(page.locator("#files")).to_be_focused()
        page.keyboard.press("Enter")
    chooser.value.set_files([picture()])
    expect(page.get_by_role("status")).to_contain_text("digit.png: ")
    first = page.locator("[name=mode]:checked").input_value()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(card(page).locator("figcaption")).to_contain_text(WORDS["vote" if first == "mean" else "mean"])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # Clear
    assert page.locator(".card").count() == 0


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_wider_than_a_small_screen(page: Page, service: str) -> None:
    places: set[str] = set()
    page.on("request", lambda request: places.add(request.url))
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "Policy" in message.text else None)
    page.set_viewport_size({"width": 400, "height": 800})
    page.reload()
    page.set_input_files("#files", [picture(name=f"{'long' * 30}.png")])
    expect(page.locator(".card .votes")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.goto(f"{service}/docs")
    expect(page.locator(".opblock", has_text="/v1/predict/image")).to_be_visible()
    assert {place for place in places if not place.startswith((service, "blob:", "data:"))} == set()
    assert complaints == []


# WCAG 2.2: 1.4.3 (text, 4.5:1) and 1.4.11 (controls and graphics, 3:1), as the browser computed the colours.
CONTRASTS = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
    const rgba = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = colour => {
        const [r, g, b] = rgba(colour).slice(0, 3).map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = element => {
        const colour = getComputedStyle(element).backgroundColor;
        return rgba(colour)[3] === 255 || !element.parentElement ? colour : ground(element.parentElement);
    };
    const ratio = (one, other) => {
        const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const found = [];
    for (const element of document.body.querySelectorAll('*')) {
        const style = getComputedStyle(element);
        const name = `${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 30)}`;
        if (!element.checkVisibility() || element.tagName === 'SCRIPT') continue;
        if ([...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()))
            found.push([name, ratio(style.color, ground(element)), 4.5]);
        if (element.tagName === 'I') found.push([name, ratio(style.backgroundColor, ground(element.parentElement)), 3]);
        if (element.matches('.drop, button, .modes label, input[type=password]'))
            found.push([name, ratio(style.borderTopColor, ground(element.parentElement)), 3]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_stands_out_from_its_ground(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_input_files("#files", [picture(), BROKEN])
    expect(card(page).locator(".votes")).to_be_visible()
    for summary in page.locator("summary").all():
        summary.click()
    page.evaluate("document.querySelectorAll('[hidden]').forEach(element => { element.hidden = false; })")
    found: list[tuple[str, float, float]] = page.evaluate(CONTRASTS)
    assert len(found) > 60
    assert [entry for entry in found if entry[1] < entry[2]] == []
