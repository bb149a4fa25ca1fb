"""genai_config.json: the configuration of a model, and its default sampling parameters."""

import secrets
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from cupola.errors import ModelFormatError
from cupola.provider import Sampling

FILE_NAME = "genai_config.json"
DOWNLOAD_AGAIN = "Delete the model's folder and download it again."
"""The remedy in errors about damaged files."""


class DecoderInputs(Struct, frozen=True):
    """Names of the decoder's inputs; `%d` is replaced by the layer index."""

    input_ids: str = "input_ids"
    attention_mask: str = "attention_mask"
    position_ids: str = "position_ids"
    past_key_names: str = "past_key_values.%d.key"
    past_value_names: str = "past_key_values.%d.value"


class DecoderOutputs(Struct, frozen=True):
    """Names of the decoder's outputs."""

    logits: str = "logits"
    present_key_names: str = "present.%d.key"
    present_value_names: str = "present.%d.value"


class Decoder(Struct, frozen=True):
    """The decoder's graph and its dimensions, which are 0 if the file does not give them.

    Attributes:
        filename: Name of the ONNX file; empty for a pipeline of several graphs.
        num_hidden_layers: Number of transformer layers.
        num_attention_heads: Number of attention heads.
        num_key_value_heads: Number of key-value heads.
        head_size: Width of a head.
        hidden_size: Width of the hidden states.
        inputs: Names of the graph's inputs.
        outputs: Names of the graph's outputs.
    """

    filename: str = ""
    num_hidden_layers: int = 0
    num_attention_heads: int = 0
    num_key_value_heads: int = 0
    head_size: int = 0
    hidden_size: int = 0
    inputs: DecoderInputs = DecoderInputs()
    outputs: DecoderOutputs = DecoderOutputs()


class ModelSection(Struct, frozen=True):
    """The table `model`.

    Attributes:
        type: Architecture, "llama".
        vocab_size: Size of the vocabulary, in tokens.
        context_length: Maximum number of tokens of prompt and answer together.
        eos_token_id: One or several end-of-sequence tokens.
        bos_token_id: Token before a text, if there is one.
        pad_token_id: Token for padding, if there is one.
        decoder: The decoder.
    """

    type: str
    vocab_size: int
    context_length: int
    eos_token_id: int | list[int] = []
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    decoder: Decoder = Decoder()


class SearchSection(Struct, frozen=True):
    """The table `search`: the publisher's defaults for sampling. Its lengths are ignored."""

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


class EngineSection(Struct, frozen=True):
    """Batching of onnxruntime-genai's engine. Only exports with PagedAttention have `dynamic_batching`."""

    dynamic_batching: dict[str, Any] | None = None


class GenaiConfig(Struct, frozen=True):
    """The parts of genai_config.json that Cupola uses. Other keys are ignored."""

    model: ModelSection
    search: SearchSection = SearchSection()
    engine: EngineSection = EngineSection()

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """End-of-sequence tokens."""
        ids = self.model.eos_token_id
        return (ids,) if isinstance(ids, int) else tuple(ids)

    @property
    def control_token_ids(self) -> frozenset[int]:
        """BOS, EOS and padding tokens, which are control tokens whatever the tokenizer declares."""
        ids = (*self.eos_token_ids, self.model.bos_token_id, self.model.pad_token_id)
        return frozenset(token for token in ids if token is not None)


def read_config(folder: Path) -> GenaiConfig:
    """Read the configuration of the model in a folder.

    Raises:
        ModelFormatError: The file is missing, damaged or contradicts itself.
    """
    path = folder / FILE_NAME
    try:
        config = msgspec.json.decode(path.read_bytes(), type=GenaiConfig, strict=False)
    except FileNotFoundError:
        raise _format_error(path, "the file is missing, so this is not an ONNX Runtime GenAI model") from None
    except OSError as error:
        raise _format_error(path, f"the file cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _format_error(path, f"the file is damaged ({error})") from error
    for name, value in (("vocab_size", config.model.vocab_size), ("context_length", config.model.context_length)):
        if value < 1:
            raise _format_error(path, f"model.{name} is {value}, but a model has at least 1")
    return config


def _format_error(path: Path, problem: str) -> ModelFormatError:
    return ModelFormatError(path=str(path), detail=f"{problem}. {DOWNLOAD_AGAIN}")


def resolve(sampling: Sampling, config: GenaiConfig) -> Sampling:
    """Fill in omitted sampling parameters from the model's defaults, and draw a seed if there is none.

    A model whose configuration says `do_sample: false` is greedy unless the request gives a temperature.
    """
    search = config.search
    greedy = not search.do_sample
    # 0 means "off" in some published files
    top_p = search.top_p if 0 < search.top_p <= 1 else 1.0
    penalty = search.repetition_penalty if search.repetition_penalty > 0 else 1.0
    defaults: dict[str, float] = {
        "temperature": 0.0 if greedy else max(search.temperature, 0.0),
        "top_k": max(search.top_k, 0),
        "top_p": top_p,
        "repetition_penalty": penalty,
        "seed": secrets.randbits(53),
    }
    missing = {name: value for name, value in defaults.items() if getattr(sampling, name) is None}
    return msgspec.structs.replace(sampling, **missing)
