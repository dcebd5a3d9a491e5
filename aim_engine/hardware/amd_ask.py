"""Questions to AMD's tools in a process of their own: an environment and a time limit in, their words out.

A wedged driver can hang any call of amdsmi for ever and a damaged library can end its process, so it is never loaded
into ours. This is the one place outside of runtime/ and deploy/ that starts a process. What the answers mean is in
amd_answer.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("amd_child.py")
# -P: neither the current folder nor this package's may shadow a module. Not -I: PYTHONPATH may lead to amdsmi.
COMMAND = (sys.executable, "-P", str(CHILD))
_LAST_GRACE_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a program ended, with all it said until then. `status` None means the time was up; `answer` is the JSON
    object in the last line of a child that gives one.
    """

    answer: Mapping[str, Any] | None = None
    status: int | None = None
    last_words: str = ""
    output: bytes = b""


def ask_raw(environment: Mapping[str, str], timeout_seconds: float) -> Mapping[str, Any]:
    """What amdsmi answers, as amd_answer.read_answer understands it: JSON that may as well be kept in a file.

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
    last = ending.output.splitlines()[-1:] if ending.status is not None else []
    return replace(ending, answer=parse(last[0]) or None if last else None)


def run(command: Sequence[str], environment: Mapping[str, str], timeout_seconds: float) -> Ending:
    """Run a program and take what it says, whatever becomes of it."""
    try:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for us to answer; and one signal ends it with all its children
        )
    except OSError as error:
        return Ending(status=1, last_words=f"it did not start: {error}")
    try:
        output, chatter = process.communicate(timeout=timeout_seconds)
        return Ending(status=process.returncode, output=output, last_words=_last_line(chatter))
    except subprocess.TimeoutExpired as expired:
        return Ending(status=None, output=expired.output or b"")
    finally:
        _put_away(process)


def _put_away(process: subprocess.Popen[bytes]) -> None:
    """End the program if it still runs. One that waits in the kernel cannot be ended: leave it rather than wait."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(_LAST_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.returncode = -9  # nobody waits for it any more; without this Popen warns when it is collected
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _gather(output: bytes) -> tuple[dict[str, Any] | None, str]:
    """The child's answer put together from its lines, and the question at which they end, or "".

    Whatever start-up hooks printed between them does not matter.
    """
    answer: dict[str, Any] | None = None
    question = ""
    for line in output.splitlines():
        if line.startswith(b"?"):
            question = line[1:].decode(errors="replace")
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
    lines = chatter.decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""


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
