"""What a checkpoint is, by the names of its files and by its config: nothing where an engine can serve it, or the
error that calls it by its name and says what to serve instead. Pure; knows neither folder nor hub.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.catalog.weight_files import WeightFiles
from aim_engine.errors import ModelAccessError

_TOKENIZER = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "tekken.json")
_SENTENCE = ("modules.json", "config_sentence_transformers.json")  # sentence-transformers' own files
# Weights that no engine here reads, by the end of their names: what they are, and what to look for instead.
_FOREIGN = (
    (".gguf", "in GGUF, llama.cpp's form"),
    (".onnx", "in ONNX"),
    (".pth", "as .pth, the form of Meta's own code"),
    (".h5", "in TensorFlow's form"),
    (".msgpack", "in Flax's form"),
    (".nemo", "in NeMo's form"),
    (".ckpt", "a training checkpoint (.ckpt)"),
    (".mlpackage", "in Core ML's form"),
    (".engine", "compiled by TensorRT"),
)
# Quantisations without kernels for ROCm in any known version of vLLM (its quantization/__init__.py and rocm.py).
_UNREAD = {"exl2": "EXL2 (ExLlamaV2)", "exl3": "EXL3 (ExLlamaV3)", "eetq": "EETQ", "quanto": "Quanto", "hqq": "HQQ",
           "aqlm": "AQLM", "spqr": "SpQR", "vptq": "VPTQ", "higgs": "HIGGS", "bitnet": "BitNet"}  # fmt: skip
# AutoAWQ packs in several ways; vLLM has one reader and does not look at "version": another packing gives noise.
_AWQ_UNREAD = ("gemv", "gemv_fast", "marlin")

_ENCODERS = (
    "Bert|Roberta|XLMRoberta|ModernBert|NomicBert|NeoBert|MPNet|DistilBert|Electra|Deberta|DebertaV2|Albert|Camembert|"
    "Gte|GteNew|New|JinaBert|JinaEmbeddingsV\\d|T5Encoder|UMT5Encoder|MT5Encoder|Llama|LlamaBidirectional|Mistral|"
    "Qwen2|Qwen3|Gemma2|Gemma3Text|LlamaNemotronVL|EmbeddingGemma2|DeepseekV3Bidirectional"
)
_CLASSES = "(Sequence|Token)Classification|MultipleChoice|QuestionAnswering|NextSentencePrediction|JointSchema"
_SEEN = (
    "(Image|Video)Classification|(Zero[Ss]hot)?ObjectDetection|(Semantic|Instance|Universal|Image)Segmentation|"
    "DepthEstimation|MaskGeneration|MaskedImageModeling|KeypointDetection"
)
# Ends of architectures' names that do not write text, and what they do; tried on vLLM's own registry by a test.
_WITHOUT_TEXT: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (rf"For({_CLASSES})$", "sorts texts into classes"),
        (r"For(\w*Reward\w*|Ranking)$|RewardModel$", "scores texts (a reranker or reward model)"),
        (rf"^({_ENCODERS})Model$|For(MaskedLM|Retrieval|Embedding|PreTraining)$|Embed(ding)?Model$|^(HF_)?ColBERT|"
         r"^(Ops)?ColQwen", "makes embeddings"),
        (rf"For({_SEEN})$|^(CLIP\w*|Siglip\w*|ViT\w*|Swin\w*|Dino\w*|Sam\d?|ConvNext\w*)Model$|^Terratorch$",
         "looks at images"),
        (r"For(CTC|SpeechSeq2Seq|Audio\w*Classification|XVector)$|^(Whisper|Moonshine|Wav2Vec2|Hubert|WavLM)",
         "understands speech"),
        (r"ForTextTo(Speech|Waveform|Spectrogram)$|^(Bark|Vits|Encodec|Musicgen|Csm|Dia|ParlerTTS)",
         "makes sound"),
        (r"ForPrediction$|ForTimeSeries\w*$", "predicts time series"),
    )
)  # fmt: skip
# Models that write text by an encoder and a decoder, which vLLM no longer runs (all but one that reads pages).
_ENCODER_DECODER = re.compile(
    r"^(M?T5|UMT5|LongT5|SwitchTransformers|M?Bart|PLBart|Pegasus(X)?|BigBirdPegasus|Marian(MT)?|M2M100|LED|"
    r"Blenderbot(Small)?|(XLM)?ProphetNet|FSMT|NllbMoe|T5Gemma2?|EncoderDecoder|VisionEncoderDecoder|Florence2|Pix2Struct|"
    r"Donut|TrOCR)(Model|LMHeadModel|For\w+)?$"
)
_ENCODER_DECODERS_SERVED = ("NemotronParseForConditionalGeneration",)
# What the hub calls a model that writes text (its list of tasks); any other is worth a word.
_WRITES_TEXT = ("", "text-generation", "text2text-generation", "image-text-to-text", "any-to-any", "audio-text-to-text",
                "video-text-to-text", "conversational", "translation", "summarization", "question-answering",
                "visual-question-answering", "document-question-answering", "image-to-text")  # fmt: skip
_TEXT_ONLY = "AIM Engine serves models that write text"


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known beside the config: `name` for messages, the names of all `files` with their folders, the `weights`
    among them, the base of an adapter or of a conversion, and the hub's word for the task.
    """

    name: str
    files: Collection[str]
    weights: WeightFiles
    base: str = ""
    task: str = ""


