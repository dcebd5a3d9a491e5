"""sanity.py, questions.py: which answers are sane, and how they are asked for."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.questions import QUESTIONS, NotAnsweredError, Question, examine, read_reply
from aim_engine.runtime.sanity import Exchange, Reply, Sanity, is_doubtful, judge

from .conftest import Serve

URL = "http://127.0.0.1:1/v1/completions"
TEXT = (
    "Rome , the city on the seven hills , which was founded more than two thousand years ago by two brothers who had "
    "been raised by a wolf ; so at least the old books tell it , and every child in the country learns the story at "
    "school , together with the names of the kings . Nobody believes it"
)
SANE = tuple(TEXT.split())


def reply(tokens: tuple[str, ...] = SANE, logprobs: tuple[float | None, ...] | None = (), **more: Any) -> Reply:
    given = (-1.2,) * len(tokens) if logprobs == () else logprobs
    return Reply(question="a fact", text="".join(tokens), tokens=tokens, logprobs=given, **more)


def judged(greedy: Reply, sampled: Reply | None = None) -> Sanity:
    return judge([Exchange(greedy=reply()), Exchange(greedy=greedy, sampled=sampled)])


def failed(sanity: Sanity) -> list[str]:
    return [check.name for check in sanity.checks if check.passed is False]


def test_what_is_sane_passes() -> None:
    found = judged(reply())
    assert found.passed is True
    assert found.hint == ""
    assert [check.name for check in found.checks] == ["numbers", "certainty", "text", "characters", "repetition"]
    assert found.sentence == "its answers are sane: numbers, certainty, text, characters, repetition"


@pytest.mark.parametrize(
    ("name", "greedy", "words"),
    [
        ("numbers", reply(logprobs=(-1.0, math.nan)), "1 of 2 log-probabilities are not finite"),
        ("numbers", reply(logprobs=(-1.0, -math.inf)), "not finite"),
        ("numbers", reply(logprobs=(None, -1.0)), "not finite"),
        ("numbers", reply(logprobs=(-9999.0,)), "not finite"),
        ("numbers", reply(unwritable="the engine answered 500: nan"), "it fails: the engine answered 500: nan"),
        # logits that are all alike, of 32,000 tokens
        ("certainty", reply(logprobs=(-math.log(32000),) * 64), "chooses at random: -10.4"),
        ("text", reply(tokens=()), "an empty answer"),
        ("text", reply(tokens=(" ", "\n")), "an empty answer"),
        ("characters", reply(tokens=("ab\ufffd",) * 8 + ("c",)), "is no UTF-8"),
        ("repetition", reply(tokens=("!",) * 64), "the token '!' 64 times in a row"),
        ("repetition", reply(tokens=(*SANE[:48], *("!",) * 16)), "the token '!' 16 times in a row"),
        ("repetition", reply(tokens=("I", " am", " a", " fox", ".") * 13), "again and again: 5 of 63"),
    ],
)  # fmt: skip
def test_what_is_not_sane(name: str, greedy: Reply, words: str) -> None:
    found = judged(greedy, greedy)
    assert failed(found)[0] == name
    assert found.passed is False
    assert words in found.sentence
    assert "VLLM_ROCM_USE_AITER=0" in found.hint
    assert found.as_json()["checks"][0]["name"] == "numbers"


@pytest.mark.parametrize(
    "tokens",
    [
        SANE,
        ("!",) * 20,  # ended by itself
        (*SANE[:56], *("_",) * 8),  # a gap to be filled in
        # small models without a fault go round in circles, too: a sentence of ten words
        ("the", "fox", "sees", "a", "dog", "and", "the", "dog", "runs", "away") * 6,
        ("x",) * 16 + SANE[:48],  # it got out of it
        tuple(str(number) for number in range(64)),
        (*SANE, "\ufffd"),  # the limit cut a character in two
    ],
)
def test_habits_that_are_no_fault(tokens: tuple[str, ...]) -> None:
    assert not is_doubtful(reply(tokens=tokens))
    assert judged(reply(tokens=tokens)).passed is True


def test_a_loop_that_a_warmer_answer_leaves_is_a_habit() -> None:
    loop = reply(tokens=("!",) * 64)
    assert is_doubtful(loop)
    assert judged(loop, reply()).passed is True
    assert failed(judged(loop, loop)) == ["repetition"]


def test_an_engine_without_log_probabilities_is_judged_by_its_text() -> None:
    found = judge([Exchange(greedy=reply(logprobs=None))])
    assert [check.passed for check in found.checks] == [None, None, True, True, True]
    assert found.passed is True


def test_a_question_that_is_refused_is_not_a_fault() -> None:
    chat = Reply(question="a chat", refused="the engine answered 400: there is no chat template")
    found = judge([Exchange(greedy=reply()), Exchange(greedy=chat)])
    assert found.passed is True
    assert found.checks[-1].sentence == "not asked: the engine answered 400: there is no chat template"


def test_a_model_that_does_not_write_is_skipped_with_a_sentence() -> None:
    found = judge([Exchange(greedy=Reply(question="a fact", refused="the engine answered 404: it makes embeddings"))])
    assert found.passed is None
    assert found.hint == ""
    assert found.sentence == (
        "its answers were not checked: it does not answer in text (the engine answered 404: it makes embeddings)"
    )


# --- asking


def completion(tokens: tuple[str, ...], logprobs: tuple[float, ...] | None) -> str:
    given = None if logprobs is None else {"tokens": tokens, "token_logprobs": logprobs}
    return json.dumps({"choices": [{"text": "".join(tokens), "logprobs": given}]})


def conversation(tokens: tuple[str, ...]) -> str:
    content = [{"token": token, "logprob": -0.5} for token in tokens]
    message = {"content": None, "reasoning_content": "".join(tokens)}
    return json.dumps({"choices": [{"message": message, "logprobs": {"content": content}}]})


class Engine:
    """Answers as it was told, and remembers what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.answers = answers

    def __call__(self, url: str, body: Mapping[str, Any]) -> tuple[int, str]:
        self.asked.append(body)
        if "messages" in body:
            assert url == "http://127.0.0.1:1/v1/chat/completions"
            found = self.answers.get("chat", (200, conversation(SANE)))
        elif body["temperature"] == 1:
            found = self.answers["sampled"]
        elif "logprobs" not in body:
            found = self.answers["plain"]
        else:
            found = self.answers.get("greedy", (200, completion(SANE, (-1.0,) * len(SANE))))
        status, text = found
        return status, text

    def examine(self) -> Sanity:
        return examine(self, completions_url=URL, model="tiny")


