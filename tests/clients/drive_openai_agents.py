"""openai-agents, whose default is the Responses API."""

import asyncio
import os

from agents import Agent, RunConfig, Runner, function_tool, set_tracing_disabled
from agents.models.openai_provider import OpenAIProvider
from features import ASK, MODEL, PERSON, SUN, TEXT, drive, feature, same
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    same(city, "Rome")
    return "sun"


def config(url: str) -> RunConfig:
    set_tracing_disabled(True)
    return RunConfig(model_provider=OpenAIProvider(base_url=url, api_key="none"))


@feature("chat")
def chat(url: str) -> None:
    agent = Agent(name="a", instructions="Be kind.", model=MODEL)
    same(Runner.run_sync(agent, ASK, run_config=config(url)).final_output, TEXT)


@feature("stream")
def stream(url: str) -> None:
    async def streamed() -> str:
        running = Runner.run_streamed(Agent(name="a", model=MODEL), ASK, run_config=config(url))
        kinds = [event.type async for event in running.stream_events()]
        same("raw_response_event" in kinds, True)
        return running.final_output

    same(asyncio.run(streamed()), TEXT)


@feature("tools")
def tools(url: str) -> None:
    agent = Agent(name="a", model=MODEL, tools=[weather])
    same(Runner.run_sync(agent, ASK, run_config=config(url)).final_output, SUN)


@feature("form")
def form(url: str) -> None:
    agent = Agent(name="a", model=MODEL, output_type=Person)
    same(Runner.run_sync(agent, ASK, run_config=config(url)).final_output, Person(**PERSON))


os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
drive()
