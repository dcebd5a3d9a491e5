"""Questions to AMD's tools in a process of their own: an environment and a time limit in, their words out.

A wedged driver can hang any call of amdsmi for ever and a damaged library can end its process, so it is never loaded
into ours. This is the one place outside of runtime/ and deploy/ that starts a process. What the answers mean is in
answer.py.
"""

from __future__ import annotations

import io
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("child.py")
# -P: neither the current folder nor this package's may shadow a module. Not -I: PYTHONPATH may lead to amdsmi.
COMMAND = (sys.executable, "-P", str(CHILD))
_LAST_GRACE_SECONDS = 0.5
_ECHO_SECONDS = 0.1  # how long after a program's end its words are still waited for
_GLANCE_SECONDS = 0.02  # how often it is looked at whether it has ended
_MOST_BYTES = 16 << 20  # 64 partitions' answers are a fifth of a MiB
_KEPT_CHATTER_BYTES = 65536
_LONGEST = 200


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a program ended, with all it said until then. `status` None means the time was up; `answer` is the JSON
    object in the last line of a child that gives one. The texts are printable.
    """

    answer: Mapping[str, Any] | None = None
    status: int | None = None
    last_words: str = ""
    output: bytes = b""


def ask_raw(environment: Mapping[str, str], timeout_seconds: float) -> Mapping[str, Any]:
    """What amdsmi answers, as answer.read_answer understands it: JSON that may as well be kept in a file.

    When there is no answer, `{"reason": ..., "hint": ...}` says why not. When there is one without all the extras,
    "unanswered" names the question at which it ending.
    """
    ending = run(COMMAND, environment, timeout_seconds)
    answer, question = _gather(ending.output)
    if answer is None:
        reason, hint = _explain(ending, question, timeout_seconds)
        return {"reason": reason, "hint": hint}
    return {**answer, "unanswered": question} if question else answer


def run_child(
    environment: Mapping[str, str], timeout_seconds: float, *, script: Path, arguments: Sequence[str] = ()
) -> Ending:
    """Run a script that answers in its last line; whatever start-up hooks printed before that does not matter."""
    ending = run([sys.executable, "-P", str(script), *arguments], environment, timeout_seconds)
    last = ending.output.rstrip().rpartition(b"\n")[2] if ending.status is not None else b""
    return replace(ending, answer=parse(last) or None)


def run(command: Sequence[str], environment: Mapping[str, str], timeout_seconds: float) -> Ending:
    """Run a program and take what it says, whatever becomes of it. Nothing it started outlives the call."""
    deadline = time.monotonic() + timeout_seconds
    try:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for us to answer; and one signal ends it with all its children
        )
    except (OSError, ValueError) as error:
        return Ending(status=1, last_words=_shown(f"it did not start: {error}"))
    try:
        talk = _listen(process, deadline)
    finally:
        status = _put_away(process)
    words = _last_line(bytes(talk.chatter))
    if talk.ended is _End.FLOOD:
        return Ending(status=1, output=bytes(talk.output), last_words=f"it said more than {_MOST_BYTES >> 20} MiB")
    return Ending(status=None if talk.ended is _End.LATE else status, output=bytes(talk.output), last_words=words)


class _End(Enum):
    """Why listening to a program ended: it did, its time was up, or it said more than any answer has."""

    DONE = "done"
    LATE = "late"
    FLOOD = "flood"


@dataclass(kw_only=True)
class _Talk:
    """What a program has said so far: all of its stdout, the end of its stderr."""

    output: bytearray = field(default_factory=bytearray)
    chatter: bytearray = field(default_factory=bytearray)
    heard: int = 0
    ended: _End = _End.DONE

    def hear(self, said: bytes, *, is_output: bool) -> None:
        self.heard += len(said)
        if is_output:
            self.output += said
        else:
            self.chatter += said
            del self.chatter[:-_KEPT_CHATTER_BYTES]


def _listen(process: subprocess.Popen[bytes], deadline: float) -> _Talk:
    """Hear the program out until it has ended, is late, or says too much.

    A process that it leaves behind may hold the pipes open for ever: what is there a moment after its own end is all.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    talk, last_call = _Talk(), None
    with selectors.DefaultSelector() as pipes:
        for pipe in (process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
            pipes.register(pipe, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if last_call is None and _has_ended(process):
                last_call = now + _ECHO_SECONDS
            if last_call is not None and (now >= last_call or not pipes.get_map()):
                return talk
            if now >= deadline:
                talk.ended = _End.LATE
                return talk
            if talk.heard > _MOST_BYTES:
                talk.ended = _End.FLOOD
                return talk
            left = min(deadline, last_call or deadline) - now
            if not pipes.get_map():
                time.sleep(min(left, _GLANCE_SECONDS / 10))  # it has closed both: the end is near, as a rule
                continue
            for key, _ in pipes.select(min(left, _GLANCE_SECONDS)):
                said = os.read(key.fd, 65536)
                talk.hear(said, is_output=key.fileobj is process.stdout)
                if not said:
                    pipes.unregister(key.fileobj)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without taking note of it: while it is not, its number and its group's are not given to anybody else."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # somebody ignores SIGCHLD: the kernel takes note of all ends
        return True


def _put_away(process: subprocess.Popen[bytes]) -> int:
    """End the program and whatever it left behind; its exit status. One that waits in the kernel cannot be ended:
    leave it rather than wait.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_LAST_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.returncode = -9  # nobody waits for it any more; without this Popen warns when it is collected
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return process.returncode


def _gather(output: bytes) -> tuple[dict[str, Any] | None, str]:
    """The child's answer put together from its lines, and the question at which they end, or "".

    Whatever start-up hooks printed between them does not matter.
    """
    answer: dict[str, Any] | None = None
    question = ""
    for line in map(bytes.rstrip, io.BytesIO(output)):  # one at a time: eight million empty ones are possible
        if line.startswith(b"?"):
            question = _shown(line[1:].decode(errors="replace"))
        elif line == b".":
            question = ""
        elif line.startswith(b"{"):
            message = parse(line)
            if answer is None and ("gpus" in message or "stage" in message):
                answer = message
            elif answer is not None:
                _add(answer, message)
    return answer, "" if answer is not None and "stage" in answer else question


def _add(answer: dict[str, Any], message: Mapping[str, Any]) -> None:
    """Put one extra where it belongs: to its GPU, or for links and what concerns the host to the whole."""
    places = message.get("of")
    gpus = answer.get("gpus")
    if not isinstance(places, list) or not isinstance(gpus, list):
        return
    found = {word: value for word, value in message.items() if word != "of"}
    if "link" in found:
        answer.setdefault("links", []).append({"of": places, **found})
    elif not places or "driver" in found:
        answer.update(found)
    elif isinstance(places[0], int) and 0 <= places[0] < len(gpus) and isinstance(gpus[places[0]], dict):
        gpus[places[0]].update(found)


def parse(text: bytes) -> dict[str, Any]:
    """A JSON object, or an empty one where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _last_line(chatter: bytes) -> str:
    return _shown(chatter.decode(errors="replace").strip().rpartition("\n")[2])


def _shown(words: str) -> str:
    """A program's words as they may stand in a sentence: short, and without what would steer a terminal."""
    return "".join(letter for letter in words.strip()[:_LONGEST] if letter.isprintable())


def _explain(ending: Ending, question: str, timeout_seconds: float) -> tuple[str, str]:
    """(reason, hint) for a child that ended, or was ended, without an answer."""
    words = f" (it said: {ending.last_words})" if ending.last_words else ""
    asked = f" when asked {question}" if question else ""
    if ending.status is None:
        return (
            f"the AMD driver did not answer amdsmi within {timeout_seconds:g} seconds{asked}; it may be wedged",
            "look at `dmesg | grep amdgpu` on the host and reboot it if a GPU hangs; AIM_DETECT_TIMEOUT waits longer",
        )
    if ending.status < 0:
        return (
            f"amdsmi crashed{asked}: signal {-ending.status}{words}",
            "the amdsmi package and ROCm's libamd_smi.so probably differ in version; use the one that ROCm ships",
        )
    return (
        f"what amdsmi answered cannot be read: exit status {ending.status}{words}",
        f"see what it says: {' '.join(COMMAND)}",
    )
