"""Words in recipes that vLLM's command line takes for anything and only a start would refuse: the names of parsers and
of attention backends are those that the installed vLLM has.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from aim_engine.catalog.load import catalog_folders, load_everything

pytestmark = pytest.mark.engine

_REGISTRIES = """
import json
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.v1.attention.backends.registry import AttentionBackendEnum
print(json.dumps({"tool-call-parser": ToolParserManager.list_registered(),
                  "reasoning-parser": ReasoningParserManager.list_registered(),
                  "attention-backend": list(AttentionBackendEnum.__members__)}))
"""


def test_every_parser_and_attention_backend_of_a_recipe_exists() -> None:
    """In a process of its own: vLLM warns while it is imported, and here warnings are errors."""
    ran = subprocess.run([sys.executable, "-c", _REGISTRIES], check=True, capture_output=True, text=True, timeout=300)
    known = json.loads(ran.stdout.strip().splitlines()[-1])
    variants = [(one.recipe_id, variant) for one in load_everything(catalog_folders())[0] for variant in one.variants]
    unknown = {
        (recipe_id, option, str(variant.args[option]))
        for recipe_id, variant in variants
        for option in known
        if variant.backend == "vllm" and option in variant.args and variant.args[option] not in known[option]
    }
    assert unknown == set()
