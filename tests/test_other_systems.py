"""What Windows and macOS do otherwise, as far as it can be simulated here."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from emotion_helpers import write_text
from emotion_helpers.__main__ import main
from emotion_helpers.models import load_model, save_model
from emotion_helpers.pictures import picture_files, render

ROOT = Path(__file__).parents[1]
NO_FORK = """
import os
import sys
from emotion_helpers.clips import find_clips
from emotion_helpers.pictures import SpectrogramSettings, render

os.fork = None  # as on Windows
clips, _ = find_clips(sys.argv[1])
table = render(clips, sys.argv[2], SpectrogramSettings(**{settings}), n_jobs=2)
print(dict(table.status.value_counts()))
"""


@pytest.fixture
def clips(demo_clips):
    return demo_clips[:8]


def test_pictures_are_made_where_processes_cannot_fork(tmp_path, clips, small):
    """Also by a script without `if __name__ == "__main__"`, which runs once."""
    render(clips, tmp_path / "here", small, n_jobs=1)
    (tmp_path / "voices").mkdir()
    for path in map(Path, clips.path):
        (tmp_path / "voices" / path.name).symlink_to(path)
    script = tmp_path / "script.py"
    script.write_text(NO_FORK.replace("{settings}", str(asdict(small))))
    command = [sys.executable, script, tmp_path / "voices", tmp_path / "without"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.count("made") == 1, run.stdout  # the script ran once
    here, without = (picture_files(tmp_path / name, small) for name in ("here", "without"))
    assert len(without) == 8
    assert [file.read_bytes() for file in without] == [file.read_bytes() for file in here]


def test_line_ends_stay_as_they_are_where_python_would_change_them(tmp_path, monkeypatch):
    write = Path.write_text

    def write_as_on_windows(path, text, encoding=None, errors=None, newline=None):
        text = text if newline == "" else text.replace("\n", "\r\n")
        return write(path, text, encoding, errors, newline="")

    monkeypatch.setattr(Path, "write_text", write_as_on_windows)
    write_text(tmp_path / "table.csv", "a,b\n1,2\n")
    assert (tmp_path / "table.csv").read_bytes() == b"a,b\n1,2\n"


def test_paths_of_more_than_260_characters_are_paths(tmp_path, clips, small, network):
    deep = tmp_path.joinpath(*["a folder with quite a long name, as some people like them"] * 6)
    assert len(str(deep)) > 260
    render(clips, deep / "pictures", small, n_jobs=1)
    assert len(picture_files(deep / "pictures", small)) == 8
    folder = save_model(deep / "model", network.model, network.settings, network.recipe)
    assert load_model(folder).recipe == network.recipe


@pytest.fixture
def held_open(monkeypatch):
    """Files that some other program reads cannot be replaced, as on Windows."""

    def refuse(source, target):
        raise PermissionError(13, "Access is denied", str(target))

    monkeypatch.setattr(os, "replace", refuse)


def test_a_table_that_is_open_elsewhere_stays_as_it_is(tmp_path, held_open):
    (tmp_path / "runs.csv").write_text("old")
    with pytest.raises(PermissionError, match=r"denied: '.*runs\.csv'"):
        write_text(tmp_path / "runs.csv", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_an_answer_is_printed_though_its_table_is_open_elsewhere(
    tmp_path, clips, network_folder, held_open, monkeypatch, capsys
):
    command = ["predict", clips.path.iloc[0], "--model", str(network_folder)]
    monkeypatch.setattr(sys, "argv", ["", *command, "--csv", str(tmp_path / "emotions.csv")])
    with pytest.raises(SystemExit, match=r"Access is denied: '.*emotions\.csv'"):
        main()
    assert Path(clips.path.iloc[0]).name in capsys.readouterr().out
