"""Checkpoints that read pictures, too: the config.json of the text model in them, which is what is served.

Source: the configurations of transformers 5.24; what text has of rotary embedding in three dimensions is the same position in each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from muxjax.specs.families.gemma import GEMMA3
from muxjax.specs.families.mistral import MISTRAL
from muxjax.specs.families.qwen import QWEN2, QWEN3
from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import Family

_TEXT = "text_config"
_OF_PICTURES = frozenset(
    (
        *("vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index", "image_token_index", "multimodal_projector_bias"),
        *("projector_hidden_act", "spatial_merge_size", "vision_feature_layer", "image_token_id", "video_token_id", "vision_token_id"),
        *("vision_start_token_id", "vision_end_token_id"),
    )
)
_ROPES, _SECTIONS, _BY_SECTIONS = ("rope_scaling", "rope_parameters"), ("mrope_section", "mrope_interleaved"), "mrope"


@dataclass(frozen=True, slots=True, kw_only=True)
class WithPictures:
    """
    Args:
      model_type, architecture: its names in config.json.
      text_type: that of its `text_config`; text: the family that this is of.
      is_flat: what is said of text may stand outside, and not in a `text_config`.
      defaults: of fields that published files of this kind leave out.
    """

    model_type: str
    architecture: str
    text_type: str
    text: Family
    is_flat: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


_KINDS = (
    WithPictures(
        model_type="gemma3",
        architecture="Gemma3ForConditionalGeneration",
        text_type="gemma3_text",
        text=GEMMA3,
        defaults={"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 131072},
    ),
    WithPictures(model_type="mistral3", architecture="Mistral3ForConditionalGeneration", text_type="mistral", text=MISTRAL),
    WithPictures(
        model_type="qwen2_vl", architecture="Qwen2VLForConditionalGeneration", text_type="qwen2_vl_text", text=QWEN2, is_flat=True
    ),
    WithPictures(
        model_type="qwen2_5_vl", architecture="Qwen2_5_VLForConditionalGeneration", text_type="qwen2_5_vl_text", text=QWEN2, is_flat=True
    ),
    WithPictures(model_type="qwen3_vl", architecture="Qwen3VLForConditionalGeneration", text_type="qwen3_vl_text", text=QWEN3),
)
WITH_PICTURES = {kind.architecture: kind for kind in _KINDS}


def text_fields(fields: Fields) -> Fields:
    """A config.json as one of the text model alone would be; the same where it is of no other.

    Raises:
      ConfigError: what is said of text is no object, or of another kind than stands outside.
    """
    named = fields.get("architectures")
    kind = WITH_PICTURES.get(named[0]) if isinstance(named, list) and len(named) == 1 and isinstance(named[0], str) else None
    if kind is None:
        return fields
    _check_type(fields, kind.model_type)
    text = fields.child(_TEXT)
    if text.values or not kind.is_flat:
        _check_type(text, kind.text_type)
    outer = {name: value for name, value in fields.values.items() if name not in (*_OF_PICTURES, _TEXT)}
    outer = {name: value for name, value in outer.items() if value is not None or name not in text.values}
    said = {**kind.defaults, **text.values, **outer}
    said |= {name: _of_one_dimension(said[name]) for name in _ROPES if isinstance(said.get(name), dict)}
    alone = {"architectures": [kind.text.architecture], "model_type": kind.text.model_type}
    return Fields(where=fields.where, values=said | alone)


def _check_type(fields: Fields, right: str) -> None:
    found = fields.get("model_type")
    if found not in (None, right):
        raise fields.wrong("model_type", found, right)


def _of_one_dimension(rope: Mapping[str, Any]) -> dict[str, Any]:
    """A rotary embedding whose sections of a head are turned by positions of their own, as text sees it."""
    kept = {name: value for name, value in rope.items() if name not in _SECTIONS}
    return kept | {name: "default" for name in ("type", "rope_type") if kept.get(name) == _BY_SECTIONS}
