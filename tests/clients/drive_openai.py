"""The openai package."""

import openai
from features import ASK, MODEL, PERSON, SUN, TEXT, drive, feature, same
from pydantic import BaseModel

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
USER = [{"role": "user", "content": ASK}]


class Person(BaseModel):
    name: str
    age: int


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


@feature("chat")
def chat(url: str) -> None:
    same(client(url).chat.completions.create(model=MODEL, messages=USER).choices[0].message.content, TEXT)


@feature("stream")
def stream(url: str) -> None:
    with client(url).chat.completions.stream(model=MODEL, messages=USER) as events:
        same(events.get_final_completion().choices[0].message.content, TEXT)


@feature("tools")
def tools(url: str) -> None:
    message = client(url).chat.completions.create(model=MODEL, messages=USER, tools=[WEATHER]).choices[0].message
    (call,) = message.tool_calls
    same((call.function.name, call.function.arguments), ("weather", '{"city": "Rome"}'))
    messages = [*USER, message, {"role": "tool", "tool_call_id": call.id, "content": "sun"}]
    same(client(url).chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER]).choices[0].message.content, SUN)


@feature("form")
def form(url: str) -> None:
    same(client(url).chat.completions.parse(model=MODEL, messages=USER, response_format=Person).choices[0].message.parsed, Person(**PERSON))


@feature("responses")
def responses(url: str) -> None:
    flat = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}
    first = client(url).responses.create(model=MODEL, input=ASK, tools=[flat])
    (call,) = first.output
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sun"}]
    with client(url).responses.stream(model=MODEL, input=results, tools=[flat], previous_response_id=first.id) as events:
        same(events.until_done().get_final_response().output_text, SUN)


@feature("embeddings")
def embeddings(url: str) -> None:
    one, two = client(url).embeddings.create(model=MODEL, input=["a", "b"]).data
    same((len(one.embedding) > 1, len(one.embedding)), (True, len(two.embedding)))


drive()
