"""Types as pydantic writes them: they are served, and answers follow their schemas."""

import datetime
import decimal
import enum
import json
import pathlib
import random
import uuid
from typing import Annotated, Any, Literal, Optional

import jsonschema_rs
import pytest
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from muxjax.errors import RequestError
from muxjax.server.json_schema.follow import followed
from tests.server.json_schema.test_follow import random_answer


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    value: int
    children: list["Node"] = []
    next: Optional["Node"] = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    weight: float


_TYPES: list[Any] = [
    *(pathlib.Path, SecretStr, bytes, uuid.UUID, decimal.Decimal, bool, None, Color, Node),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
    *(list[int], tuple[int, str], tuple[int, ...], dict[str, int]),
    *(Literal["a", 1, None], int | str, int | None, Node | None),
    Annotated[Cat | Dog, Field(discriminator="kind")],
    Annotated[int, Field(gt=1, le=5)],
    Annotated[str, Field(pattern="^a+$", max_length=5)],
    Annotated[list[int], Field(min_length=1, max_length=3)],
]


@pytest.mark.parametrize("kind", _TYPES, ids=str)
def test_answers_are_of_the_type(kind):
    schema = TypeAdapter(kind).json_schema()
    answers = [answer for seed in range(10) if (answer := random_answer(schema, random.Random(seed), 300)) is not None]
    assert answers
    for answer in answers:
        jsonschema_rs.validate(schema, json.loads(answer))


@pytest.mark.parametrize(("kind", "keyword"), [(set[int], "uniqueItems"), (dict[Color, int], "propertyNames")])
def test_what_grammars_cannot_say_is_refused_by_name(kind, keyword):
    with pytest.raises(RequestError, match=f'at #/properties/x: the keywords "{keyword}" are not supported'):
        followed({**TypeAdapter(dict).json_schema(), "properties": {"x": TypeAdapter(kind).json_schema()}}, "schema")