def test_every_question_is_asked_once_where_all_is_well() -> None:
    engine = Engine()
    assert engine.examine().passed is True
    assert len(engine.asked) == len(QUESTIONS) == 4
    assert {body["model"] for body in engine.asked} == {"tiny"}
    assert {body["temperature"] for body in engine.asked} == {0}


def test_what_is_doubtful_is_asked_again() -> None:
    loop = (200, completion(("!",) * 64, (-0.1,) * 64))
    engine = Engine(greedy=loop, sampled=loop)
    assert failed(engine.examine()) == ["repetition"]
    assert [body["temperature"] for body in engine.asked] == [0, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("status", [400, 500])  # vLLM 0.32, and where nobody catches it
def test_numbers_that_cannot_be_written(status: int) -> None:
    """Python's JSON encoder refuses NaN; without log-probabilities the engine answers."""
    words = '{"error": {"message": "Out of range float values are not JSON compliant: nan"}}'
    plain = (200, completion(("!",) * 64, None))
    engine = Engine(greedy=(status, words), plain=plain, sampled=plain)
    found = engine.examine()
    assert failed(found) == ["numbers", "repetition"]
    assert f"the engine answered {status}: Out of range float values" in found.sentence


def test_numbers_that_are_not_to_be_had() -> None:
    """--max-logprobs 0."""
    engine = Engine(greedy=(400, '{"error": {"message": "too many logprobs"}}'), plain=(200, completion(SANE, None)),
                    chat=(400, "no template"))  # fmt: skip
    found = engine.examine()
    assert found.passed is True
    assert {check.name: check.passed for check in found.checks}["numbers"] is None
    assert found.checks[-1].sentence == "not asked: the engine answered 400: no template"


@pytest.mark.parametrize("answer", [(0, ""), (503, "stopping"), (429, "too many")])
def test_a_server_that_is_busy_or_gone_says_nothing_of_its_answers(answer: tuple[int, str]) -> None:
    with pytest.raises(NotAnsweredError):
        Engine(greedy=answer).examine()


def test_a_server_that_fails_either_way_says_nothing_of_its_answers() -> None:
    with pytest.raises(NotAnsweredError, match="500: broken"):
        Engine(greedy=(500, "broken"), plain=(500, "broken")).examine()


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"choices": []}', '{"choices": [[]]}', "[" * 100_000])
def test_an_answer_of_another_kind_is_no_answer(body: str) -> None:
    assert read_reply(QUESTIONS[0], body).refused


def test_nan_as_python_writes_it() -> None:
    body = '{"choices": [{"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [NaN]}}]}'
    found = judge([Exchange(greedy=read_reply(Question(name="a fact", text=""), body))])
    assert failed(found) == ["numbers"]


# --- in a run


def test_a_run_whose_answers_are_sane_becomes_ready(serve: Serve) -> None:
    server = serve("--answer", TEXT, sanity=True)
    server.until_ready()
    assert server.status()["sanity"]["passed"] is True
    assert "its answers are sane" in server.err


def test_a_run_whose_answers_are_not_sane_does_not_become_ready(serve: Serve) -> None:
    server = serve("--answer", "!" * 64, sanity=True)
    server.until(lambda: "not sane" in server.status().get("reason", ""))
    status, body = server.get("/health/ready")
    assert status == 503
    assert "the token '!' 64 times in a row" in json.loads(body)["reason"]
    assert "VLLM_ROCM_USE_AITER=0" in json.loads(body)["hint"]
    assert server.status()["phase"] == "probing"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_nothing_is_asked_unless_it_was_asked_for(serve: Serve) -> None:
    server = serve("--answer", "!" * 64)
    server.until_ready()
    assert server.status()["sanity"] is None


def test_another_sidecar_does_not_ask_again(serve: Serve) -> None:
    """What was ready stays ready, however long the questions take."""
    server = serve("--answer", TEXT, sanity=True)
    server.until_ready()
    sidecar = next(pid for pid in server.tree() if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"sidecar\0"))
    os.kill(sidecar, signal.SIGKILL)
    server.until(lambda: server.status().get("phase") == "ready" and server.status()["sanity"] is None)
