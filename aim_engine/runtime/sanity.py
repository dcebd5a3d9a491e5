"""Are its answers sane: replies to a few fixed questions in, `Sanity` out: what was checked, what failed, and a remedy.

Pure. Asks nothing: that is `questions`' to do. What counts as insane is data with its reason, below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# vLLM writes -inf as this (completion/serving.py); what a greedy choice has this probability was chosen from nothing.
_NO_PROBABILITY = -9999.0
# On the average of an answer's own first choices. Logits that are all alike give -10.4 with 32,000 tokens and -11.9
# with 150,000; a network of random weights -3.4 (measured), a trained one more than -2.
_LEAST_MEAN_LOGPROB = -7.0
# Shorter answers have ended by themselves: they cannot be endless.
_LEAST_TOKENS = 32
# "!!!!" and the like, at the answer's end: token 0 again and again is what NaN and zero become (vllm#13035, #37996).
_LONGEST_RUN = 16
# Of an answer's sequences of three tokens, those that differ. Text has more than 0.9; a loop of five tokens in 64 has
# 0.08, one of seven 0.11. Longer loops pass: greedy decoding of small, sound models makes them too (arXiv:1904.09751).
_GRAM = 3
_LEAST_DISTINCT = 0.12
# What is no UTF-8 is shown as U+FFFD. The one at the end may be a character that the token limit cut in two.
_MOST_REPLACED = 0.05
_REPLACEMENT = "\ufffd"

HINT = (
    "a kernel computes wrongly, or the checkpoint is damaged: try VLLM_ROCM_USE_AITER=0, then AIM_PRECISION=bf16, then "
    "another engine image; AIM_SANITY=0 serves it all the same"
)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What one question brought. `logprobs` is None where the engine gives none, and `unwritable` what it said instead
    of an answer with them; `refused` says why there is no answer at all.
    """

    question: str
    text: str = ""
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float | None, ...] | None = None
    unwritable: str = ""
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """The reply to a question, and where that one was doubtful the reply to the same one asked with temperature 1."""

    greedy: Reply
    sampled: Reply | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """`passed` is None for what could not be checked; the sentence says why, or what failed."""

    name: str
    passed: bool | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Sanity:
    """`passed` is None where nothing could be checked, which keeps nobody from being ready."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool | None:
        verdicts = [check.passed for check in self.checks if check.passed is not None]
        return all(verdicts) if verdicts else None

    @property
    def hint(self) -> str:
        """What to try where it failed."""
        return HINT if self.passed is False else ""

    @property
    def sentence(self) -> str:
        """What failed, or that it passed."""
        failed = [check.sentence for check in self.checks if check.passed is False]
        if failed:
            return f"its answers are not sane: {'; '.join(failed)}"
        if self.passed is None:
            return f"its answers were not checked: {self.checks[0].sentence if self.checks else 'nothing was asked'}"
        return f"its answers are sane: {', '.join(check.name for check in self.checks if check.passed)}"

    def as_json(self) -> dict[str, Any]:
        """`{passed, sentence, hint, checks: [{name, passed, sentence}]}`."""
        checks = [{"name": one.name, "passed": one.passed, "sentence": one.sentence} for one in self.checks]
        return {"passed": self.passed, "sentence": self.sentence, "hint": self.hint, "checks": checks}


def is_doubtful(reply: Reply) -> bool:
    """Whether the same is to be asked once more with temperature 1: a sound model leaves a loop then."""
    return not reply.refused and any(find(reply) for find in (_emptiness, _foreign_bytes, _repetition))


def judge(exchanges: Sequence[Exchange]) -> Sanity:
    """All checks over all answers. One insane answer is enough: those that might be a sound model's habit were asked
    for twice.
    """
    answered = [exchange for exchange in exchanges if not exchange.greedy.refused]
    if not answered:
        why = next((exchange.greedy.refused for exchange in exchanges), "nothing was asked")
        return Sanity(checks=(Check(name="answers", passed=None, sentence=f"it does not answer in text ({why})"),))
    return Sanity(
        checks=(
            _check("numbers", answered, _numbers, "all log-probabilities are numbers"),
            _check("certainty", answered, _flatness, "the chosen tokens stand out"),
            _check("text", answered, _twice(_emptiness), "no answer is empty"),
            _check("characters", answered, _twice(_foreign_bytes), "the answers are UTF-8"),
            _check("repetition", answered, _twice(_repetition), "no answer repeats itself endlessly"),
            *(
                Check(name=one.greedy.question, passed=None, sentence=f"not asked: {one.greedy.refused}")
                for one in exchanges
                if one.greedy.refused
            ),
        )
    )


Find = Callable[[Reply], str]


def _check(name: str, exchanges: Sequence[Exchange], find: Callable[[Exchange], str | None], well: str) -> Check:
    found = [(exchange.greedy.question, find(exchange)) for exchange in exchanges]
    wrong = [f"{said} ({question})" for question, said in found if said]
    if wrong:
        return Check(name=name, passed=False, sentence=wrong[0])
    if all(said is None for _, said in found):
        return Check(name=name, passed=None, sentence="the engine gives no log-probabilities")
    return Check(name=name, passed=True, sentence=well)


def _twice(find: Find) -> Callable[[Exchange], str]:
    def found(exchange: Exchange) -> str:
        said = find(exchange.greedy)
        again = exchange.sampled is None or exchange.sampled.refused or find(exchange.sampled)
        return said if said and again else ""

    return found


def _numbers(exchange: Exchange) -> str | None:
    """NaN reaches us as NaN, as null, or as an error of the engine that could not write it as JSON."""
    for reply in (exchange.greedy, exchange.sampled):
        if reply is None:
            continue
        if reply.unwritable:
            return f"asked for log-probabilities, it fails: {reply.unwritable}"
        wrong = [one for one in reply.logprobs or () if one is None or not math.isfinite(one) or one <= _NO_PROBABILITY]
        if wrong:
            return f"{len(wrong)} of {len(reply.logprobs or ())} log-probabilities are not finite"
    return None if exchange.greedy.logprobs is None else ""


def _flatness(exchange: Exchange) -> str | None:
    if exchange.greedy.logprobs is None:
        return None
    known = [one for one in exchange.greedy.logprobs if one is not None and math.isfinite(one)]
    mean = sum(known) / len(known) if known else 0.0
    return f"it chooses at random: {mean:.1f} is the mean log-probability" if mean < _LEAST_MEAN_LOGPROB else ""


def _emptiness(reply: Reply) -> str:
    return "" if reply.text.strip() else "an empty answer"


def _foreign_bytes(reply: Reply) -> str:
    text = reply.text.rstrip(_REPLACEMENT)
    share = text.count(_REPLACEMENT) / len(text) if text else 0.0
    return f"{share:.0%} of an answer is no UTF-8" if share > _MOST_REPLACED else ""


def _repetition(reply: Reply) -> str:
    tokens = reply.tokens
    if len(tokens) < _LEAST_TOKENS:
        return ""
    run = next((at for at, token in enumerate(reversed(tokens)) if token != tokens[-1]), len(tokens))
    if run >= _LONGEST_RUN:
        return f"the token {tokens[-1]!r} {run} times in a row"
    grams = [tokens[at : at + _GRAM] for at in range(len(tokens) - _GRAM + 1)]
    distinct = len(set(grams)) / len(grams)
    if distinct < _LEAST_DISTINCT:
        return f"{''.join(tokens[-8:])!r} again and again: {len(set(grams))} of {len(grams)} sequences differ"
    return ""
