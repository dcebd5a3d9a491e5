"""Building blocks for the schemas of YAML files, over pydantic's validator core.

The core alone, without pydantic's model classes: the rules are the same and so are the errors, and importing it takes
a tenth of the time, which a plan would otherwise mostly consist of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import SchemaValidator, core_schema

Schema = core_schema.CoreSchema

text: Schema = core_schema.str_schema(strict=True)
word: Schema = core_schema.str_schema(strict=True, min_length=1)
flag: Schema = core_schema.bool_schema(strict=True)


def whole(low: int, high: int | None = None) -> Schema:
    """A whole number, from `low` to `high`."""
    return core_schema.int_schema(strict=True, ge=low, le=high)


def one_of(*values: str) -> Schema:
    """One of these words."""
    return core_schema.literal_schema(list(values))


def checked(schema: Schema, check: Callable[[Any], Any]) -> Schema:
    """`schema`, then `check`, which returns the value or raises ValueError with the sentence."""
    return core_schema.no_info_after_validator_function(check, schema)


def prepared(prepare: Callable[[Any], Any], schema: Schema) -> Schema:
    """`prepare`, which may change the value or raise ValueError with the sentence, then `schema`."""
    return core_schema.no_info_before_validator_function(prepare, schema)


def mapping(keys: Schema, values: Schema) -> Schema:
    """A map of free names."""
    return core_schema.dict_schema(keys, values, strict=True)


def listing(items: Schema) -> Schema:
    """A list."""
    return core_schema.list_schema(items, strict=True)


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema]) -> Schema:
    """A map of known keys; any other key is an error."""
    fields = {name: core_schema.typed_dict_field(schema, required=True) for name, schema in required.items()}
    fields |= {name: core_schema.typed_dict_field(schema, required=False) for name, schema in optional.items()}
    return core_schema.typed_dict_schema(fields, extra_behavior="forbid", strict=True)


def keys_of(schema: Schema) -> list[str]:
    """The legal keys of a record."""
    return sorted(schema["fields"])


def validator(schema: Schema) -> SchemaValidator:
    """The validator; its `validate_python` raises `pydantic_core.ValidationError` with every error at once."""
    return SchemaValidator(schema)
