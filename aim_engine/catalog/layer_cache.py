"""What a model's layers keep of the tokens that were read: vectors for each token, or a state of fixed size.

Values only, in elements and not bytes: what they cost depends on the engine, its GPUs and its arguments, of which this
knows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TokenCache:
    """Vectors that a layer keeps for each token: `key_dim` + `value_dim` elements for each of `heads` KV heads.

    With a `window`, only those of the last tokens; with a `chunk`, only those of the chunk that is being read. `latent`
    is one vector for all heads (MLA), which every GPU keeps whole; `element_bytes` is set where the size of an element
    is the model's and not to be chosen.
    """

    heads: int
    key_dim: int
    value_dim: int
    window: int = 0
    chunk: int = 0
    latent: bool = False
    element_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class StatePart:
    """One tensor of a layer's state: `rows` of `columns` elements, the rows divided among the GPUs. `groups` of
    `group_rows` come on top, at least one group for each GPU. `recurrent` is the part whose precision the engine
    chooses apart (mamba-ssm-cache-dtype); `element_bytes` is what the family keeps it in, 0 where that is the model's.
    """

    rows: int
    columns: int
    groups: int = 0
    group_rows: int = 0
    recurrent: bool = False
    element_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class StateCache:
    """A state of fixed size for each request: a convolution's last inputs, a recurrence's memory. `checkpoints` is how
    many more of it are kept where prefixes are remembered.
    """

    parts: tuple[StatePart, ...]
    checkpoints: int = 0


LayerCache = TokenCache | StateCache
LayerCaches = tuple[tuple[LayerCache, ...], ...]  # for each layer, in order, what it keeps; one may keep nothing
