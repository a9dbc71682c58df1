"""Long calls: progress, warnings, other threads, Ctrl-C, forks, memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import part
from PIL import Image

import pupilla


def test_the_package_needs_numpy_alone() -> None:
    others = ["ray", "sklearn", "tqdm", "PIL", "pyarrow", "fsspec", "torch"]
    program = f"import sys, pupilla; print([name for name in {others} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_the_first_steps_end_with_a_picture(tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "first_steps.py"
    said = subprocess.run([sys.executable, example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "AU-PRO 0.9" in said.stdout and "defective" in said.stdout
    assert (tmp_path / "worst.png").read_bytes().startswith(b"\x89PNG")


def test_a_function_gets_the_events(good: Path) -> None:
    events: list[Any] = []
    pupilla.train(good, detector="l2-ae", steps=20, resize=64, progress=events.append)
    stages = [event["stage"] for event in events if event["event"] == "start"]
    assert "reading images" in stages and len(stages) == sum(event["event"] == "finish" for event in events)
    assert all(event["total"] for event in events if event["event"] == "start")
    losses = [event for event in events if event["event"] == "losses"]
    assert [event["step"] for event in losses] == list(range(1, 21))


def test_an_exception_of_the_function_ends_the_work(good: Path) -> None:
    def fail(event: Any) -> None:
        if event["event"] == "losses":
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        pupilla.train(good, detector="l2-ae", steps=5000, resize=64, progress=fail)


def test_a_bar_of_tqdm(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pupilla.train(good, resize=64, progress=True)
    assert "reading images" in capsys.readouterr().err
    pupilla.train(good, resize=64)
    assert capsys.readouterr().err == "", "no bar without a terminal"


def test_warnings_are_pythons_and_name_the_caller(good: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(6):
        Image.fromarray(part(index)).save(tmp_path / "images" / f"{index}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(pupilla.ImageError, match="broken.png"):
        pupilla.train(tmp_path / "images", resize=64, progress=False)
    with pytest.warns(pupilla.PupillaWarning, match="skipped: .*broken.png") as told:
        pupilla.train(tmp_path / "images", resize=64, progress=False, skip_unreadable=True)
    assert Path(told[0].filename) == Path(__file__)


def test_a_plan_trains_nothing(good: Path) -> None:
    plan = pupilla.plan(good, detector="student-teacher", steps=7, scales=33, resize=64, progress=False)
    assert plan["scales"][0]["steps"] == 7
    with pytest.raises(pupilla.SettingError, match="not trained in steps|dry_run belongs"):
        pupilla.plan(good, detector="padim")


def test_threads_inspect_side_by_side(model: pupilla.Model, data: Path) -> None:
    images = sorted((data / "test").rglob("*.png"))
    alone = [model.inspect(image).pred_score for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: model.inspect(image).pred_score, images * 5))
    assert together == alone * 5


def test_a_training_does_not_hold_up_an_inspection(model: pupilla.Model, good: Path, stain: Path) -> None:
    wanted = model.inspect(stain).pred_score
    scores: list[float] = []

    def inspect_meanwhile(event: Any) -> None:
        if event["event"] == "losses" and len(scores) < 3:
            with ThreadPoolExecutor(1) as pool:
                scores.append(pool.submit(lambda: model.inspect(stain).pred_score).result(timeout=60))
            if len(scores) == 3:
                raise InterruptedError

    pupilla.set_threads(1)
    try:
        with pytest.raises(InterruptedError):
            pupilla.train(good, detector="l2-ae", steps=100_000, resize=64, progress=inspect_meanwhile)
    finally:
        pupilla.set_threads(None)
    assert scores == [wanted] * 3


def test_other_threads_go_on_during_a_training(good: Path) -> None:
    ended = threading.Event()
    counted = []

    def count() -> None:
        while not ended.is_set():
            counted.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    begun = time.perf_counter()
    pupilla.train(good, detector="l2-ae", steps=60, resize=64, progress=False)
    seconds = time.perf_counter() - begun
    ended.set()
    thread.join()
    pauses = np.diff(counted)
    # A thread that waits for the interpreter's lock stands still for the whole training.
    assert pauses.max() < max(0.5, seconds / 2), (pauses.max(), seconds)


INTERRUPTED = """
import signal, sys, pupilla
# A shell starts commands in the background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
told_of = []
def told(event):
    if event["event"] == "progress" and event["stage"].startswith("training") and event["done"] > 1 and not told_of:
        told_of.append(event)
        print("running", flush=True)
try:
    pupilla.train(sys.argv[1], detector="student-teacher", scales=33, steps=9000, resize=64, out=sys.argv[2],
                  checkpoint_every=1000, progress=told)
