"""The page of MuxServe's shape says what its runs say."""

from scripts import results
from scripts.paper.page import page
from scripts.paper.tables import QUESTION

FOLDER = results.ROOT / "docs" / "results" / QUESTION


def test_the_page_is_made_of_its_lines():
    records = results.read_runs(QUESTION)
    text = (FOLDER / "README.md").read_text().strip()

    assert text == page(records).strip()
    first = next(record for record in records if record["config"].get("system") == "mux")
    first["values"]["rps"] += 10
    assert text != page(records).strip()


def test_every_plot_is_on_the_page():
    text = (FOLDER / "README.md").read_text()
    plots = [path.name for path in FOLDER.glob("*.svg")]

    assert plots and all(f"]({plot})" in text for plot in plots)
