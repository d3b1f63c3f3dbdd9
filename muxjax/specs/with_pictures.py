"""Checkpoints that read pictures, too: the config.json of the text model in them, which is what is served.

Source: the configurations of transformers 5.24; what text has of rotary embedding in three dimensions is the same position in each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from muxjax.specs.families.gemma import GEMMA3
from muxjax.specs.families.mistral import MINISTRAL3, MISTRAL
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
      texts: families of its `text_config` by the model_type of that, the first one where it has none.
      defaults: of fields that published files of this kind leave out.
    """

    model_type: str
    architecture: str
    texts: Mapping[str, Family]
    defaults: Mapping[str, Any] = field(default_factory=dict)


_KINDS = (
    WithPictures(
        model_type="gemma3",
        architecture="Gemma3ForConditionalGeneration",
        texts={"gemma3_text": GEMMA3},
        defaults={"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 131072},
    ),
    WithPictures(
        model_type="mistral3", architecture="Mistral3ForConditionalGeneration", texts={"mistral": MISTRAL, "ministral3": MINISTRAL3}
    ),
    WithPictures(model_type="qwen2_vl", architecture="Qwen2VLForConditionalGeneration", texts={"qwen2_vl_text": QWEN2}),
    WithPictures(model_type="qwen2_5_vl", architecture="Qwen2_5_VLForConditionalGeneration", texts={"qwen2_5_vl_text": QWEN2}),
    WithPictures(model_type="qwen3_vl", architecture="Qwen3VLForConditionalGeneration", texts={"qwen3_vl_text": QWEN3}),
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
    _type_among(fields, (kind.model_type,))
    text = fields.child(_TEXT)
    family = kind.texts[_type_among(text, tuple(kind.texts))]
    outer = {name: value for name, value in fields.values.items() if name not in (*_OF_PICTURES, _TEXT)}
    outer = {name: value for name, value in outer.items() if value is not None or name not in text.values}
    said = {**kind.defaults, **text.values, **outer}
    said |= {name: _of_one_dimension(said[name]) for name in _ROPES if isinstance(said.get(name), dict)}
    alone = {"architectures": [family.architecture], "model_type": family.model_type}
    return Fields(where=fields.where, values=said | alone)


def _type_among(fields: Fields, known: tuple[str, ...]) -> str:
    """The model_type, the first of those known where there is none."""
    found = fields.get("model_type", known[0])
    if found not in known:
        raise fields.wrong("model_type", found, " or ".join(known))
    return found


def _of_one_dimension(rope: Mapping[str, Any]) -> dict[str, Any]:
    """A rotary embedding whose sections of a head are turned by positions of their own, as text sees it."""
    kept = {name: value for name, value in rope.items() if name not in _SECTIONS}
    return kept | {name: "default" for name in ("type", "rope_type") if kept.get(name) == _BY_SECTIONS}
