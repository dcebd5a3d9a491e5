"""Two ways to run the command: `cli` in this process, and `process` as users do."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aim_engine.cli.main import main

NOBODY = 54321  # a user id that no passwd entry names


@dataclass(frozen=True)
class Done:
    """What a run left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def last_words(self) -> Any:
        """The last line of stderr, which is JSON after every failure."""
        return json.loads(self.stderr.strip().splitlines()[-1])


Run = Callable[..., Done]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command in this process, with nothing in the environment but what is given."""

    def run(*words: str, **environment: str) -> Done:
        assert words[:1] != ("serve",) or "--help" in words, "serve holds signals and becomes another program"
        for name in list(os.environ):
            if name.startswith(("AIM_", "VLLM_", "HF_", "NO_COLOR", "FORCE_COLOR")):
                monkeypatch.delenv(name)
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        try:
            code = main(words)
        except SystemExit as ended:  # --help and --version
            code = int(ended.code or 0)
        out = capsys.readouterr()
        assert "Traceback" not in out.out + out.err
        return Done(code, out.out, out.err)

    yield run
    gc.enable()  # main switches it off, because a command ends before collecting would pay


def interrupting(folder: Path) -> str:
    """A folder for PYTHONPATH by which it is as if ^C came while a model's config is opened."""
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "def hear(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith('config.json'):\n"
        "        raise KeyboardInterrupt\n"
        "sys.addaudithook(hear)\n"
    )
    return str(folder)


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """Run the command as a process of its own, with nothing in its environment but what is given."""

    def run(*words: str, cwd: Path | None = None, uid: int | None = None, **environment: str) -> Done:
        argv = [sys.executable, "-m", "aim_engine.cli.main", *words]
        if uid is not None:
            argv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *argv]
        done = subprocess.run(
            argv,
            env={"PATH": os.environ["PATH"], **environment},
            cwd=cwd or tmp_path,
            capture_output=True,
            encoding=environment.get("PYTHONIOENCODING", "utf-8"),
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


def _nobody_can_run_python() -> bool:
    if os.getuid() != 0 or not shutil.which("setpriv"):
        return False
    argv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", sys.executable, "-c", "import json"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def nobody() -> int:
    """A user id without a name, a home or a right; only root can become it."""
    if not _nobody_can_run_python():
        pytest.skip("needs root, setpriv, and a Python that others may run")
    return NOBODY
