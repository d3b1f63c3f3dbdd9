from muxjax import progress as module
from muxjax.progress import Progress, followed


def test_what_is_done_is_told_as_it_goes(capsys):
    said: list[str] = []
    with Progress(bars=False, doing=said.append).counted("programs", "program", 2) as one_more:
        one_more()
        one_more()
    assert said == ["programs: 0 of 2", "programs: 1 of 2", "programs: 2 of 2"]
    assert capsys.readouterr().err == ""


def test_a_bar_is_drawn_for_who_looks_at_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress().counted("programs", "program", 1) as one_more:
        one_more()
    assert "programs: 100%" in capsys.readouterr().err


def test_nobody_at_a_terminal_gets_a_line_in_place_of_the_bar(capsys):
    said: list[str] = []
    with Progress(told=said.append).counted("programs", "program", 1) as one_more:
        one_more()
    assert (said, capsys.readouterr().err) == (["programs: 1"], "")


def test_a_phase_is_told_and_done():
    said: list[str] = []
    done: list[str] = []
    progress = Progress(bars=False, told=said.append, doing=done.append)
    progress.phase("devices")
    with progress.counted("programs", "program", 2):
        pass
    assert (said, done) == (["devices", "programs: 2"], ["devices", "programs: 0 of 2"])


def test_a_long_phase_is_told_again_and_again(monkeypatch):
    monkeypatch.setattr(module, "SAY_S", 0.0)
    said: list[str] = []
    with Progress(bars=False, told=said.append).counted("programs", "program", 2) as one_more:
        one_more()
        one_more()
    assert said == ["programs: 2", "programs: 1 of 2", "programs: 2 of 2"]


def test_lines_say_how_it_goes_and_count_bytes_as_such(monkeypatch, capsys):
    monkeypatch.setattr(module, "SAY_S", 0.0)
    with followed("placing", " units", None) as more:
        more(3, "10% served")
        more(0, "20% served")
    with followed("model", "B", 2**21, begun=2**20) as more:
        more(2**20)
    assert capsys.readouterr().err.splitlines() == [
        "placing: 3 units, 10% served",
        "placing: 3 units, 20% served",
        "model: 1 MiB of 2 MiB",
        "model: 2 MiB of 2 MiB",
    ]
