"""Tables in pages are what the measurements beside them say."""

import pytest

from scripts import results
from scripts.clocks.page import page as clocks_page
from scripts.speed_page import KERNEL_QUESTION, STEP_QUESTION, beside_vllm, kernel_page, step_page, tuning_page

README = (results.ROOT / "README.md").read_text()


def test_the_speed_table_of_the_readme_is_what_the_measurements_say():
    found = README.partition("<!-- speed -->\n")[2].partition("<!-- end of speed -->")[0].strip()
    assert found and found == beside_vllm(results.read_runs(STEP_QUESTION)).strip()


@pytest.mark.parametrize(("question", "page"), [(STEP_QUESTION, step_page), (KERNEL_QUESTION, kernel_page), ("clocks", clocks_page)])
def test_a_results_page_is_made_of_its_lines(question, page):
    assert (results.ROOT / "docs" / "results" / question / "README.md").read_text().strip() == page(results.read_runs(question)).strip()


def test_the_best_tuning_of_all_cases_comes_first():
    times = {("a", 2): 1.0, ("a", 4): 3.0, ("b", 2): 2.0, ("b", 4): 1.9}
    rows = [
        {"kernel": "decode", "head_dim": 64, "case": case, "call_s": call_s, "tuning": {"stages": stages}}
        for (case, stages), call_s in times.items()
    ]
    run = {"device": "none", "commit": "c", "versions": {"jax": "0"}, "values": {"rows": rows, "flops_per_s": 1e12, "bytes_per_s": 1e12}}
    page = tuning_page([run])
    assert page.index("stages 2") < page.index("stages 4") and "1.026" not in page.partition("stages 4")[0]
