import math

import pytest

from roga_domainbed.engine.lib.query import Q, hashable, make_selector_fn

ROWS = [{"a": 2, "n": {"b": "x"}}, {"a": 1, "n": {"b": "y"}}, {"a": 2, "n": {"b": "z"}}]


def test_selectors_read_keys_nested_keys_and_tuples():
    assert make_selector_fn("n.b, a")(ROWS[0]) == ("x", 2)
    double = lambda row: row["a"] * 2  # noqa: E731
    assert make_selector_fn(double) is double
    for bad in (len, 3):
        with pytest.raises(TypeError):
            make_selector_fn(bad)


def test_hashable_is_equal_for_equal_values():
    assert hashable((1, 2)) == (1, 2)
    assert hashable({"b": 1, "a": [2]}) == hashable({"a": [2], "b": 1}) != hashable({"a": [3], "b": 1})


def test_group_sorts_by_value_and_keeps_order_inside():
    groups = Q(ROWS).group("a")
    assert [value for value, _ in groups] == [1, 2]
    assert groups[1][1].select("n.b") == ["x", "z"]
    assert Q(ROWS).group_map("a", lambda value, rows: (value, len(rows))) == [(1, 1), (2, 2)]
    assert [value for value, _ in Q([{"e": [1]}, {"e": [0]}]).group("e")] == [[0], [1]]
    with pytest.raises(TypeError):
        Q([{"a": 1}, {"a": "x"}]).group("a")


def test_map_unpacks_only_for_several_arguments():
    assert Q([(1, 2)]).map(lambda pair: pair[0]) == [1]
    assert Q([(1, 2)]).map(lambda x, y=0: x + y) == [3]


def test_reductions():
    numbers = Q([1, 2, 6])
    assert (numbers.min(), numbers.max(), numbers.sum(), numbers.len()) == (1, 6, 9, 3)
    mean, std = numbers.mean_std()
    assert mean == 3.0
    assert std == pytest.approx(math.sqrt(14 / 3))
    assert math.isnan(Q([]).mean())
    assert math.isnan(Q([]).std())


def test_argmax_takes_the_first_of_equals():
    assert Q(ROWS).argmax("a") is ROWS[0]


def test_filters_flatten_unique():
    assert Q(ROWS).filter_equals("n.b", "y") == [ROWS[1]]
    assert Q([None, 1]).filter_not_none() == [1]
    assert Q([math.nan, 1.0]).filter_not_nan() == [1.0]
    assert Q([[1, [2]], [3]]).flatten() == [1, [2], 3]
    assert Q([[2], 1, [2], 1]).unique() == [[2], 1]


def test_sorted_puts_nan_first_and_is_stable():
    values = Q([3.0, math.nan, 1.0]).sorted()
    assert math.isnan(values[0])
    assert values[1:] == [1.0, 3.0]
    assert Q(ROWS).sorted("a").select("n.b") == ["y", "x", "z"]


def test_q_wraps_and_behaves_like_its_list():
    inner = [1, 2]
    q = Q(inner)
    inner.append(3)
    assert len(q) == 3
    assert type(q[:2]) is list
    assert (str(q), repr(q)) == ("[1, 2, 3]", "[1, 2, 3]")
    assert q == Q([1, 2, 3])
    with pytest.raises(TypeError):
        hash(q)
