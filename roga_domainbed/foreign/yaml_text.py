"""YAML from elsewhere, as the values that JSON has too.

Refused are anchors (ten lines with them unfold to gigabytes), tags (dates, sets, Python objects) and a key that comes
twice. A date is text.
"""

from __future__ import annotations

from typing import Any

from roga_domainbed.foreign.malformed import DEEPEST, Malformed, require_kind, require_plain

LARGEST_YAML = 256 * 2**10  # characters: PyYAML takes a second for 100 KiB


def parse_yaml(text: str, kind: type | None = None) -> Any:
    """The value of ``text``.

    Args:
        text: YAML of one document.
        kind: what its outermost value must be.

    Raises:
        Malformed: it is not YAML, of another kind, too long, nested too deep, has anchors, tags, a key twice, or a
            number beyond 64 bits.
    """
    import yaml

    if len(text) > LARGEST_YAML:
        raise Malformed(f"longer than {LARGEST_YAML // 2**10} KiB, the most that is read")
    try:
        _check_events(yaml.parse(text, yaml.SafeLoader))
        value = yaml.load(text, _loader())
    except yaml.YAMLError as error:
        raise Malformed(f"not valid YAML: {' '.join(str(error).split())}") from None
    except (ValueError, OverflowError) as error:
        raise error if isinstance(error, Malformed) else Malformed(f"not valid YAML: {error}") from None
    return require_kind(require_plain(value), kind)


def _check_events(events: Any) -> None:
    depth = 0
    for event in events:
        name = type(event).__name__
        if getattr(event, "anchor", None) is not None:
            raise Malformed(f"line {event.start_mark.line + 1}: anchors and aliases (&, *) are not read")
        if getattr(event, "tag", None) is not None:
            raise Malformed(f"line {event.start_mark.line + 1}: tags ({event.tag}) are not read")
        depth += name in ("MappingStartEvent", "SequenceStartEvent")
        depth -= name in ("MappingEndEvent", "SequenceEndEvent")
        if depth > DEEPEST:
            raise Malformed(f"nested more than {DEEPEST} deep")


def _loader() -> type:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            keys = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        raise Malformed(f"line {key.start_mark.line + 1}: the key {key.value!r} comes twice")
                    keys.add(key.value)
            return super().construct_mapping(node, deep)

    dates = "tag:yaml.org,2002:timestamp"
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if tag != dates]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader
