"""Questions to several models at the same time, through the real `openai` client."""

import asyncio
import time
from collections.abc import Callable, Iterable
from random import Random

import aiohttp
import openai
from prometheus_client.parser import text_string_to_metric_families

from muxjax.demo.board import Row
from muxjax.demo.items import Item, conversation
from muxjax.demo.tales import Split, Tale, gift, known_by_heart, repeats
from muxjax.demo.worlds import World


def story(world: World, seed: int) -> Tale:
    """A story that the model was not trained on."""
    return gift(world, Random(seed), Split.HELD_OUT)


def questions(world: World, told: Tale, seed: int) -> list[Item]:
    """Who the model is, a sum, what it was told, and words to say again."""
    known = known_by_heart(world)
    said = repeats(world, Random(seed), Split.HELD_OUT)
    asked = [
        ("", known[0]),
        ("", known[2]),
        ("", known[-2]),
        *((told.text, question) for question in told.questions),
        ("", said.questions[0]),
    ]
    pairs = [conversation(text, [question]) for text, question in asked]
    return [Item(kind="demo", messages=(user,), answer=assistant["content"]) for user, assistant in pairs]


async def ask_all(base_url: str, rows: Iterable[Row], show: Callable[[Row], None]) -> None:
    """Streams an answer into every row at once; `show` is called whenever one has grown."""
    begin_s = time.monotonic()
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client, asyncio.TaskGroup() as group:
        for row in rows:
            group.create_task(_ask(client, row, begin_s, show))


async def peak_blocks(base_url: str) -> tuple[dict[str, int], int]:
    """The most head blocks each model ever held, and all blocks of the arena."""
    async with aiohttp.ClientSession() as session, session.get(base_url.removesuffix("/v1") + "/metrics") as response:
        families = {family.name: family.samples for family in text_string_to_metric_families(await response.text())}
    peaks = {sample.labels["model_name"]: int(sample.value) for sample in families["muxjax_kv_peak_blocks"]}
    return peaks, int(sum(sample.value for sample in families["muxjax_kv_blocks"]))


async def _ask(client: openai.AsyncOpenAI, row: Row, begin_s: float, show: Callable[[Row], None]) -> None:
    stream = await client.chat.completions.create(model=row.model, messages=list(row.item.messages), stream=True)  # pyright: ignore
    async for chunk in stream:
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            row.answer += text
            row.first_s = row.first_s or time.monotonic() - begin_s
            show(row)
    row.ended_s = time.monotonic() - begin_s
    show(row)
