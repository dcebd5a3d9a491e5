"""One question to amdsmi in a child process: an environment and a time limit in, an `Ending` out.

A wedged driver can hang any call of amdsmi for ever and a damaged library can end its process, so it is never loaded
into ours. This is the one place outside of runtime/ and deploy/ that starts a process. What the answer means is in
amd_answer.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("amd_child.py")
_LAST_GRACE_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the child ended: its answer, or what is known of why there is none. `status` None means the time was up."""

    answer: Mapping[str, Any] | None = None
    status: int | None = None
    last_words: str = ""


def run_child(
    environment: Mapping[str, str], timeout_seconds: float, *, script: Path = CHILD, arguments: Sequence[str] = ()
) -> Ending:
    """Run the child and take its answer, whatever becomes of it."""
    try:
        process = subprocess.Popen(
            # -P: neither the current folder nor this package's may shadow a module. Not -I: PYTHONPATH may lead to
            # amdsmi.
            [sys.executable, "-P", str(script), *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for us to answer, not for the child to print a traceback about
        )
    except OSError as error:
        return Ending(status=1, last_words=f"it did not start: {error}")
    try:
        output, chatter = process.communicate(timeout=timeout_seconds)
        return Ending(answer=_parse(output), status=process.returncode, last_words=_last_line(chatter))
    except subprocess.TimeoutExpired:
        return Ending()
    finally:
        _put_away(process)


def _put_away(process: subprocess.Popen[bytes]) -> None:
    """End the child if it still runs. One that waits in the kernel cannot be ended: leave it rather than wait."""
    if process.poll() is None:
        process.kill()
        try:
            process.wait(_LAST_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.returncode = -9  # nobody waits for it any more; without this Popen warns when it is collected
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _parse(output: bytes) -> Mapping[str, Any] | None:
    """The last line as a JSON object; whatever start-up hooks printed before it does not matter."""
    lines = output.splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _last_line(chatter: bytes) -> str:
    lines = chatter.decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""


def explain(ending: Ending, timeout_seconds: float) -> tuple[str, str]:
    """(reason, hint) for a child that ended, or was ended, without an answer."""
    words = f" (it said: {ending.last_words})" if ending.last_words else ""
    if ending.status is None:
        return (
            f"the AMD driver did not answer amdsmi within {timeout_seconds:g} seconds; it may be wedged",
            "look at `dmesg | grep amdgpu` on the host and reboot it if a GPU hangs; AIM_DETECT_TIMEOUT waits longer",
        )
    if ending.status < 0:
        return (
            f"amdsmi crashed while it was asked for the GPUs: signal {-ending.status}{words}",
            "the amdsmi package and ROCm's libamd_smi.so probably differ in version; use the one that ROCm ships",
        )
    return (
        f"what amdsmi answered cannot be read: exit status {ending.status}{words}",
        f"see what it says: {sys.executable} -P {CHILD}",
    )
