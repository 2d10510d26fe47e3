"""The page at / in a real browser, against the running service."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, Request, expect, sync_playwright
from server import FLAT, GREEN, RED, Bias, Server, encoded, publish, write_manifest
from server import picture as pixels

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
ASKING = "**/v1/predict/image*"

# Three shards see the colour; one leans to red, one finds everything green, one has no samples.
# Red: 4 votes, 1 for green. Green: all 5. Dusk, a blue near black: 3 votes for blue, 1 for red, 1 for
# green, all from the weakly convinced, so that the mean says green.
SHARDS: list[Bias | None] = [FLAT, FLAT, FLAT, (11, 5, 0), (0, 20, 0), None]
DUSK = np.array((0, 5, 13), np.uint8)
MAX_IMAGES = 4
MAX_PIXELS = 10_000  # of a request

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium"),
]


def picture(colour: Any = RED, name: str = "one.png", side: int = 8) -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": encoded(pixels(colour, side))}


BROKEN: FilePayload = {"name": "broken.png", "mimeType": "image/png", "buffer": picture()["buffer"][:40]}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    publish(folder / "models", 3, SHARDS)
    with Server(folder, max_images=MAX_IMAGES, max_pixels=MAX_PIXELS) as server:
        server.wait(lambda: server.status("/readyz") == 200)
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, service: Server) -> Iterator[Page]:
    """The page, once it knows the ensemble."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(service.url)
        expect(page.locator("#facts")).to_be_visible()
        yield page


def card(page: Page, name: str = "one.png") -> Locator:
    return page.locator(".card", has_text=name)


def answer(page: Page, name: str = "one.png") -> Locator:
    """The file's name, the class and how sure the ensemble is of it."""
    return card(page, name).locator("figcaption")


