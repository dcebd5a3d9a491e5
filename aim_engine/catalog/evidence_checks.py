"""A recipe's evidence in, what its level lacks to be believed out, as (key, sentence, kind).

Text only: nothing is looked up, and no clock is asked (a host whose clock is wrong must start all the same).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping

_PARSED_BY = "aim-engine validate --engine"
# A host with something behind it (github.com/org/repository, docs.vllm.ai/x, https://huggingface.co/x), or a paper's
# number: what anybody can open. Two letters at the end of the host keep version numbers and addresses out.
_CITATION = re.compile(r"\b(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?/[\w~.-]|\barxiv:\s?\d{4}\.\d{4,5}", re.IGNORECASE)
_CITED = (
    "what is reported has a citation that anybody can look up, such as github.com/ORG/REPOSITORY, docs.vllm.ai/PAGE or "
    "arXiv:2309.06180; write such a place, or say level: derived"
)


def unproved(place: str, evidence: Mapping[str, str], gpu_type: str) -> Iterator[tuple[str, str, str]]:
    """What a level of evidence needs besides its name, so that anybody can look it up or tell when it is outdated."""
    level, source = evidence.get("level", "derived"), evidence.get("source", "").strip()
    if level == "reported" and not _CITATION.search(source):
        lacks = "is missing" if not source else "names no public place"
        yield f"{place}.source", f"{lacks}: {_CITED}", "evidence"
    if level == "parsed" and not source.startswith(_PARSED_BY):
        yield (f"{place}.source", f'must begin with "{_PARSED_BY}", the only one to say so; what nobody has '
               "run is derived or reported", "evidence")  # fmt: skip
    if level in ("served", "measured") and not _names(source, gpu_type):
        lacks = "is missing" if not source else f"does not say that it was {level} on {gpu_type}"
        yield (f"{place}.source", f"{lacks}: name what was run and the GPUs that it was run on, such as "
               f'"8 x {gpu_type}, scripts/bench of 2026-11-22"', "evidence")  # fmt: skip
    if level in ("parsed", "served", "measured") and not re.search(r"\d+\.\d+", evidence.get("engine", "")):
        yield f"{place}.engine", f"must name the version that it was {level} with, such as vllm 0.32.0", "evidence"


def is_future(date: str, today: datetime.date) -> bool:
    """Whether a day, as the reader of recipes lets it pass, has begun nowhere; the first places are a day ahead."""
    return bool(date) and datetime.date.fromisoformat(date) > today + datetime.timedelta(days=1)


def _names(source: str, gpu_type: str) -> bool:
    """MI250X is not MI250; RX 7900 XTX and rx-7900-xtx are the same."""
    words = r"[\W_]*".join(re.findall(r"[a-z0-9]+", gpu_type.lower()))
    return bool(re.search(rf"(?<![a-z0-9]){words}(?![a-z0-9])", source.lower()))
