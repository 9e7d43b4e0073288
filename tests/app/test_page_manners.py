"""The page's manners, in headless Chromium: nothing stays, nobody disturbs others, everybody can use it."""

import time

import numpy as np
import pytest
from app_server import Visit, picture

pytest_plugins = ["page_fixtures"]


def test_files_that_are_no_photographs_are_refused_with_a_message(visit, tmp_path):
    corrupt = tmp_path / "corrupt.jpg"
    corrupt.write_bytes(b"\xff\xd8\xff\xe0 no picture at all")
    visit.upload(corrupt)
    assert "photograph" in visit.toast()
    visit.page.locator("[data-testid=toast-close]").first.click()
    visit.page.locator("[data-testid=toast-body]").first.wait_for(state="detached")
    large = tmp_path / "large.png"
    large.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40_000_000))
    visit.page.wait_for_selector("#photo input[type=file]", state="attached")
    visit.upload(large)
    assert "size" in visit.toast().lower()
    visit.page.click("#start")
    visit.page.locator("[data-testid=toast-body]", has_text="Choose a photograph").wait_for()


def test_two_visitors_stay_apart(browser, tiny):
    first, second = Visit(browser, tiny[0]), Visit(browser, tiny[0])
    first.draw(21)
    second.draw(22)
    first.reconstruct()
    second.reconstruct()
    for visit, seed in ((first, 21), (second, 22)):
        visit.open("Take away")
        assert f"--seed {seed} " in visit.page.inner_text("#command")
        visit.open("Relight")
    pictures = [picture(visit.fetched("#relit")) for visit in (first, second)]
    assert np.abs(pictures[0] - pictures[1]).mean() > 2
    folders = [visit.source("#relit").split("/session-")[1].split("/")[0] for visit in (first, second)]
    assert folders[0] != folders[1]
    first.page.click("#light_top")  # edits of one do not touch the other
    first.page.wait_for_timeout(500)
    assert np.array_equal(picture(second.fetched("#relit")), pictures[1])
    first.close()
    second.close()


def everything_gone(desk, seconds=20):
    """Whether the folder of all visitors empties within some seconds."""
    deadline = time.monotonic() + seconds
    while any(desk.workspace.root.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(desk.workspace.root.iterdir())


def running(visit, portrait):
    """A photograph in the middle of a run that never ends."""
    visit.upload(portrait)
    visit.page.locator("#note", has_text="central square").wait_for()
    visit.choose("balanced")
    visit.page.click("#start")
    visit.page.wait_for_selector("#card[data-state=running] img")


def test_a_reload_in_the_middle_is_clean_and_nothing_stays_behind(browser, tiny, portrait):
    address, desk = tiny
    visit = Visit(browser, address)
    running(visit, portrait)
    before = set(desk.workspace.root.glob("session-*"))
    assert any(desk.workspace.root.rglob("portrait.jpg"))
    visit.page.reload()
    visit.page.wait_for_selector("#start")
    visit.errors.clear()  # the browser's own word on requests that a reload cuts off
    assert visit.page.locator("#card").count() == 0
    assert visit.page.locator("#start").is_enabled()
    visit.draw(31)
    visit.reconstruct()  # the run before it has ended, or this one would wait for ever
    assert visit.errors == []
    assert not any(desk.workspace.root.rglob("portrait.jpg")), "the photograph is removed with the page that it was on"
    assert not any(folder.exists() for folder in before)
    visit.close()
    assert everything_gone(desk)


def test_a_tab_that_is_closed_in_the_middle_leaves_nothing(browser, tiny, portrait, capfd):
    address, desk = tiny
    visit = Visit(browser, address)
    running(visit, portrait)
    assert any(desk.workspace.root.rglob("portrait.jpg"))
    visit.close()
    assert everything_gone(desk), list(desk.workspace.root.rglob("*"))
    deadline = time.monotonic() + 20
    while desk.workshop.at_work.locked() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not desk.workshop.at_work.locked(), "the run ends with the tab"
    assert len(desk.workspace) == 0
    log = capfd.readouterr()
    assert "portrait" not in log.out + log.err


def test_uploads_that_were_never_used_go_too(browser, tiny, portrait, monkeypatch):
    """As where the connection breaks before the page can say whose the file is."""
    address, desk = tiny
    monkeypatch.setattr(desk.workspace, "orphan_s", 1.0)
    visit = Visit(browser, address)
    answer = visit.context.request.post(
        f"{address}gradio_api/upload",
        multipart={"files": {"name": "lost.jpg", "mimeType": "image/jpeg", "buffer": portrait.read_bytes()}},
    )
    assert answer.ok
    assert any(desk.workspace.root.rglob("lost.jpg"))
    visit.close()
    assert everything_gone(desk), list(desk.workspace.root.rglob("*"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_every_control_has_a_name(browser, tiny, theme):
    visit = Visit(browser, tiny[0], width=390, height=844, query=f"?__theme={theme}")
    visit.draw(41)
    visit.reconstruct()
    assert (visit.page.locator("body.dark").count() == 1) == (theme == "dark")
    for tab in ("Model", "Relight", "Rotate", "Take away"):
        visit.open(tab)
        if tab == "Rotate":
            visit.page.wait_for_selector("#strip img")
        width = visit.page.evaluate("document.documentElement.scrollWidth")
        wide = visit.page.evaluate("""() => [...document.querySelectorAll('body *')]
            .filter(e => e.offsetParent && e.getBoundingClientRect().right > 391).map(e => e.outerHTML.slice(0, 90))""")
        assert width <= 390, f"{tab} is {width} pixels wide: {wide[:6]}"
        for _ in range(50):  # names are given a moment after things appear
            nameless = visit.page.evaluate("""() => [...document.querySelectorAll('button, input, select, canvas, img')]
                .filter(e => e.offsetParent && e.type !== 'file' && !(e.innerText || '').trim()
                    && !e.ariaLabel && !e.title
                    && !e.alt && !(e.labels && e.labels.length) && !e.closest('label') && !e.querySelector('img[alt]'))
                .map(e => e.outerHTML.slice(0, 160))""")
            if not nameless:
                break
            visit.page.wait_for_timeout(200)
        assert nameless == [], tab
    visit.close()


def test_the_keyboard_alone_is_enough(visit):
    visit.draw(51)
    visit.page.locator("#draw").focus()
    reached = False
    for _ in range(25):
        visit.page.keyboard.press("Tab")
        if visit.page.evaluate("document.activeElement.id") == "start":
            reached = True
            break
    assert reached
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_selector("#card[data-state=running], #card[data-state=done], #card[data-state=loading]")
    visit.page.wait_for_selector("#card[data-state=done]")
