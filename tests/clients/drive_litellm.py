"""litellm."""

import json

import litellm
from features import ASK, MODEL, PERSON, SUN, TEXT, drive, feature, same
from pydantic import BaseModel

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
USER = [{"role": "user", "content": ASK}]


class Person(BaseModel):
    name: str
    age: int


def asked(url: str, messages=USER, **fields):
    return litellm.completion(model=f"openai/{MODEL}", api_base=url, api_key="none", messages=messages, num_retries=0, **fields)


@feature("chat")
def chat(url: str) -> None:
    same(asked(url).choices[0].message.content, TEXT)


@feature("stream")
def stream(url: str) -> None:
    same("".join(chunk.choices[0].delta.content or "" for chunk in asked(url, stream=True)), TEXT)


@feature("tools")
def tools(url: str) -> None:
    message = asked(url, tools=[WEATHER]).choices[0].message
    (call,) = message.tool_calls
    same(json.loads(call.function.arguments), {"city": "Rome"})
    same(
        asked(url, [*USER, message, {"role": "tool", "tool_call_id": call.id, "content": "sun"}], tools=[WEATHER])
        .choices[0]
        .message.content,
        SUN,
    )


@feature("form")
def form(url: str) -> None:
    same(json.loads(asked(url, response_format=Person).choices[0].message.content), PERSON)


@feature("responses")
def responses(url: str) -> None:
    answer = litellm.responses(model=f"openai/{MODEL}", api_base=url, api_key="none", input=ASK)
    same(answer.output[0].content[0].text, TEXT)


@feature("embeddings")
def embeddings(url: str) -> None:
    found = litellm.embedding(model=f"openai/{MODEL}", api_base=url, api_key="none", input=["a"], encoding_format="float")
    same(len(found.data), 1)


drive()
