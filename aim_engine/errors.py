"""The error tree: what went wrong, what to do about it, and the exit code that says so to a program.

Every failure a user can meet is one of these. Nothing here knows how it is shown.

    AimError
    ├── UsageError                2   the command line itself is wrong
    ├── InputError               10   a setting, a file or a value that was given is wrong
    ├── NoAcceleratorError       20   no usable accelerator, or fewer than asked for
    ├── DoesNotFitError          21   the model does not fit in the memory that is there
    ├── NoRecipeError            30   no recipe fits the request on this hardware
    ├── CatalogError             31   a recipe or model file is wrong
    ├── ModelAccessError         40   the model is absent, gated, damaged or not a model
    ├── HubUnreachableError      41   the hub did not answer                        (worth one retry)
    ├── CacheError               42   a folder cannot be written, or the disk is full
    ├── EngineRefusedError       50   the engine refused its configuration
    ├── EngineCrashedError       51   the engine ended though nobody asked it to    (worth one retry)
    ├── EngineStartTimeoutError  52   the engine did not become ready in time       (worth one retry)
    ├── EngineHungError          53   the engine stopped making progress            (worth one retry)
    ├── DockerError              60   Docker refused or is not there
    ├── EndpointError            61   the endpoint answers wrongly or not at all
    └── InternalError            70   a bug in AIM Engine

Exit 0 means drained or done; 130 and 143 mean that a second signal, or the drain's time limit, cut the work short.
"""

from __future__ import annotations

from typing import Any, ClassVar


class AimError(Exception):
    """A failure with a sentence for people (`message`), a remedy (`hint`) and an exit code.

    `details` are further lines, for instance every error found in a folder of recipes.
    """

    code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    @property
    def error_class(self) -> str:
        """The name programs match on: the class name without its ending, e.g. `NoRecipe`."""
        return type(self).__name__.removesuffix("Error")

    def as_json(self) -> dict[str, Any]:
        """The last words: `{class, code, message, hint, retryable}` and `details` where there are any."""
        words: dict[str, Any] = {
            "class": self.error_class,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
        }
        if self.details:
            words["details"] = list(self.details)
        return words


class UsageError(AimError):
    """The command line itself is wrong."""

    code = 2


class InputError(AimError):
    """A setting, a file or a value that was given is wrong."""

    code = 10


class NoAcceleratorError(AimError):
    """No usable accelerator, or fewer than asked for."""

    code = 20


class DoesNotFitError(AimError):
    """The model does not fit in the memory that is there."""

    code = 21


class NoRecipeError(AimError):
    """No recipe fits the request on this hardware."""

    code = 30


class CatalogError(AimError):
    """A recipe or model file is wrong; `details` holds one line for each error found."""

    code = 31


class ModelAccessError(AimError):
    """The model is absent, gated, damaged or not a model."""

    code = 40


class HubUnreachableError(AimError):
    """The hub did not answer."""

    code = 41
    retryable = True


class CacheError(AimError):
    """A folder that must be written cannot be, or the disk is full."""

    code = 42


class EngineRefusedError(AimError):
    """The engine refused its configuration."""

    code = 50


class EngineCrashedError(AimError):
    """The engine ended though nobody asked it to."""

    code = 51
    retryable = True


class EngineStartTimeoutError(AimError):
    """The engine did not become ready in time."""

    code = 52
    retryable = True


class EngineHungError(AimError):
    """The engine stopped making progress."""

    code = 53
    retryable = True


class DockerError(AimError):
    """Docker refused or is not there."""

    code = 60


class EndpointError(AimError):
    """The endpoint answers wrongly or not at all."""

    code = 61


class InternalError(AimError):
    """A bug in AIM Engine."""

    code = 70


def error_classes() -> tuple[type[AimError], ...]:
    """Every class of failure, in the order of its code."""
    return tuple(sorted(AimError.__subclasses__(), key=lambda cls: cls.code))
