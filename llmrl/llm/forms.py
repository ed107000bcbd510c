"""In which form a call asks for its answer: by a JSON schema, as JSON, or in the words of its prompt alone.

The strictest form that the server takes is asked for. What it refuses is remembered for the run. Whatever the form, the
prompt describes the answer as well, and the caller reads it as if nothing had been promised.
"""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel

Form = Literal["schema", "json", "prompt"]
FORMS: tuple[Form, ...] = ("schema", "json", "prompt")  # from the strictest on
REFUSED: dict[Form, str] = {"schema": "schema_refused", "json": "json_mode_refused"}  # names of the failed attempts
STATUSES = (400, 415, 422, 501)  # by which servers refuse a form


class Structured(BaseModel, extra="forbid"):
    """What an answer consists of. Models write it in the order of the fields: reasoning comes first."""


class Forms:
    """The forms that are still to be asked for. `wanted`: llm.json; `refused`: names of the run's failed attempts."""

    def __init__(self, wanted: bool, refused: Iterable[str]) -> None:
        known = set(refused)
        self._left = [form for form in FORMS if form == "prompt" or (wanted and REFUSED[form] not in known)]

    def of(self, schema: type[Structured] | None) -> Form:
        return "prompt" if schema is None else self._left[0]

    def refuse(self, form: Form) -> None:
        self._left.remove(form)


def response_format(form: Form, schema: type[Structured] | None) -> dict[str, Any] | None:
    """The request's parameter of that name."""
    if form == "json":
        return {"type": "json_object"}
    if form == "prompt" or schema is None:
        return None
    named = {"name": schema.__name__, "strict": True, "schema": schema_of(schema)}
    return {"type": "json_schema", "json_schema": named}


def schema_of(schema: type[Structured]) -> dict[str, Any]:
    """The JSON schema in what all servers know of it: without references, titles and descriptions."""
    whole = schema.model_json_schema(by_alias=True)
    return _plain(whole, whole.get("$defs", {}))


def _plain(node: Any, known: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_plain(part, known) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(known[node["$ref"].rpartition("/")[2]], known)
    if "const" in node:  # of a choice of one
        return {"enum": [node["const"]], "type": node["type"]}
    plain = {key: _plain(part, known) for key, part in node.items() if key not in ("title", "description", "$defs")}
    if "properties" in node:  # names of fields are no keywords, whatever they are called
        plain["properties"] = {name: _plain(part, known) for name, part in node["properties"].items()}
    return plain
