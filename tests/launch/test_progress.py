from muxjax.launch.progress import Progress


def test_what_is_done_is_told_as_it_goes(capsys):
    said: list[str] = []
    with Progress(bars=False, doing=said.append).counted("programs", "program", 2) as one_more:
        one_more()
        one_more()
    assert said == ["programs: 0 of 2", "programs: 1 of 2", "programs: 2 of 2"]
    assert capsys.readouterr().err == ""


def test_a_bar_is_drawn_for_who_looks_on(capsys):
    with Progress().counted("programs", "program", 1) as one_more:
        one_more()
    assert "programs: 100%" in capsys.readouterr().err
