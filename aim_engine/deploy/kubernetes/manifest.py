"""The words that every object of Kubernetes is made of: names and values in, maps out. Knows no plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.deploy.yaml_text import Note

GIB, MIB = 1024**3, 1024**2

# A map with the keys of the Kubernetes API; its `Note` keys are comments.
Manifest = dict[str, Any]


def manifest(
    api: str,
    kind: str,
    name: str,
    *,
    namespace: str | None,
    labels: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
    **fields: Any,
) -> Manifest:
    """An object: who it is, and its further fields."""
    metadata: Manifest = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata["labels"] = dict(labels)
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}


def given(words: Mapping[str, Any]) -> Manifest:
    """The words that say something: None and what is empty are left out, a note's key stays."""
    return {key: value for key, value in words.items() if isinstance(key, str) and _says_something(key, value)}


def _says_something(key: str, value: Any) -> bool:
    return type(key) is not str or (value is not None and value not in ([], {}))


def merged(base: Manifest, patch: Manifest) -> Manifest:
    """The base with the patch laid over it, as a strategic merge patch of maps: null takes a key away, a list takes the
    place of a list. A key's comments go with it; where the patch has some of its own, these take their place.
    """
    keys = {key: (notes, base[key]) for key, notes in with_notes(base)}
    for key, notes in with_notes(patch):
        before, there = keys.get(key, ((), None))
        value = patch[key]
        if value is None:
            keys.pop(key, None)
        elif isinstance(value, dict) and isinstance(there, dict):
            keys[key] = (notes or before, merged(there, value))
        else:
            keys[key] = (notes or before, value)
    return {
        word: value for key, (notes, one) in keys.items() for word, value in (*((n, None) for n in notes), (key, one))
    }


def with_notes(found: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Note, ...]]]:
    """The keys of the API, each with the comments above it."""
    notes: list[Note] = []
    for key in found:
        if isinstance(key, Note):
            notes.append(key)
        else:
            yield key, tuple(notes)
            notes = []


def quantity(size_bytes: int) -> str:
    """Bytes as Kubernetes writes them, rounded up to whole MiB."""
    return f"{size_bytes // GIB}Gi" if size_bytes % GIB == 0 else f"{-(-size_bytes // MIB)}Mi"


def escaped(text: str) -> str:
    """A value of a variable, or an argument, that arrives as it is: there `$(NAME)` is another variable's value, and
    `$$` a dollar sign (kubernetes.io, "Define Dependent Environment Variables").
    """
    return text.replace("$", "$$")
