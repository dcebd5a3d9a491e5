"""What no recipe may hold: names of variables and texts in, a complaint with its kind out. Knows no file.

Visibility is the user's, the loader's variables are an attack surface, and a secret must never stand in a file that is
printed.
"""

from __future__ import annotations

import re

from pydantic_core import PydanticCustomError

from aim_engine.secret_shapes import KEY, SHAPE, VARIABLE

_NAMES = (
    ("visibility", r"(HIP|CUDA|ROCR|AMD|NVIDIA)_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|CUDA_DEVICE_ORDER",
     "it chooses among the user's GPUs; leave it out, AIM Engine sets what is needed"),
    ("loader", r"LD_(PRELOAD|AUDIT|LIBRARY_PATH)|PYTHON(PATH|STARTUP|HOME|USERBASE|INSPECT|BREAKPOINT)|PATH|BASH_ENV"
     r"|GCONV_PATH|HSA_TOOLS_LIB",
     "it changes what programs are loaded; leave it out, or set it in the image"),
    ("secret", VARIABLE,
     "it holds a secret, and recipes are printed; leave it out and give it to the container (AIM_API_KEY, HF_TOKEN)"),
    ("setting", r"AIM_.*", "it is a setting of AIM Engine; leave it out"),
)  # fmt: skip
_FORBIDDEN = tuple((kind, re.compile(pattern, re.IGNORECASE), why) for kind, pattern, why in _NAMES)


def check_name(name: str) -> str:
    """The name of an environment variable that a recipe may set.

    Raises:
        PydanticCustomError: it is none; the error's type is the problem's kind.
    """
    for kind, pattern, why in _FORBIDDEN:
        if pattern.fullmatch(name):
            raise PydanticCustomError(kind, f"is not for a recipe to set: {why}")
    return name


def check_text(value: str) -> str:
    """A text that does not look like a secret.

    Raises:
        PydanticCustomError: it does; the text is not in the message.
    """
    if SHAPE.search(value):
        raise PydanticCustomError(
            "secret", "looks like a key or a password, and recipes are printed; take it out, and have it replaced"
        )
    return value


def check_inner_key(key: str) -> None:
    """A key inside a value that is a map.

    Raises:
        PydanticCustomError: its name says that a secret is there.
    """
    if KEY.fullmatch(key):
        raise PydanticCustomError(
            "secret", f"holds a secret by its name ({key}), and recipes are printed; leave it out of the recipe"
        )


def forbidden_names() -> str:
    """All of them, as one pattern."""
    return "|".join(pattern for _, pattern, _ in _NAMES)