def facts(page: Page) -> dict[str, str]:
    names, values = (page.locator(f"#facts {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return {name: value.strip() for name, value in zip(names, values, strict=True)}


def test_a_picture_is_answered_with_class_probabilities_and_generation(page: Page) -> None:
    page.set_input_files("#files", [picture(RED)])
    expect(answer(page)).to_have_text("one.pngred80.0% mean probability")
    shown = zip(
        card(page).locator(".bars .class > span:first-child").all_inner_texts(),
        card(page).locator(".bars .share").all_inner_texts(),
        strict=True,
    )
    assert list(shown) == [("red", "80.0%"), ("green", "20.0%"), ("blue", "0.0%")]
    expect(card(page).locator("footer")).to_contain_text("generation ")
    expect(page.get_by_role("status")).to_have_text("one.png: red")


def test_the_vote_has_one_cell_for_each_shard_under_its_class(page: Page) -> None:
    page.set_input_files("#files", [picture(RED)])
    expect(card(page).locator(".votes")).to_be_visible()
    groups = card(page).locator(".votes > li").all()
    assert {group.locator("b").inner_text(): group.locator("i").count() for group in groups} == {"red": 4, "green": 1}


def test_the_header_tells_generation_samples_and_abstaining_shards(page: Page, service: Server) -> None:
    generation = httpx.get(f"{service.url}/v1/ensemble").json()["generation"]
    assert facts(page) == {
        "Generation": str(generation),
        "Samples retained": "500",
        "Ids forgotten": str(generation - 1),
        "Shards": "6 1 abstaining",
        "Classes": "3",
    }


def test_a_new_generation_shows_in_the_header_and_beside_the_old_answers(page: Page, service: Server) -> None:
    old = int(facts(page)["Generation"])
    page.set_input_files("#files", [picture(name="before.png")])
    expect(card(page, "before.png").locator("footer")).to_contain_text(f"generation {old} ·")
    publish(service.models, old + 1, SHARDS)
    page.set_input_files("#files", [picture(name="after.png")])
    expect(card(page, "after.png").locator("footer")).to_contain_text(f"generation {old + 1} ·")
    expect(card(page, "before.png").locator("footer")).to_contain_text(f"{old}, since replaced by {old + 1} ·")
    assert facts(page)["Generation"] == str(old + 1)


def test_a_shard_that_is_pending_or_on_an_earlier_slice_is_told_in_a_calm_line(page: Page, service: Server) -> None:
    expect(page.locator("#turnout")).to_be_hidden()
    generation = int(facts(page)["Generation"]) + 1
    publish(service.models, generation, SHARDS)
    document = json.loads((service.models / "ensemble.json").read_text())
    document["shards"][0] |= {"abstains": True, "file": None, "sha256": None, "pending": True}
    document["shards"][3] |= {"earlier_slice": 2}
    write_manifest(service.models, json.dumps({**document, "generation": generation + 1}))
    page.set_input_files("#files", [picture(RED)])
    expect(page.locator("#turnout")).to_have_text(
        "4 of 5 shards answer. Shard 0 is pending: its model was withdrawn, and no other has been published yet. "
        "Shard 3 answers from an earlier slice."
    )
    assert facts(page)["Shards"] == "6 1 abstaining, 1 pending"
    expect(card(page)).to_contain_text(
        "Robustness 0: the vote might change if one of the 4 shards' models were replaced."
    )
    page.set_input_files("#files", [picture(GREEN, "green.png")])  # 4 votes to 0, and one to come
    expect(card(page, "green.png")).to_contain_text(
        "Robustness 1: the vote would stay even if any one of the 4 shards' models were replaced, so no change to the "
        "training samples of one shard can flip it, whatever shard 0 will answer."
    )
    publish(service.models, generation + 2, SHARDS)
    page.set_input_files("#files", [picture(RED, "later.png")])
    expect(page.locator("#turnout")).to_be_hidden()


def test_a_file_that_is_not_a_picture_is_named_and_the_others_are_answered(page: Page) -> None:
    text: FilePayload = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    page.set_input_files("#files", [picture(RED, "first.png"), BROKEN, text, picture(GREEN, "last.png")])
    expect(card(page, "broken.png").get_by_role("alert")).to_contain_text(
        re.compile("^broken.png: The picture is not complete. Expected chunks up to IEND, found an end after 40 bytes.")
    )
    expect(card(page, "notes.txt").get_by_role("alert")).to_have_text(
        "notes.txt: This is not a PNG, JPEG or WEBP picture but text/plain."
    )
    expect(answer(page, "first.png")).to_contain_text("red")
    expect(answer(page, "last.png")).to_contain_text("green")
    expect(page.get_by_role("status")).to_have_text("2 pictures answered, 2 refused")


def test_the_other_way_to_answer_asks_again_for_every_picture(page: Page) -> None:
    page.set_input_files("#files", [picture(RED, "a.png"), picture(DUSK, "b.png")])
    page.set_input_files("#files", [picture(DUSK, "c.png")])
    by_vote = {"a.png": "red80.0% of the votes", "b.png": "blue60.0% of the votes", "c.png": "blue60.0% of the votes"}
    by_mean = {"a.png": "red80.0% mean", "b.png": "green38.9% mean", "c.png": "green38.9% mean"}
    for way, expected in (("majority vote", by_vote), ("mean probability", by_mean)):
        page.locator("#modes").get_by_text(way).click()
        for name, words in expected.items():
            expect(answer(page, name)).to_contain_text(words)


@pytest.mark.parametrize(
    ("colour", "words"),
    [
        (GREEN, "Robustness 2: the vote would stay even if any 2 of the 5 shards' models were replaced,"),
        (RED, "Robustness 1: the vote would stay even if any one of the 5 shards' models were replaced,"),
        (DUSK, "Robustness 0: the vote, which is for blue, might change if one of the 5 shards' models were"),
    ],
)
def test_robustness_is_put_in_words(page: Page, colour: Any, words: str) -> None:
    page.set_input_files("#files", [picture(colour)])
    expect(card(page)).to_contain_text(words)


def test_five_classes_are_shown_and_the_others_on_demand(page: Page, service: Server) -> None:
    shares = [0.05, 0.3, 0.1, 0.25, 0.08, 0.02, 0.2]
    prediction = {"label": 1, "class": "b", "confidence": 0.3, "probabilities": shares, "votes": [0, 5, 0, 0, 0, 0, 0]}
    ensemble = {**httpx.get(f"{service.url}/v1/ensemble").json(), "classes": list("abcdefg")}
    told = {"generation": ensemble["generation"], "mode": "mean", "turnout": ensemble["turnout"]}
    told["predictions"] = [{**prediction, "robustness": 2}]
    page.route("**/v1/ensemble", lambda route: route.fulfill(json=ensemble))
    page.route(ASKING, lambda route: route.fulfill(json=told))
    page.reload()
    page.set_input_files("#files", [picture()])
    names = card(page).locator(".bars .class > span:first-child:visible")
    expect(names).to_have_text(["b", "d", "g", "c", "e"])
    card(page).get_by_text("all 7 classes").click()
    expect(names).to_have_text(["b", "d", "g", "c", "e", "a", "f"])


def test_more_pictures_than_the_service_takes_are_not_sent(page: Page) -> None:
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    page.set_input_files("#files", [picture()] * (MAX_IMAGES + 1))
    expect(page.locator("#problem")).to_contain_text("These are 5 pictures; the service takes 4 at once. None was sent")
    assert page.locator(".card").count() == 0
    page.set_input_files("#files", [picture()])
    expect(answer(page)).to_contain_text("red")
    assert len(sent) == 1
    expect(page.locator("#problem")).to_be_hidden()


def test_pictures_that_are_too_large_only_together_are_all_answered(page: Page) -> None:
    names = ("a.png", "b.png", "c.png")
    page.set_input_files("#files", [picture(RED, name, side=60) for name in names])  # 3 × 3,600 pixels
    expect(page.get_by_role("status")).to_have_text("3 pictures answered")
    page.set_input_files("#files", [picture(RED, "huge.png", side=101)])
    expect(card(page, "huge.png").get_by_role("alert")).to_contain_text("The picture is too large.")


def test_a_busy_service_is_asked_again_when_the_reader_says_so(page: Page) -> None:
    busy = {"error": "the service is busy", "field": None, "expected": "at most 128 requests at once", "found": 129}
    page.route(ASKING, lambda route: route.fulfill(status=429, headers={"Retry-After": "3"}, json=busy), times=1)
    page.set_input_files("#files", [picture()])
    expect(page.locator("#problem p")).to_have_text(
        "The service is busy. Expected at most 128 requests at once, found 129. Try again in 3 seconds."
    )
    expect(card(page)).to_contain_text("No answer")
    page.get_by_role("button", name="Ask again").click()
    expect(answer(page)).to_contain_text("red")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_broken_connection_and_a_proxys_page_are_told_in_words(page: Page) -> None:
    page.route(ASKING, lambda route: route.abort(), times=1)
    page.set_input_files("#files", [picture()])
    expect(page.locator("#problem")).to_contain_text("did not answer: the connection failed or was cut off")
    page.route(ASKING, lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"), times=1)
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("#problem")).to_contain_text("The service answered 502")


def test_a_token_is_asked_for_and_kept_for_the_tab_only(browser: Browser, tmp_path: Path) -> None:
    token = "0123456789abcdef"
    publish(tmp_path / "models", 1, SHARDS)
    with Server(tmp_path, {"SISA_API_TOKEN": token}) as service, browser.new_context() as context:
        service.wait(lambda: service.status("/readyz") == 200)
        page = context.new_page()
        page.goto(service.url)
        expect(page.locator("#access")).to_contain_text("The service asks for an access token")
        for attempt in ("wrong", token):
            page.get_by_label("Access token").fill(attempt)
            page.keyboard.press("Enter")
            if attempt == "wrong":
                expect(page.locator("#access")).to_contain_text("does not accept this token")
        expect(page.locator("#facts")).to_be_visible()
        expect(page.locator("#access")).to_be_hidden()
        page.set_input_files("#files", [picture()])
        expect(answer(page)).to_contain_text("red")
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
    expect(answer(page)).to_contain_text("red")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(answer(page)).to_contain_text("of the votes")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # Clear
    assert page.locator(".card").count() == 0


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_wider_than_a_small_screen(page: Page, service: Server) -> None:
    places: set[str] = set()
    page.on("request", lambda request: places.add(request.url))
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "Policy" in message.text else None)
    page.set_viewport_size({"width": 400, "height": 800})
    page.reload()
    expect(page.locator("#facts")).to_be_visible()
    page.set_input_files("#files", [picture(name=f"{'long' * 30}.png")])
    expect(page.locator(".card .votes")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.goto(f"{service.url}/docs")
    expect(page.locator(".opblock", has_text="/v1/predict/image")).to_be_visible()
    assert {place for place in places if not place.startswith((service.url, "blob:", "data:"))} == set()
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
