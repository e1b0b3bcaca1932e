"""Memory, open files and threads do not grow; study_long_runs.py repeats it five hundred times."""

import os

import pytest
from study_long_runs import check, repeat, studies

pytest.importorskip("psutil")


@pytest.mark.skipif(os.name == "nt", reason="Windows counts handles in another way")
@pytest.mark.parametrize("name, times", [("predict", 20), ("app, no sound", 60)])
def test_what_a_process_holds_does_not_grow(tmp_path, name, times):
    check(*repeat(studies(tmp_path)[name], times))


def test_the_study_notices_what_grows():
    kept = []
    with pytest.raises(AssertionError):
        check(*repeat(lambda: kept.append(bytearray(b"x") * 40_000_000), 10))
    with pytest.raises(AssertionError):
        check(*repeat(lambda: kept.append(open(os.devnull)), 20))  # noqa: SIM115
    for file in kept[10:]:
        file.close()
