"""log_file.py and log_copy.py: a rotated file that loses nothing it could keep, whatever happens to its folder."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aim_engine.runtime import log
from aim_engine.runtime.log import Log
from aim_engine.runtime.log_copy import Lines, LogCopy, copy_of
from aim_engine.runtime.log_file import LogFile
from aim_engine.runtime.relay import Relay

LIMIT = 10_000


def all_files(path: Path) -> list[Path]:
    """The oldest first."""
    numbered = [path.with_name(f"{path.name}.{number}") for number in range(100, 0, -1)]
    return [one for one in (*numbered, path) if one.exists()]


def everything(path: Path) -> bytes:
    return b"".join(one.read_bytes() for one in all_files(path))


def write(file: LogFile, lines: bytes) -> None:
    while lines:
        lines = lines[file.append(lines) :]


def numbered(count: int, start: int = 0) -> bytes:
    return b"".join(b"line %d %s\n" % (number, b"x" * (number % 97)) for number in range(start, start + count))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LogFile]:
    found = LogFile(str(tmp_path / "logs" / "one.log"), limit_bytes=LIMIT, count=100)
    yield found
    found.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "one.log"


def test_files_are_rotated_between_lines(file: LogFile, path: Path) -> None:
    chance, lines, sent = random.Random(7), numbered(5000).splitlines(keepends=True), b""
    while lines:
        count = chance.randint(1, 400)
        write(file, b"".join(lines[:count]))
        sent, lines = sent + b"".join(lines[:count]), lines[count:]
    files = all_files(path)
    assert len(files) > 20
    assert everything(path) == sent
    for one in files:
        assert one.stat().st_size <= LIMIT
        assert one.read_bytes().endswith(b"\n")
    assert all(one.stat().st_size > LIMIT - 200 for one in files[:-1])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_only_so_many_are_kept_and_the_oldest_goes(tmp_path: Path, count: int) -> None:
    path, sent = tmp_path / "one.log", numbered(3000)
    file = LogFile(str(path), limit_bytes=LIMIT, count=count)
    write(file, sent)
    file.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["one.log", *(f"one.log.{n}" for n in range(1, count))]
    assert sent.endswith(everything(path))


def test_what_is_there_already_is_appended_to(file: LogFile, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"of the run before\n" * 500)
    write(file, numbered(300))
    assert everything(path) == b"of the run before\n" * 500 + numbered(300)
    assert path.with_name("one.log.1").stat().st_size <= LIMIT


def test_a_line_longer_than_a_file_stays_one(file: LogFile, path: Path) -> None:
    long = b"y" * (3 * LIMIT) + b"\n"
    write(file, b"before\n" + long + b"after\n")
    assert [one.read_bytes() for one in all_files(path)] == [b"before\n", long, b"after\n"]


def test_its_modes_and_that_its_descriptor_is_not_inherited(file: LogFile, path: Path) -> None:
    write(file, b"x\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.parent.stat().st_mode & 0o007 == 0
    done = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False, check=True)
    assert "one.log" not in done.stdout


@pytest.mark.parametrize("what", ["renamed", "deleted", "folder deleted", "replaced"])
def test_a_file_that_is_taken_away_is_followed_by_a_new_one(file: LogFile, path: Path, what: str) -> None:
    write(file, b"before\n")
    if what == "renamed":  # as logrotate does
        path.rename(path.with_name("one.log-2026"))
    elif what == "folder deleted":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if what == "replaced":
        path.write_bytes(b"somebody\n")
    write(file, b"after\n")
    assert path.read_bytes() == (b"somebody\nafter\n" if what == "replaced" else b"after\n")
    if what == "renamed":
        assert path.with_name("one.log-2026").read_bytes() == b"before\n"


def test_a_file_that_is_emptied_goes_on_at_its_beginning(file: LogFile, path: Path) -> None:
    """logrotate's copytruncate."""
    write(file, numbered(100))
    os.truncate(path, 0)
    write(file, b"after\n")
    assert path.read_bytes() == b"after\n"


@pytest.mark.parametrize("what", ["link", "dangling link", "pipe", "folder", "socket of a reader"])
def test_nothing_but_a_file_is_written(file: LogFile, path: Path, what: str) -> None:
    path.parent.mkdir()
    victim = path.with_name("victim")
    reader = None
    if what == "link":
        victim.write_bytes(b"mine\n")
        path.symlink_to(victim)
    elif what == "dangling link":
        path.symlink_to(victim)
    elif what == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if what == "socket of a reader" else None
    with pytest.raises(OSError, match=r".+"):
        file.append(b"secret\n")
    assert not victim.exists() or victim.read_bytes() == b"mine\n"
    if reader is not None:
        assert os.read(reader, 10) == b""
        os.close(reader)


