"""The names of what can be wrong with a recipe or a model card, and what each means. A table: imports nothing."""

from __future__ import annotations

KINDS = {
    "yaml": "the file cannot be read, or is not YAML",
    "schema": "a key that is unknown or missing, a value that is not legal, keys that contradict each other",
    "place": "a file that is not called like its recipe, or does not lie in its model's folder",
    "repeated": "two recipes of one id",
    "record": "a record of what an engine's parser accepted (parsed.json) that cannot be read: a warning",
    "evidence": "evidence that nobody can look up, or that lacks what its level rests on",
    "visibility": "a variable that chooses among the user's GPUs",
    "loader": "a variable that changes what programs are loaded",
    "secret": "a key, a token or a password",
    "setting": "a variable that is a setting of AIM Engine",
    "idle-switch": "a switch for a part of AITER that is on while AITER is off, and so does nothing",
    "option": "an option that no known version of the engine has, or that is AIM Engine's to set",
    "variable": "a variable that no known version of the engine has, or (a warning) that no library documents",
    "value": "a value that an option cannot have",
    "aiter": "AITER on a GPU that it has no kernels for",
    "quick-reduce": "quick all-reduce on a GPU that it has no kernels for",
    "fp8": "fp8 on a GPU that does not compute in it",
    "precision": "another precision than the checkpoint's own, without the option that would make it so",
    "nvfp4": "a checkpoint in NVFP4, which no AMD GPU computes in",
    "heads": "a number of GPUs that does not divide the model's heads",
    "width": "a number of GPUs that does not divide the width of the model's layers",
    "fp8-blocks": "a number of GPUs that leaves each less than whole blocks of fp8 scales",
    "memory": "a variant that does not fit on its own hardware, by the memory ledger",
    "unreachable": "a recipe or variant that no hardware can ever reach",
    "tie": "two variants of which neither could ever be preferred",
    "engine": "what the installed engine's own parser refuses, all options together",
    "ill-typed": "a value that the installed engine does not take",
    "unknown": "a name that the installed engine does not know, nor any other version",
    "newer": "a name that only later versions of the installed engine know",
    "removed": "a name that the installed engine knows no more",
    "renamed": "a name that the installed engine has under another one, which is used",
    "deprecated": "a name that the installed engine is about to drop",
}
# Those that only an installed engine can tell.
OF_ENGINES = ("engine", "ill-typed", "unknown", "newer", "removed", "renamed", "deprecated")
