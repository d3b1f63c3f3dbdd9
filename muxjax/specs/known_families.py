"""All families that are served, by their names in config.json."""

from muxjax.specs.families.cohere import COHERE, COHERE2
from muxjax.specs.families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from muxjax.specs.families.exaone4 import EXAONE4
from muxjax.specs.families.gemma import GEMMA, GEMMA2, GEMMA3
from muxjax.specs.families.glm import GLM, GLM4, GLM4_MOE
from muxjax.specs.families.gpt_oss import GPT_OSS
from muxjax.specs.families.granite import GRANITE, GRANITE_MOE, GRANITE_MOE_SHARED
from muxjax.specs.families.internlm import INTERNLM2, INTERNLM3
from muxjax.specs.families.llama import LLAMA
from muxjax.specs.families.mistral import MINISTRAL, MINISTRAL3, MISTRAL, MIXTRAL
from muxjax.specs.families.olmo import OLMO2, OLMO3, OLMOE
from muxjax.specs.families.phi3 import PHI3
from muxjax.specs.families.qwen import QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE
from muxjax.specs.families.seed_oss import SEED_OSS
from muxjax.specs.families.smollm3 import SMOLLM3
from muxjax.specs.families.starcoder2 import STARCODER2
from muxjax.specs.reading.family import Family

FAMILIES: tuple[Family, ...] = (
    LLAMA,
    MISTRAL,
    MINISTRAL,
    MINISTRAL3,
    QWEN2,
    QWEN3,
    GRANITE,
    SMOLLM3,
    OLMO2,
    OLMO3,
    PHI3,
    GEMMA,
    GEMMA2,
    GEMMA3,
    SEED_OSS,
    EXAONE4,
    GLM,
    GLM4,
    COHERE,
    COHERE2,
    STARCODER2,
    INTERNLM2,
    INTERNLM3,
    MIXTRAL,
    QWEN2_MOE,
    QWEN3_MOE,
    OLMOE,
    GRANITE_MOE,
    GRANITE_MOE_SHARED,
    GLM4_MOE,
    GPT_OSS,
    DEEPSEEK_V2,
    DEEPSEEK_V3,
)
"""A spec is written as the first of them that can say it."""
BY_TYPE = {family.model_type: family for family in FAMILIES}
BY_ARCHITECTURE = {family.architecture: family for family in FAMILIES}
BARE = {family.bare: family for family in FAMILIES}
"""Decoders alone, as checkpoints for embeddings have them: the embedding stands for the head, which nobody asks."""
