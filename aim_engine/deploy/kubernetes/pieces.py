"""What a component adds to the objects that serve a plan: values only. Knows no component."""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.deploy.kubernetes.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What a component adds: `objects` of its own; and `patches`, each a part of an object of the base (apiVersion,
    kind and metadata.name say which) that is laid over it, where null takes a key away. Lists are replaced whole.
    """

    objects: tuple[Manifest, ...] = ()
    patches: tuple[Manifest, ...] = ()