except KeyboardInterrupt as stopped:
    print("interrupted", getattr(stopped, "__notes__", [""])[0], flush=True)
"""


def test_ctrl_c_ends_a_training_and_leaves_a_checkpoint(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.pupilla"
    command = [sys.executable, "-c", INTERRUPTED, str(good), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.stdout.readline()
        assert time.monotonic() - begun < 10
    assert said.startswith("interrupted") and "part.pupilla.checkpoint" in said, said
    assert not out.exists() and Path(f"{out}.checkpoint").is_file()
    short = {"detector": "student-teacher", "scales": 33, "resize": 64, "progress": False}
    with pytest.raises(pupilla.PupillaError):
        pupilla.train(good, out=out, resume=True, steps=5, **short)


def test_a_resumed_training_gives_the_same_bytes(good: Path, tmp_path: Path) -> None:
    settings = {"detector": "student-teacher", "scales": 33, "resize": 64, "steps": 40}

    def stop(event: Any) -> None:
        if event["event"] == "progress" and event["stage"].startswith("training"):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pupilla.train(good, out=tmp_path / "resumed", progress=stop, **settings)
    resumed: list[Any] = []
    pupilla.train(good, out=tmp_path / "resumed", resume=True, progress=resumed.append, **settings)
    assert any(event["event"] == "resumed" for event in resumed)
    pupilla.train(good, out=tmp_path / "whole", progress=False, **settings)
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()


def in_child(model: pupilla.Model, good: Path, images: list[Path], send: Any) -> None:
    scores = [model.inspect(image).pred_score for image in images]
    trained = pupilla.train(good, resize=64, progress=False)
    pupilla.set_threads(1)
    send.send((scores, trained.threshold, pupilla.threads()))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_child_processes_compute(model: pupilla.Model, good: Path, data: Path, method: str) -> None:
    images = sorted((data / "test").rglob("*.png"))[:3]
    wanted = [model.inspect(image).pred_score for image in images]
    context = multiprocessing.get_context(method)
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=in_child, args=(model, good, images, send), daemon=True)
    child.start()
    assert receive.poll(120), "the child waits for threads that it does not have"
    assert receive.recv() == (wanted, model.threshold, 1)
    child.join(60)
    assert child.exitcode == 0


def test_a_fork_during_a_training(good: Path, model: pupilla.Model, stain: Path) -> None:
    wanted = model.inspect(stain).pred_score
    forked: list[int] = []

    def fork(event: Any) -> None:
        if event["event"] == "losses" and not forked:
            child = os.fork()
            if child == 0:
                # The child has this thread alone.
                os._exit(0 if model.inspect(stain).pred_score == wanted else 1)
            forked.append(child)

    pupilla.train(good, detector="l2-ae", steps=30, resize=64, progress=fork)
    assert forked
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(forked[0], os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    if ended == (0, 0):
        os.kill(forked[0], signal.SIGKILL)
    assert ended == (forked[0], 0)


def test_the_number_of_threads(good: Path) -> None:
    usual = pupilla.threads()
    try:
        pupilla.set_threads(1)
        assert pupilla.threads() == 1
        model = pupilla.train(good, detector="l2-ae", steps=2, resize=64, progress=False)
        assert model.manifest["threads"] == 1
    finally:
        pupilla.set_threads(None)
    assert pupilla.threads() == usual


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell its memory")
def test_memory_stays_flat(model: pupilla.Model) -> None:
    image = part(1)
    for _ in range(300):
        model.inspect(image)
    before = resident()
    for _ in range(1500):
        model.inspect(image).regions
    assert resident() - before < 8 << 20


def test_compare_teacher_and_demo_run_the_program(data: Path, good: Path, tmp_path: Path) -> None:
    table = pupilla.compare(
        data, tmp_path / "compared", detectors=["padim", "memory-bank"], resize=64, progress=False
    )
    assert {row["detector"] for row in table["detectors"]} == {"padim", "memory-bank"}
    assert (tmp_path / "compared" / "comparison.html").is_file()
    with pytest.raises(pupilla.SettingError, match="compare has no setting detector: is detectors meant"):
        pupilla.compare(data, tmp_path / "other", detector="padim")
    with pytest.raises(pupilla.PupillaError, match="does not exist"):
        pupilla.compare(tmp_path / "missing", tmp_path / "other")
    teacher = tmp_path / "teacher.safetensors"
    events: list[Any] = []
    said = pupilla.teacher_train(
        good, teacher, scale=17, steps=2, window=33, images_per_step=2, data_terms="drawn", progress=events.append,
        held_out=0.3,
    )
    assert teacher.is_file() and said["config"]["steps"] == 2
    assert any(event["event"] == "losses" for event in events)
