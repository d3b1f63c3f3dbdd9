"""pydantic-ai, over chats and over responses."""

import asyncio

from features import ASK, MODEL, PERSON, SUN, TEXT, drive, feature, same
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class Person(BaseModel):
    name: str
    age: int


def weather(city: str) -> str:
    """The weather of a city."""
    same(city, "Rome")
    return "sun"


def chat_model(url: str) -> OpenAIChatModel:
    return OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=url, api_key="none"))


@feature("chat")
def chat(url: str) -> None:
    same(Agent(chat_model(url)).run_sync(ASK).output, TEXT)


@feature("stream")
def stream(url: str) -> None:
    async def streamed() -> str:
        async with Agent(chat_model(url)).run_stream(ASK) as result:
            return await result.get_output()

    same(asyncio.run(streamed()), TEXT)


@feature("tools")
def tools(url: str) -> None:
    same(Agent(chat_model(url), tools=[weather]).run_sync(ASK).output, SUN)


@feature("form")
def form(url: str) -> None:
    same(Agent(chat_model(url), output_type=Person).run_sync(ASK).output, Person(**PERSON))


@feature("responses")
def responses(url: str) -> None:
    model = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=url, api_key="none"))
    same(Agent(model, tools=[weather]).run_sync(ASK).output, SUN)
    same(Agent(model, output_type=Person).run_sync(ASK).output, Person(**PERSON))


drive()