def test_a_link_put_there_later_is_not_followed_either(file: LogFile, path: Path) -> None:
    write(file, b"before\n")
    victim = path.with_name("victim")
    victim.write_bytes(b"mine\n")
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        file.append(b"secret\n")
    path.unlink()
    write(file, b"after\n")
    assert (path.read_bytes(), victim.read_bytes()) == (b"after\n", b"mine\n")


def test_two_that_would_write_one_file_write_two(tmp_path: Path) -> None:
    first, second, third = (LogFile(str(tmp_path / "one.log"), limit_bytes=LIMIT, count=3) for _ in range(3))
    for number in range(100):
        write(first, b"first %d\n" % number)
        write(second, b"second %d\n" % number)
    assert second.path == str(tmp_path / "one-2.log")
    assert (tmp_path / "one.log").read_bytes() == b"".join(b"first %d\n" % number for number in range(100))
    assert (tmp_path / "one-2.log").read_bytes() == b"".join(b"second %d\n" % number for number in range(100))
    write(first, numbered(1000))  # rotated, it keeps its name
    assert first.path == str(tmp_path / "one.log")
    first.close()
    write(third, b"third\n")
    assert third.path == str(tmp_path / "one.log")
    second.close()
    third.close()


def test_there_is_an_end_to_the_names(tmp_path: Path) -> None:
    files = [LogFile(str(tmp_path / "one.log"), limit_bytes=LIMIT, count=3) for _ in range(10)]
    for file in files[:9]:
        write(file, b"x\n")
    with pytest.raises(OSError, match="other servers"):
        files[9].append(b"x\n")
    for file in files:
        file.close()


# --- a disk that is full ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_tears_no_line(small_disk: Path) -> None:
    path, lines, sent = small_disk / "one.log", numbered(2000), 0
    file = LogFile(str(path), limit_bytes=1 << 30, count=5)
    (small_disk / "others").write_bytes(b"z" * 1_000_000)
    with suppress(OSError):
        while True:
            sent += file.append(lines[sent:])
    with pytest.raises(OSError, match="No space left"):
        file.append(lines[sent:])
    assert 0 < sent < len(lines)
    assert path.read_bytes() == lines[:sent]
    assert path.read_bytes().endswith(b"\n")
    (small_disk / "others").unlink()
    write(file, lines[sent:])
    assert path.read_bytes() == lines
    file.close()


