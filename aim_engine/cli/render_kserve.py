"""`render kserve`: how a plan becomes objects of KServe, with the flags of `render kubernetes`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from aim_engine.cli.render_kubernetes import wishes_typed

if TYPE_CHECKING:
    from aim_engine.cli.render import Rendered
    from aim_engine.plan import Plan

SUMMARY = "a ServingRuntime and an InferenceService of KServe"
EXAMPLES = """examples:
  aim-engine render kserve Qwen/Qwen3-32B --hardware MI300X:8 --gpus 4 --image r.example/aim:1 | kubectl apply -f -
                                                              and the cache, the account and the policy they need
  aim-engine render kserve Qwen/Qwen3-32B --hardware MI300X:8 --gpus 2 --with autoscaled -o qwen.yaml
                                                              scaled by requests that wait, not by CPU

The flags are those of render kubernetes, but for --local-cache: KServe's pods share one cache. --port and --health-port
have no meaning: KServe makes the Service. docs/kubernetes.md says what is what.
"""


def render(plan: Plan, arguments: argparse.Namespace) -> Rendered:
    """The stream, and the same for programs.

    Raises:
        InputError: a wish cannot be fulfilled, or KServe cannot serve it so.
    """
    from aim_engine.cli.render import Rendered
    from aim_engine.deploy.kubernetes.components import components_named
    from aim_engine.deploy.kubernetes.files import in_lines, list_of, text_of
    from aim_engine.deploy.kubernetes.kserve import kserve_objects, service_name
    from aim_engine.deploy.kubernetes.objects import deadline_seconds
    from aim_engine.deploy.kubernetes.spec import cluster_spec

    wishes = wishes_typed(arguments)
    spec = cluster_spec(plan, replace(wishes, name=wishes.name or service_name(plan, wishes.namespace)))
    objects = kserve_objects(spec, [one.make(spec) for one in components_named(arguments.components)])
    where = f"-n {spec.namespace} " if spec.namespace else ""
    seconds = deadline_seconds(spec)
    wait = f"kubectl wait --for=condition=Ready inferenceservice/{spec.name}"
    how = ["kubectl apply -f FILE", *in_lines(wait, f"{where}--timeout {seconds}s")]
    return Rendered(text=text_of(spec, objects, how=how), document=list_of(objects), warnings=spec.warnings)
