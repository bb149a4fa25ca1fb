"""Random JSON schemas, of every kind that can be enforced, whose answers are short."""

from hypothesis import strategies as st

scalars = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
              st.integers(-1000, 1000), st.integers(0, 500)),
    st.builds(lambda low, span: {"type": "number", "minimum": low, "exclusiveMaximum": low + span},
              st.integers(-50, 50), st.integers(1, 9)),
    st.builds(lambda low, span: {"type": "string", "minLength": low, "maxLength": low + span},
              st.integers(0, 3), st.integers(0, 6)),
    st.builds(lambda values: {"enum": values},
              st.lists(st.one_of(st.text(max_size=5), st.integers(-9, 9), st.none()), min_size=1, max_size=4)),
    st.builds(lambda value: {"const": value}, st.one_of(st.text(max_size=4), st.booleans())),
    st.sampled_from([{"type": "string", "pattern": "^[a-f]{2,4}$"}, {"type": "string", "format": "date"}]),
)  # fmt: skip


def compound(inner):
    names = st.sampled_from(["a", "b", "name", "x y", 'q"', "é"])
    arrays = st.builds(
        lambda items, low, span: {"type": "array", "items": items, "minItems": low, "maxItems": low + span},
        inner, st.integers(0, 2), st.integers(0, 2),
    )  # fmt: skip

    @st.composite
    def objects(draw):
        properties = draw(st.dictionaries(names, inner, max_size=4))
        required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    return st.one_of(
        arrays, objects(), st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3))
    )


schemas = st.recursive(scalars, compound, max_leaves=8)
