"""How the API refuses what it does not know: 422, and one sentence that says what there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function
from starlette.responses import JSONResponse

from services.web.misread import TEXT_MAX, unknown


@dataclass(frozen=True)
class OneOf:
    """Makes `Annotated[str, OneOf(names)]` one of these names; the description has them too."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) | {"enum": [*self.names]}

    def _check(self, given: str) -> str:
        if given not in self.names:
            raise PydanticCustomError("unknown", f"there are {', '.join(self.names)}")
        return given


def only_known(request: Request) -> None:
    """Refuse what an operation of the API does not know: it would be left out in silence."""
    known = _parameters(request.scope["route"])
    for name in request.query_params:
        if name not in known:
            raise HTTPException(422, unknown("parameter", name[:TEXT_MAX], known))


def _parameters(route: APIRoute) -> list[str]:
    """Return what the query of an operation may name, one by one or all in a model."""
    names: list[str] = []
    for field in route.dependant.query_params:
        given = field.field_info.annotation
        if isinstance(given, type) and issubclass(given, BaseModel):
            names += given.model_fields
        else:
            names.append(field.alias)
    return names


async def refuse(_: Request, error: Exception) -> JSONResponse:
    """Say in one sentence what makes no sense, and why."""
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": "; ".join(map(_sentence, error.errors()))}, 422)


def _sentence(problem: Mapping[str, Any]) -> str:
    # First comes where it stands: the query, the path or the body.
    name = ".".join(map(str, problem["loc"][1:])) or str(problem["loc"][0])
    given = problem["input"]
    what = f" {given[:TEXT_MAX]!r}" if isinstance(given, str) else ""
    return f"{name}{what}: {problem['msg']}"