def check_files(about: About) -> None:
    """Refuse what its files show to be no checkpoint that an engine loads.

    Raises:
        ModelAccessError: an adapter, a pipeline, weights in a foreign form, a tokenizer, or none of these.
    """
    own = {name for name in about.files if "/" not in name}
    if _is_adapter(own, about.weights):
        base = about.base or "its base model"
        raise ModelAccessError(
            f"{about.name} is an adapter (LoRA) for {base}, not a model",
            hint=f'serve {base} with AIM_ENGINE_ARGS={{"enable-lora": true, "lora-modules": ["NAME={about.name}"]}}',
        )
    if "model_index.json" in own:
        raise _without_text(about.name, "makes images or sound (a diffusers pipeline)")
    if own & {*_SENTENCE}:
        raise _without_text(about.name, "makes embeddings (sentence-transformers)")
    if not about.weights.kind:
        message, hint = _no_weights(about, own)
        raise ModelAccessError(message, hint=hint)


def _is_adapter(own: set[str], weights: WeightFiles) -> bool:
    """A merged model may keep its adapter's config; then it has weights that are not the adapter's."""
    return "adapter_config.json" in own and all(name.startswith("adapter_") for name in weights.names)


def _no_weights(about: About, own: set[str]) -> tuple[str, str]:
    """Why there is nothing to load, and what to do."""
    instead = f"serve {about.base}, which it was made from" if about.base else "serve the safetensors form of the model"
    for ending, what in _FOREIGN:
        if any(name.endswith(ending) for name in own):
            return f"{about.name} has its weights {what}, which the engine does not load", instead
    below = sorted({name.split("/")[0] for name in about.files if name.endswith((".safetensors", ".bin", ".pth"))})
    if below:
        return f"{about.name} has weights in {below[0]}/ only, where the engine does not look", instead
    if foreign := next((what for end, what in _FOREIGN if any(name.endswith(end) for name in about.files)), ""):
        return f"{about.name} has its weights {foreign}, which the engine does not load", instead
    if own & {*_TOKENIZER} and "config.json" not in own:
        return f"{about.name} holds a tokenizer and no model", "name the model that the tokenizer belongs to"
    both = "holds no weights" if "config.json" in own else "has no config.json and no weights"
    return f"{about.name} {both}", "give a model with config.json, tokenizer and safetensors files"


def check_config(config: Mapping[str, Any], about: About) -> None:
    """Refuse what its config says to be stored in a way no engine here reads, or to write no text.

    Raises:
        ModelAccessError: it does.
    """
    instead = f"serve {about.base}, or another of its conversions" if about.base else _OTHER_CONVERSION
    if stored := _unread_form(config):
        raise ModelAccessError(f"{about.name} is stored as {stored}, which the engine does not load", hint=instead)
    named = config.get("architectures")
    architectures = [one for one in named if isinstance(one, str)] if isinstance(named, list) else []
    for architecture in architectures:
        for pattern, what in _WITHOUT_TEXT:
            if pattern.search(architecture):
                raise _without_text(about.name, f"{what} ({architecture})")
    if (which := _encoder_decoder(config, architectures)) is not None:
        raise ModelAccessError(
            f"{about.name} is an encoder-decoder model ({which or 'is_encoder_decoder in its config.json'}), and the "
            "engine serves models that are decoders alone",
            hint="name a decoder-only text-generation model: most instruction-tuned ones translate and summarise too",
        )


def _encoder_decoder(config: Mapping[str, Any], architectures: Collection[str]) -> str | None:
    """The class of an encoder-decoder model that the engine does not run, "" where only its config says that it is one;
    None for any other model.
    """
    if any(one in _ENCODER_DECODERS_SERVED for one in architectures):
        return None
    named = next((one for one in architectures if _ENCODER_DECODER.search(one)), None)
    if named is None and config.get("is_encoder_decoder") is True:
        return next(iter(architectures), "")
    return named


_OTHER_CONVERSION = "serve the model it was made from, or a conversion to fp8, AWQ, GPTQ or compressed-tensors"


def _unread_form(config: Mapping[str, Any]) -> str:
    """The name of a form of storage that the engine cannot load, or ""."""
    said = config.get("quantization_config")
    quantization = said if isinstance(said, dict) else {}
    method = str(quantization.get("quant_method", "")).lower()
    if method == "awq" and str(quantization.get("version", "")).lower() in _AWQ_UNREAD:
        return f"AWQ in {quantization['version']} packing (gemm is read)"
    # mlx-lm writes "quantization" and, since 2025, a copy of it that names no method
    own = config.get("quantization")
    if not method and isinstance(own, dict) and {"bits", "group_size"} <= own.keys():
        return "MLX, Apple's form"
    return _UNREAD.get(method, "")


def doubts_about(config: Mapping[str, Any], about: About) -> Iterator[str]:
    """What a person should know before serving it."""
    if about.weights.kind in ("bin", "pt"):
        yield f"{about.name} has its weights as .{about.weights.kind}: their size is that of the files"
    if about.task not in _WRITES_TEXT:
        yield f"the hub calls {about.name} a model for {about.task}, and {_TEXT_ONLY}"


def _without_text(name: str, what: str) -> ModelAccessError:
    return ModelAccessError(f"{name} {what}, and {_TEXT_ONLY}", hint="name a text-generation model")
