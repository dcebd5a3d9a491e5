"""What reaches a terminal: nothing that steers it, but our own colours."""

from __future__ import annotations

import io
import json
import sys

import pytest

from aim_engine.cli.terminal import Terminal
from aim_engine.errors import CacheError, InputError
from tests.cli.conftest import Run

# A clear screen, a title, a bell, a carriage return, C1's way to write ESC [, a turned-round direction, a line's end
EVIL = "a\x1b[2Jb\x1b]0;t\x07c\rd\x9b2Je\u202ef\x7fg\u2028h\x00"
SHOWN = r"a\x1b[2Jb\x1b]0;t\x07c\x0dd\x9b2Je\u202ef\x7fg\u2028h\x00"
QUIET = {"NO_COLOR": "1"}


@pytest.mark.parametrize("environment", [QUIET, {"FORCE_COLOR": "1"}], ids=["plain", "painted"])
def test_no_text_steers_the_terminal(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(environment)
    terminal.result(EVIL)
    terminal.say(EVIL)
    terminal.warn(EVIL)
    terminal.fail(InputError(EVIL, hint=EVIL, details=(EVIL,)))
    out = capsys.readouterr()
    assert out.out == f"{SHOWN}\n"
    lines = out.err.splitlines()
    assert lines[0] == SHOWN
    assert all(SHOWN in line for line in lines[1:5])
    assert json.loads(lines[-1])["message"] == EVIL
    plain = out.err
    for code in (0, 1, 31, 33):
        plain = plain.replace(f"\x1b[{code}m", "")
    assert all(letter.isprintable() or letter == "\n" for letter in plain)


def test_json_has_no_raw_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(QUIET).result_json({"name": EVIL})
    out = capsys.readouterr().out
    assert json.loads(out) == {"name": EVIL}
    assert all(letter.isprintable() or letter == "\n" for letter in out)


def test_our_own_colours_stay_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal({"FORCE_COLOR": "1"})
    terminal.result(f"{terminal.paint('good', 'x')} {terminal.paint('bad', EVIL)}")
    assert capsys.readouterr().out == f"\x1b[32mx\x1b[0m \x1b[31m{SHOWN}\x1b[0m\n"
    Terminal(QUIET).result("\x1b[32mnot ours\x1b[0m")
    assert capsys.readouterr().out == "\\x1b[32mnot ours\\x1b[0m\n"


def test_text_in_any_language_and_lines_of_ours_stay(capsys: pytest.CaptureFixture[str]) -> None:
    text = "größer 模型 \u00a0 👩\u200d💻\n\tindented ✓"
    Terminal(QUIET).result(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_a_line_within_a_message_cannot_pose_as_one_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(QUIET).fail(InputError("no\nremedy: run this", hint="yes\nerror: x", details=("a\nremedy: b",)))
    Terminal(QUIET).warn("one\nerror: two")
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith(("error", "remedy"))] == ["error: no", "remedy: yes"]


def test_a_name_of_the_users_is_shown_without_what_steers(cli: Run) -> None:
    done = cli("plan", "Qwen/\x1b[2JQwen", "--hardware", "MI300X:8")
    assert done.code == 10
    assert "\x1b" not in done.stderr
    assert "\x1b" not in cli("\x1b[2J").stderr


def test_a_result_that_cannot_be_written_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def flush(self) -> None:
            raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(CacheError, match="cannot be written to stdout: Bad file descriptor"):
        Terminal(QUIET).result("x")
    sys.stdout.close()
