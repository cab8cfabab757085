"""Words for models: their types, and the sentences that stand below their fields."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel

GENERATED = "<!-- made by `make docs`; changes made here are lost -->"


def type_words(annotation: Any) -> str:
    """Return a type in a reader's words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return "null"
    if hasattr(annotation, "__metadata__"):
        return type_words(arguments[0])
    if origin is tuple:
        return f"list of {type_words(arguments[0])}"
    if origin is dict:
        return f"object of {type_words(arguments[1])}"
    if str(origin) in ("typing.Union", "<class 'types.UnionType'>"):
        return " or ".join(type_words(one) for one in arguments)
    if str(origin) == "typing.Literal":
        return " or ".join(f"`{one}`" for one in arguments)
    if isinstance(annotation, type):
        plain = {
            "str": "string",
            "int": "integer",
            "float": "number",
            "bool": "boolean",
            "AwareDatetime": "instant",
            "Path": "path",
        }
        return plain.get(annotation.__name__, annotation.__name__)
    return "value"


@functools.cache
def field_words(model: type[BaseModel]) -> dict[str, str]:
    """Return the sentence below each field of a model."""
    return {
        name: words
        for base in reversed(model.__mro__)
        if isinstance(base, type) and issubclass(base, BaseModel) and base is not BaseModel
        for name, words in words_below(base).items()
    }


def words_below(cls: type) -> dict[str, str]:
    """Return the sentence below each assignment in a class."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except OSError:
        return {}
    body = tree.body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        match before, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                found[name] = " ".join(inspect.cleandoc(words).split())
            case _:
                pass
    return found


def models_below(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the models that a model is made of, by name."""
    found: dict[str, type[BaseModel]] = {}
    for field in model.model_fields.values():
        for part in types_in(field.annotation, BaseModel):
            found[part.__name__] = part
            found |= models_below(part)
    return found


def types_in(annotation: Any, wanted: type) -> list[Any]:
    """Return the subclasses of a class that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, wanted):
        return [annotation]
    return [found for argument in get_args(annotation) for found in types_in(argument, wanted)]


def cell(text: str) -> str:
    """Return a text that fits into a cell of a Markdown table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