def test_a_full_disk_costs_one_warning_and_what_waits_is_written_later(
    small_disk: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path, lines = small_disk / "one.log", numbered(4000).splitlines(keepends=True)
    others = small_disk / "others"
    others.write_bytes(b"z" * 1_000_000)
    copy = LogCopy(LogFile(str(path), limit_bytes=1 << 30, count=5), Log("log"), retry_seconds=0.05)
    copy.start()
    for line in lines:
        copy.take(line)
    time.sleep(0.5)  # ten attempts
    assert capfdbinary.readouterr().err.count(b"cannot be written by uid 0: No space left on device") == 1
    others.unlink()
    copy.finish()
    assert path.read_bytes() == b"".join(lines)


def test_a_full_disk_costs_the_engine_s_output_nothing(
    small_disk: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (engine, engine_end), (programs, programs_end) = os.pipe(), os.pipe()
    copy = LogCopy(LogFile(str(small_disk / "one.log"), limit_bytes=1 << 30, count=5), Log("log"))
    copy.start()
    relay = Relay(engine=engine, programs=programs, style="text", copy=copy.take)
    relay.start()
    sent = numbered(60_000)
    assert len(sent) > 3_000_000
    with os.fdopen(engine_end, "wb") as pipe:
        began = time.monotonic()
        pipe.write(sent)
    os.close(programs_end)
    relay.join(10)
    took = time.monotonic() - began
    copy.finish()
    said = capfdbinary.readouterr()
    assert said.out == sent
    assert said.err.count(b"No space left on device") == 1
    assert took < 5
    kept = (small_disk / "one.log").read_bytes()
    assert sent.startswith(kept)
    assert len(kept) > 1_000_000


# --- the copy --------------------------------------------------------------------------------------------------------


class Slow(LogFile):
    """A file whose disk answers only when told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), limit_bytes=1 << 30, count=5)
        self.answers = threading.Event()

    def append(self, lines: bytes) -> int:
        self.answers.wait(20)
        return super().append(lines)


def accounted(path: Path) -> tuple[list[int], int]:
    """The numbers of the lines that are there, and how many are said to be missing."""
    found = everything(path).splitlines()
    gaps = [line for line in found if not line.startswith(b"line ")]
    assert all(b" aim log: warning: " in line and line.endswith(b" lines are missing here") for line in gaps)
    return [int(line.split()[1]) for line in found if line.startswith(b"line ")], sum(
        int(line.split()[4]) for line in gaps
    )


def test_every_line_of_a_fast_writer_is_accounted_for(tmp_path: Path) -> None:
    path, pieces = tmp_path / "one.log", [numbered(500, start) for start in range(0, 400_000, 500)]
    copy = LogCopy(LogFile(str(path), limit_bytes=1 << 20, count=99), Log("log"))
    copy.start()
    for piece in pieces:
        copy.take(piece)
    copy.finish(20)
    kept, missing = accounted(path)
    assert len(kept) + missing == 400_000
    assert kept == sorted(set(kept))
    assert len(all_files(path)) > 5


def test_a_disk_that_hangs_delays_nobody_and_the_gap_is_told(tmp_path: Path) -> None:
    file = Slow(tmp_path / "one.log")
    copy = LogCopy(file, Log("log"), backlog_bytes=50_000)
    copy.start()
    began = time.monotonic()
    for number in range(20_000):
        copy.take(b"line %d\n" % number)
    copy.finish(0.2)
    assert time.monotonic() - began < 15
    file.answers.set()
    copy.finish(5)
    kept, missing = accounted(tmp_path / "one.log")
    assert missing > 10_000
    assert kept[-1] == 19_999
    assert len(kept) + missing == 20_000
    file.close()


def test_a_folder_that_is_none_is_tried_again(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    folder = tmp_path / "logs"
    folder.write_bytes(b"")
    copy = copy_of({"log_file": f"{folder}/one.log", "log_file_bytes": LIMIT, "log_file_count": 2,
                    "log_level": "info", "log_format": "json"})  # fmt: skip
    assert copy is not None
    log.copy_to(copy.take_now)
    try:
        Log("boot", style="json").info("first")
        Log("boot", style="json").info("second")
        folder.unlink()
        copy.finish()
        Log("boot", style="json").info("third")
    finally:
        log.copy_to(None)
    said = capfdbinary.readouterr().err.decode()
    assert [one in said for one in ("first", "second", "third", "is written again")] == [True] * 4
    assert said.count("Not a directory") + said.count("File exists") == 1
    assert "every 30 s this is tried again" in said
    written = (folder / "one.log").read_text()
    assert sorted(written.splitlines()) == sorted(said.splitlines())


def test_none_is_wanted() -> None:
    assert copy_of({}) is None
    assert copy_of({"log_file": None, "log_file_bytes": 1, "log_file_count": 1}) is None


def test_two_servers_of_one_name_are_told_where_they_write(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    copies = [LogCopy(LogFile(str(tmp_path / "a.log"), limit_bytes=LIMIT, count=2), Log("log")) for _ in range(2)]
    for copy in copies:
        copy.take_now(b"x\n")
    assert f"the log of this one is {tmp_path}/a-2.log" in capfdbinary.readouterr().err.decode()


# --- lines -----------------------------------------------------------------------------------------------------------


def test_streams_do_not_meet_within_a_line() -> None:
    taken: list[bytes] = []
    engine, programs = Lines(taken.append, 100), Lines(taken.append, 100)
    engine.add(b"10%\r20%\r")
    programs.add(b"aim watch: loading\nand ")
    engine.add(b"100%\nnext\nhalf")
    programs.add(b"more\n")
    assert taken == [b"aim watch: loading\n", b"10%\r20%\r100%\nnext\n", b"and more\n"]
    engine.end()
    engine.end()
    assert taken[3:] == [b"half\n"]
    engine.add(b"z" * 101)
    assert taken[4:] == [b"z" * 101 + b"\n"]


@pytest.mark.parametrize("style", ["text", "json"])
def test_the_copy_holds_the_same_lines_as_the_streams(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], style: str
) -> None:
    (engine, engine_end), (programs, programs_end) = os.pipe(), os.pipe()
    copy = LogCopy(LogFile(str(tmp_path / "one.log"), limit_bytes=LIMIT, count=99), Log("log"))
    copy.start()
    relay = Relay(engine=engine, programs=programs, style=style, copy=copy.take)
    relay.start()
    chance, outs = random.Random(3), (numbered(3000) + b"last\xff\r", numbered(500, 9000) + b"open")
    for index in itertools.count():
        pieces = [out[index * 700 : (index + 1) * 700] for out in outs]
        for end, piece in zip((engine_end, programs_end), pieces, strict=True):
            cut = chance.randint(0, 700)
            os.write(end, piece[:cut])
            os.write(end, piece[cut:])
        if not any(pieces):
            break
    os.close(engine_end)
    os.close(programs_end)
    relay.join(10)
    relay.end_lines()
    copy.finish()
    said = capfdbinary.readouterr()
    written = everything(tmp_path / "one.log").split(b"\n")[:-1]
    out, err = said.out.rstrip(b"\n").split(b"\n"), said.err.rstrip(b"\n").split(b"\n")
    assert len(written) == len(out) + len(err) == 3502
    assert sorted(written) == sorted(out + err)
    of_engine = [line for line in written if line in set(out)]
    assert of_engine == out
