"""Chapter 10: whoever dies, nothing is lost or done twice; two processes share every epoch."""

import json
import logging
import os
import subprocess
import sys
import tarfile
import time
from collections import Counter
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest
from chapters import code_of, run_cells
from joblib import parallel_config

from emotion_helpers.beyond.prediction import map_in_threads, predict, predict_files
from emotion_helpers.pictures import picture_files, render

pytestmark = pytest.mark.slow


def content(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*/*.png")}


@pytest.fixture(scope="module")
def client():
    """Of a cluster of two processes, on which `parallel_config("dask")` lets the same calls run."""
    distributed = pytest.importorskip("distributed")
    options = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, **options)
    with cluster, distributed.Client(cluster) as client:
        yield client


def test_a_cluster_renders_what_this_process_renders(client, demo_clips, small, tmp_path):
    render(demo_clips, tmp_path / "here", small, n_jobs=1)
    with parallel_config("dask"):
        report = render(demo_clips, tmp_path / "there", small)
    assert list(report.clip_id) == sorted(demo_clips.clip_id)
    assert set(report.status) == {"made"}
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_after_a_killed_worker_every_picture_is_there_once(client, demo_clips, tmp_path):
    """Full-sized, so that it dies among them; what it had made is kept, and not made again."""
    render(demo_clips, tmp_path / "here", n_jobs=1)
    given = {"scratch": tmp_path, "os": os, "time": time, "N_CLIPS": 18}  # so at six pictures
    kill_one = run_cells("10", "def kill_one", **given)["kill_one"]
    pids = client.run(os.getpid).values()
    finished = {}

    def kill():
        kill_one(min(pids))
        finished.update((path, path.stat().st_ino) for path in tmp_path.glob("killed/*/*.png"))

    killer = Thread(target=kill)
    killer.start()
    with parallel_config("dask"):
        report = render(demo_clips, tmp_path / "killed")
    killer.join()
    assert min(pids) not in client.run(os.getpid).values()
    assert list(report.clip_id) == sorted(demo_clips.clip_id)
    assert set(report.status) <= {"made", "kept"}
    assert len(finished) >= 4  # two of the six may be half written
    assert all(path.stat().st_ino == file for path, file in finished.items())  # the same files
    assert content(tmp_path / "killed") == content(tmp_path / "here")


def test_a_cluster_answers_about_recordings_as_threads_do(client, demo_clips, network):
    ask, paths = partial(predict, network=network), list(demo_clips.path[:2])
    here = [answer.probabilities for answer in map_in_threads(ask, paths, disable=True)]
    with parallel_config("dask"):
        there = [answer.probabilities for answer in map_in_threads(ask, paths, disable=True)]
    for one, other in zip(here, there, strict=True):
        assert list(one.values()) == pytest.approx(list(other.values()), abs=1e-5)


def test_a_cluster_answers_about_a_folder_as_threads_do(
    client, demo_clips, network_folder, tmp_path
):
    for path in demo_clips.path[:2]:
        (tmp_path / Path(path).name).symlink_to(path)
    ask = partial(predict_files, [str(tmp_path)], network_folder)
    ask(csv=tmp_path / "here.csv")
    with parallel_config("dask"):
        ask(csv=tmp_path / "there.csv")
    here, there = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("here", "there"))
    pd.testing.assert_frame_equal(here, there, atol=2e-4)  # four digits are written
    assert len(here) == 2


def test_a_shard_holds_every_picture_beside_its_label(demo_pictures, small, tmp_path):
    """Read with Python's own tarfile, and by fsspec as the chapter does."""
    fsspec = pytest.importorskip("fsspec")
    (tmp_path / "local").symlink_to(demo_pictures)
    files = partial(picture_files, settings=small)
    given = {"fsspec": fsspec, "tarfile": tarfile, "BytesIO": BytesIO, "picture_files": files}
    write_shard = run_cells("10", "def write_shard", scratch=tmp_path, **given)["write_shard"]
    for address in (f"file://{tmp_path}/0.tar", "memory://0.tar"):
        write_shard(address)
        shard = dict(fsspec.get_mapper(f"tar://::{address}"))
        pictures = {path.name: path for path in files(tmp_path / "local")}
        assert len(shard) == 2 * len(pictures)
        for name, path in pictures.items():
            assert shard[name] == path.read_bytes()
            assert shard[name.replace(".png", ".txt")].decode() == path.parent.name
    with tarfile.open(tmp_path / "0.tar") as tar:
        assert len(tar.getnames()) == 2 * len(pictures)


def test_a_bucket_gives_the_shard_back(demo_pictures, small, tmp_path, capsys):
    """In an S3 server on this machine, if s3fs and moto are there (the lock leaves them out)."""
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    (tmp_path / "local").symlink_to(demo_pictures)
    files = partial(picture_files, settings=small)
    given = {"fsspec": fsspec, "tarfile": tarfile, "BytesIO": BytesIO, "picture_files": files}
    cells = ("def read(", "def write_shard", 'write_shard("memory://', "moto.server")
    names = run_cells("10", *cells, S3=True, scratch=tmp_path, **given)
    names["aws"].stop()
    assert names["shard"]
    assert capsys.readouterr().out.splitlines()[-1] == "True"  # the bucket's is the same


def test_two_processes_see_every_clip_once_an_epoch(demo_clips, tmp_path):
    pytest.importorskip("accelerate")
    render(demo_clips, tmp_path / "local", n_jobs=1)
    (source,) = (code for code in code_of("10") if code.startswith("%%writefile"))
    script = tmp_path / "train.py"
    script.write_text(source.partition("\n")[2])
    given = {"SCRIPT": script, "scratch": tmp_path, "sys": sys, "json": json}
    given["subprocess"] = subprocess
    run = run_cells("10", "def train(", **given)["train"](2)
    times = Counter(clip for part in run for clip in part["seen"])
    assert len(run) == 2
    assert len(times) == len(demo_clips) * 4 // 5 // 16 * 16
    assert set(times.values()) == {3}
    assert len({len(part["seen"]) for part in run}) == 1
    assert np.isfinite(run[0]["accuracy [%]"])
