"""Texts that a shell, a format, a list or a terminal would obey."""

from __future__ import annotations

TEXTS = {
    "quotes": 'it\'s "quoted"',
    "spaces": "  two  words ",
    "newline": "first\nsecond: --privileged",
    "substitution": "$(touch injected) ${HOME} $HOME",
    "backticks": "`touch injected`",
    "dash": "-v=x --privileged",
    "percent": "100%s %n %(asctime)s %%",
    "separators": "a;touch injected|b&c>injected,readonly:ro=x",
    "unicode": "模型 é 🚀",
    "right to left": "abc\u202egnp.exe",
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "backslash": "a\\nb\\",
}
LONG = "x" * 4096
