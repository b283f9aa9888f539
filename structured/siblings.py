"""What keywords of one node mean to each other. Pure questions, for the normaliser."""

from collections.abc import Mapping
from typing import Any

from outrider.structured.keywords import TYPED, VOID_WITHOUT
from outrider.structured.literals import explicit_types


def is_void(keyword: str, schema: Mapping[str, Any]) -> bool:
    """Whether a keyword says nothing for want of the one that it belongs to."""
    if keyword == "additionalItems":
        return not isinstance(schema.get("items"), list)
    return keyword in VOID_WITHOUT and not VOID_WITHOUT[keyword] & schema.keys()


def speaks(schema: Mapping[str, Any]) -> bool:
    """Whether the keywords of the node itself say more than a reference or a combinator beside them would."""
    return "properties" in schema or ("$ref" not in schema and any(keyword in schema for keyword in TYPED))


def with_type(branch: Any, types: frozenset[str]) -> Any:
    """The branch with the type that stands beside it, None when it is not so simple."""
    if branch is True:
        return {"type": sorted(types)}
    if branch is False:
        return False
    if "$ref" in branch:
        return None
    own = explicit_types(branch)
    if own is None:
        return {**branch, "type": sorted(types)}
    if own == types:
        return branch
    wide_own, wide_types = (named | {"integer"} if "number" in named else named for named in (own, types))
    both = (own & wide_types) | (wide_own & types)
    return {**branch, "type": sorted(both)} if both else False


def mentions_reference(schema: Any) -> bool:
    """Whether a reference stands anywhere in a schema."""
    if isinstance(schema, dict):
        return bool({"$ref", "$dynamicRef"} & schema.keys()) or any(map(mentions_reference, schema.values()))
    return isinstance(schema, list) and any(map(mentions_reference, schema))
