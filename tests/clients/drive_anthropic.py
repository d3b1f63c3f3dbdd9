"""The anthropic package."""

import anthropic
from features import ASK, MODEL, PERSON, SUN, TEXT, drive, feature, same
from pydantic import BaseModel

WEATHER = {
    "name": "weather",
    "description": "of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
USER = [{"role": "user", "content": ASK}]


class Person(BaseModel):
    name: str
    age: int


def client(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0)


@feature("chat")
def chat(url: str) -> None:
    same(client(url).messages.create(model=MODEL, max_tokens=99, messages=USER).content[0].text, TEXT)


@feature("stream")
def stream(url: str) -> None:
    with client(url).messages.stream(model=MODEL, max_tokens=99, messages=USER) as events:
        same(events.get_final_text(), TEXT)


@feature("tools")
def tools(url: str) -> None:
    first = client(url).messages.create(model=MODEL, max_tokens=99, messages=USER, tools=[WEATHER])
    (call,) = first.content
    same((first.stop_reason, call.name, call.input), ("tool_use", "weather", {"city": "Rome"}))
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sun"}]}
    messages = [*USER, {"role": "assistant", "content": first.content}, result]
    same(client(url).messages.create(model=MODEL, max_tokens=99, messages=messages, tools=[WEATHER]).content[0].text, SUN)


@feature("runner")
def runner(url: str) -> None:
    @anthropic.beta_tool
    def weather(city: str) -> str:
        """The weather of a city.

        Args:
          city: its name.
        """
        same(city, "Rome")
        return "sun"

    last = client(url).beta.messages.tool_runner(model=MODEL, max_tokens=99, messages=USER, tools=[weather]).until_done()
    same(last.content[0].text, SUN)


@feature("form")
def form(url: str) -> None:
    answer = client(url).messages.parse(model=MODEL, max_tokens=99, messages=USER, output_format=Person)
    same(answer.parsed_output, Person(**PERSON))


drive()
