"""The shape of a model's text tower, in elements and not bytes. A value: knows no file, no engine and no GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aim_engine.catalog.layer_cache import LayerCaches, TokenCache


@dataclass(frozen=True, kw_only=True)
class Guess:
    """Why it is not known what the layers keep. `family` is a model_type that nobody lists, or ""; `signs` are words of
    the config that speak of something else than attention, and `unsure_layers` the numbers of the layers they are of.
    """

    family: str
    signs: tuple[str, ...] = ()
    unsure_layers: frozenset[int] = frozenset()

    @property
    def sentence(self) -> str:
        """`model_type rwkv9 is not one that AIM Engine knows`, and what speaks against a plain transformer."""
        named = (
            f"model_type {self.family} is not one that AIM Engine knows" if self.family else "no model_type is named"
        )
        return f"{named}, and its config names {', '.join(self.signs)}" if self.signs else named


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a transformer's text tower. `kv_lora_rank` + `qk_rope_head_dim` are set for multi-head latent
    attention, whose cache is one shared vector a token; `experts` is 0 for a dense model, `expert_width` the width of
    one where that is not `intermediate_size`. `caches` is what each layer keeps of the tokens, where that is not full
    attention in all of them; heads are 0 where there is no attention. `guess` is set where
    nobody has written down what the layers of its family keep.
    """

    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    intermediate_size: int
    max_context: int
    experts: int = 0
    kv_lora_rank: int = 0
    qk_rope_head_dim: int = 0
    expert_width: int = 0
    caches: LayerCaches = ()
    guess: Guess | None = None

    @property
    def main_cache(self) -> TokenCache:
        """What a layer of full attention keeps; engines size their blocks by it."""
        if self.kv_lora_rank:
            width = self.kv_lora_rank + self.qk_rope_head_dim
            return TokenCache(heads=1, key_dim=width, value_dim=0, latent=True)
        return TokenCache(heads=self.kv_heads, key_dim=self.head_dim, value_dim=self.head_dim)

    @property
    def layer_caches(self) -> LayerCaches:
        """For each layer, in order, what it keeps."""
        return self.caches or ((self.main_cache,),) * self.layers

    @property
    def at_least(self) -> Architecture:
        """The same with nothing in the layers of which it is not known what they keep."""
        unsure = self.guess.unsure_layers if self.guess else frozenset()
        kept = (() if number in unsure else caches for number, caches in enumerate(self.layer_caches))
        return replace(self, caches=tuple(kept))

    @property
    def at_most(self) -> Architecture:
        """The same with full attention by its numbers in every layer."""
        return replace(self, caches=(), kv_lora_rank=0)
