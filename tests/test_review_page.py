"""What the review page takes back and what it stops complaining of; two sets of texts in one folder."""

import shutil

from test_review import browser, decide, drafts, serving

from persllm import records, reviews
from persllm.review import Drafts
from persllm.review.desk import Desk
from persllm.review.drafts import read_drafts

__all__ = ["browser", "drafts"]


def test_a_decision_about_the_other_set_of_a_folder_is_not_stale(drafts, tmp_path):
    """As where one persona's items are written twice, with other settings."""
    items, _ = read_drafts(drafts.annotate / "drafts.jsonl")
    places = []
    for item in items[:2]:
        shutil.copytree(drafts.annotate, tmp_path / item.id)
        records.write(tmp_path / item.id / "drafts.jsonl", [item])
        places.append(Drafts(tmp_path / item.id, drafts.materials, drafts.pack))
    ids = [("x", "0" * 16), *map(reviews.place_of, items[:2])]
    lines = [reviews.Review(id=id, of=of, decision="accept", by="Ada", at="2026-01-31T12:00:00Z") for id, of in ids]
    records.write(drafts.pack / reviews.FILE, lines)
    counts = Desk(places).counts()
    assert (counts["accept"], counts["stale"]) == (2, 1)


def test_undo_takes_back_what_is_shown_and_a_mended_log_is_no_longer_complained_of(drafts, browser):
    said = "document.getElementById('said').textContent === '%s is open again.'"
    log = drafts.pack / reviews.FILE
    with serving(drafts) as server:
        assert decide(server.address, "0/early-k1@late", "reject", by="Bea")[0] == 200
        browser("Page.navigate", url=server.address)
        browser.until("document.getElementById('name')?.open")
        browser.keys(*"Ada", "Enter")
        browser.js("document.getElementById('decision').value = ''; filter()")
        browser.keys("a")
        browser.until("document.querySelector('[aria-current]').id === '0/early-k1@late'")
        browser.keys("u")
        browser.until(said % "early-k1@late")
        browser.keys("u")
        browser.until(said % "early-k1")
        good = log.read_bytes()
        log.write_bytes(good + b"{\n")
        browser.until("document.getElementById('alert').textContent.includes('reviews.jsonl:5')")
        log.write_bytes(good)
        browser.until("document.getElementById('alert').hidden")
