"""An image for one model: the catalogue's recipes for it come in, an image that AMD's inference operator can discover
goes out.

The operator makes a template of every deployment that an image's label recommends, and knows of each only GPU, count,
precision and metric (amd-enterprise-ai/aim-engine, api/v1alpha1: RecommendedDeployment). So the label must be
of one model, and the general image has none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aim_engine.catalog.load import catalog_folders, load_everything
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.errors import AimError, DockerError, InputError
from aim_engine.report import profile_type
from aim_engine.selection.standing import as_it_stands
from aim_engine.values import METRICS, slug

DEFAULT_BACKEND, DEFAULT_BASE = "vllm", "aim-engine-unified"
# Where the operator's v1alpha2 discovery job looks, below it AIM_ID (internal/v1alpha2/aimmodel/discovery_job.go).
PROFILES = "/workspace/aim-runtime/profiles"

Offered = tuple[Recipe, Variant]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/model-image", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", metavar="ORG/NAME", help="a model of the catalogue")
    parser.add_argument("--from", dest="base", metavar="IMAGE", default=DEFAULT_BASE, help="the image to build on")
    parser.add_argument("--tag", metavar="NAME", help="what it is called")
    parser.add_argument("--backend", default=DEFAULT_BACKEND, help="the engine in that image (default: vllm)")
    options = parser.parse_args(arguments)
    tag = options.tag or default_tag(options.base, options.model)
    try:
        build(options.model, options.base, tag, options.backend)
    except AimError as error:
        print(f"model-image: {error.message}; {error.hint}", file=sys.stderr)
        return error.code
    print(tag)
    return 0


def default_tag(base: str, model_id: str) -> str:
    """`r.example/aim-engine-unified-qwen-qwen3-32b:1.0`."""
    head, slash, last = base.rpartition("/")
    name, colon, version = last.partition(":")
    return f"{head}{slash}{name}-{slug(model_id)}{colon}{version}"


def build(model_id: str, base: str, tag: str, backend: str = DEFAULT_BACKEND) -> None:
    """Make the image.

    Raises:
        InputError: there is nothing to recommend for the model.
        DockerError: Docker could not make it.
    """
    found = profiles(model_id, backend)
    if not found:
        raise InputError(f"no recipe of {model_id} is for a GPU", hint="aim-engine models lists those that have some")
    with tempfile.TemporaryDirectory() as context:
        folder = Path(context) / "profiles" / model_id
        folder.mkdir(parents=True)
        for name, profile in found.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(profile, sort_keys=False, allow_unicode=True))
        (Path(context) / "Dockerfile").write_text(
            f"FROM {base}\nCOPY profiles/ {PROFILES}/\nENV AIM_ID={model_id} AIM_BASE_IMAGE_REF={base}\n"
        )
        command = ["docker", "build", "--force-rm", "--tag", tag]
        for name, value in labels(model_id, backend).items():
            command += ["--label", f"{name}={value}"]
        done = subprocess.run(
            [*command, context], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    if done.returncode != 0:
        said = done.stdout.strip().splitlines() or ["docker says nothing"]
        raise DockerError(f"{tag} could not be made: {said[-1]}", hint=f"is {base} there? scripts/build makes it")


def labels(model_id: str, backend: str = DEFAULT_BACKEND) -> dict[str, str]:
    """What the operator reads of an image before it runs it."""
    return {
        "com.amd.aim.title": model_id.rpartition("/")[2],
        "com.amd.aim.model.canonicalName": model_id,
        "com.amd.aim.model.source": f"https://huggingface.co/{model_id}",
        "com.amd.aim.model.recommendedDeployments": json.dumps(recommended_deployments(model_id, backend)),
    }


def recommended_deployments(model_id: str, backend: str = DEFAULT_BACKEND) -> list[dict[str, str | int]]:
    """For each GPU and metric the variant that would be chosen where as many GPUs are free as it likes."""
    own, offered = _offered(model_id, backend)
    best: dict[tuple[str, str], Offered] = {}
    for metric, one in offered:
        key = one[0].gpu_type, metric
        best[key] = min(best.get(key, one), one, key=partial(_rank, own, metric))
    return [
        {
            "gpuModel": gpu_type,
            "gpuCount": variant.gpu_count,
            "precision": recipe.precision,
            "metric": metric,
            # the operator reads ' as " before it reads JSON (internal/aimmodel/inspector.go)
            "description": (recipe.description or f"{model_id} in {recipe.precision}").replace("'", "\u2019"),
        }
        for (gpu_type, metric), (recipe, variant) in best.items()
    ]


def profiles(model_id: str, backend: str = DEFAULT_BACKEND) -> dict[str, dict[str, Any]]:
    """Every variant for a GPU as AMD's images have it, by the profile's id; those that are recommended are primary."""
    own, offered = _offered(model_id, backend)
    recommended = [{k: one[k] for k in ("gpuModel", "gpuCount", "precision", "metric")}
                   for one in recommended_deployments(model_id, backend)]  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for metric, (recipe, variant) in sorted(offered, key=lambda one: _rank(own, one[0], one[1])):
        key = {
            "gpuModel": recipe.gpu_type,
            "gpuCount": variant.gpu_count,
            "precision": recipe.precision,
            "metric": metric,
        }
        name = f"{backend}-{recipe.gpu_type}-{recipe.precision}-tp{variant.gpu_count}-{metric}".lower()
        found.setdefault(name, _profile(model_id, recipe, variant, metric, primary=key in recommended))
    return found


def _profile(model_id: str, recipe: Recipe, variant: Variant, metric: str, *, primary: bool) -> dict[str, Any]:
    return {
        "aim_id": model_id,
        "model_id": recipe.huggingface_id,
        "metadata": {
            "engine": variant.backend,
            "accelerator_type": "gpu",
            "accelerator_model": recipe.gpu_type,
            "accelerator_count": variant.gpu_count,
            "precision": recipe.precision,
            "metric": metric,
            "type": profile_type(as_it_stands(variant.evidence, None).level),
            "primary": primary,
        },
        "engine_args": _plain(variant.args),
        "env_vars": dict(variant.env),
    }


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """As YAML can say them."""
    read: dict[str, Any] = json.loads(json.dumps(dict(arguments), default=list))
    return read


def _offered(model_id: str, backend: str) -> tuple[str | None, list[tuple[str, Offered]]]:
    """The precision of the model's own checkpoint, and each variant with each metric that it serves."""
    recipes, cards, problems = load_everything(catalog_folders())
    for problem in problems:
        print(problem, file=sys.stderr)
    own = {card.model_id: card.precision for card in cards}
    offered = [
        (metric, (recipe, variant))
        for recipe in recipes
        if recipe.model_id == model_id and recipe.gpu_type != "CPU"
        for variant in recipe.variants
        if variant.enabled and variant.backend == backend
        for metric in ((variant.metric,) if variant.metric else METRICS)
    ]
    return own.get(model_id), offered


def _rank(own_precision: str | None, metric: str, offered: Offered) -> tuple[object, ...]:
    """As the selection ranks them: the checkpoint's own precision, tuned for the metric, the width."""
    recipe, variant = offered
    width = -variant.gpu_count if metric == "latency" else variant.gpu_count
    return recipe.precision != own_precision, variant.metric is None, width, recipe.recipe_id


if __name__ == "__main__":
    sys.exit(main())
