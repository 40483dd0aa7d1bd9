"""How things are said, and read from fields: amounts, instants, numbers, cells of a file, charts; pure."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from decimal import Decimal

import pytest
from markupsafe import Markup

from wallet_app.console import cards, charts, entering, exports, words
from wallet_app.console.charts import Series
from wallet_app.fields import ID_MAX

NOW = dt.datetime(2026, 3, 1, 12, 0, 30, tzinfo=dt.UTC)


def test_a_wallets_number_is_read_as_a_whole_or_refused() -> None:
    assert [entering.wallet_id(given) for given in ("42", " 7 ", "0042", str(ID_MAX))] == [42, 7, 42, ID_MAX]
    for given in ("", "0", "-1", "4.2", "\u0663", str(ID_MAX + 1), "0" * 19 + "1" + "9" * 30, "9" * 5_000):
        with pytest.raises(ValueError, match="Enter the number of a wallet, like 42"):
            entering.wallet_id(given)


def test_amounts_have_the_assets_scale_separators_and_true_signs() -> None:
    cases = {
        (0, 0, False): "0",
        (0, 2, True): "0.00",
        (1_234_567, 0, False): "1,234,567",
        (1_234_567, 2, True): "+12,345.67",
        (-5, 2, False): "\u22120.05",
        (-9_007_199_254_740_991, 0, True): "\u22129,007,199,254,740,991",
        (1, 12, False): "0.000000000001",
    }
    for (value, scale, signed), said in cases.items():
        assert words.amount(value, scale, signed=signed) == said
    assert [str(words.plain_amount(*case)) for case in ((-5, 2), (7, 0), (120, 1))] == ["-0.05", "7", "12.0"]


def test_instants_are_absolute_with_their_zone_and_relative_in_the_largest_unit() -> None:
    elsewhere = NOW.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30)))
    assert words.absolute(elsewhere) == "1 Mar 2026, 12:00 UTC"
    assert words.absolute(elsewhere, precise=True) == "1 Mar 2026, 12:00:30 UTC"
    for seconds, said in {
        0: "just now",
        59: "just now",
        60: "1 minute ago",
        7_199: "1 hour ago",
        3 * 86_400: "3 days ago",
        400 * 86_400: "1 year ago",
        -1: "in a moment",
        -7_200: "in 2 hours",
    }.items():
        assert words.relative(NOW - dt.timedelta(seconds=seconds), NOW) == said


def test_no_text_of_a_file_is_a_formula_and_numbers_stay_numbers() -> None:
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\uff1d1+1"):
        assert exports.cell(text) == f"'{text}"
    # Where semicolons or tabs part cells, each of these would begin one.
    for text, said in {
        "a;=1": "a;'=1",
        ";=1": ";'=1",
        "a\t=1": "a\t'=1",
        'a; "-1': "a; \"'-1",
        "a; b-1": "a; b-1",
        "3,-5": "3,-5",
        "mail a@b.example; c=d": "mail a@b.example; c=d",
    }.items():
        assert exports.cell(text) == said
    cells = {
        -5: "-5",
        Decimal("-0.05"): "-0.05",
        None: "",
        True: "true",
        "a=1": "a=1",
        NOW: "2026-03-01T12:00:30.000000Z",
    }
    for value, said in cells.items():
        assert exports.cell(value) == said
    assert exports.cell({"=": 1}) == '{"=":1}'
    lines = b"".join(exports._csv(["note", "amount"], iter([["=cmd", -5], ['a "b",\nc', Decimal("1E+3")]])))
    assert lines == b'note,amount\r\n\'=cmd,-5\r\n"a ""b"",\nc",1000\r\n'
    odd = ["a;b", "a\tb", 'a"b', "a,b", "", "plain"]
    written = b"".join(exports._csv(list("abcdef"), iter([odd]))).decode()
    assert written.splitlines()[1] == '"a;b","a\tb","a""b","a,b",,plain'
    assert list(csv.reader(io.StringIO(written)))[1] == odd


def test_each_cell_of_a_card_has_the_head_of_its_column() -> None:
    heads: list[str | tuple[str, str]] = ["When", ("Amount", "end"), "", "W & Y"]
    row = Markup('<tr><td>a &lt;td&gt;</td><td class="end">1</td><td>x</td><th scope="row">b</th></tr>')
    assert cards.labelled(row, heads) == (
        '<tr><td data-label="When">a &lt;td&gt;</td><td class="end" data-label="Amount">1</td><td>x</td>'
        '<th scope="row">b</th></tr>'
    )
    # Cells that reach over several columns or rows.
    wide = Markup('<tr><th rowspan="2">a</th><td colspan="2">b</td><td>c</td></tr><tr><td>d</td><td>e</td></tr>')
    assert re.findall(r'data-label="([^"]*)">(.)', cards.labelled(wide, heads)) == [
        ("Amount", "b"),
        ("W &amp; Y", "c"),
        ("Amount", "d"),
    ]
    assert "data-label" not in cards.labelled(Markup("<tr><td>a</td><td>b</td></tr>"), ["", ""])


def test_a_text_from_outside_turns_nothing_beside_it() -> None:
    assert all(words.isolated(text) == text for text in ("John", "Zo\u00eb", "\u5f20\u4f1f"))
    assert words.isolated("\u05d0\u05d1") == "\u2068\u05d0\u05d1\u2069"
    # Neither what turns nor what ends an isolation stays what it is, so nothing gets out of ours.
    assert words.isolated("a\u202eb\u2069\u2066") == "a\ufffdb\ufffd\ufffd"
    assert words.isolated("\u0645\u2069\u202e") == "\u2068\u0645\ufffd\ufffd\u2069"


@pytest.mark.parametrize("high", [0, 1, 3, 4, 5, 9, 10, 123, 9_007_199_254_740_991])
@pytest.mark.parametrize("low", [0, -1, -7, -10_000])
def test_an_axis_has_round_ticks_that_hold_every_value_and_zero(low: int, high: int) -> None:
    axis = charts._Axis.over([Series("a", (low, None, high))])
    ticks = axis.ticks
    assert ticks[0] >= high
    assert ticks[-1] <= low
    assert 0 in ticks
    assert 2 <= len(ticks) <= 7
    assert (axis.y(ticks[0]), axis.y(ticks[-1])) == (0, charts.HEIGHT)


def test_a_step_holds_its_value_until_the_next() -> None:
    axis = charts._Axis.over([Series("a", (0, 4))])
    assert charts._line([0, 0.5], (0, 4), axis, is_step=True) == "0,200 360,200 360,0 720,0"
    assert charts._line([0, 0.5, 1], (0, None, 4), axis, is_step=False) == "0,200 720,0"
