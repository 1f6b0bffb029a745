from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from orca2_gen.console.fitting import print_table
from orca2_gen.console.tables import outcome_table, selection_table
from orca2_gen.run_directory.ledger import read_ledger
from tests.conftest import FinishedRun

NAME = st.text(alphabet="abcdefgh ", min_size=1, max_size=24).map(str.strip).filter(bool)


def printed(table: Table, width: int) -> str:
    shown = io.StringIO()
    print_table(table, Console(width=width, file=shown))
    return shown.getvalue()


def numbers_of(table: Table) -> list[str]:
    return [
        str(cell)
        for column in table.columns
        if column.justify == "right"
        for cell in column.cells
        if str(cell)
    ]


@given(
    st.lists(NAME, min_size=2, max_size=10),
    st.lists(st.lists(st.integers(0, 10**8), min_size=9, max_size=9), min_size=1, max_size=4),
    st.integers(40, 160),
)
def test_no_number_is_cut_or_broken_at_any_width(
    names: list[str], rows: list[list[int]], width: int
) -> None:
    table = Table(title="A title that may take more than one line", title_justify="left")
    table.add_column(names[0])
    for name in names[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row("a text of some words", *(f"{n:,}" for n in row[: len(names) - 1]))
    lines = printed(table, width).splitlines()
    words = [word for line in lines for word in line.replace("│", " ").split()]
    for number in numbers_of(table):
        assert number in words
    assert not any("…" in line for line in lines)


def test_a_table_that_fits_stays_as_it_is() -> None:
    def made() -> Table:
        table = Table()
        table.add_column("two words")
        table.add_column("a number", justify="right")
        table.add_row("some text", "1,000")
        return table

    plain = io.StringIO()
    Console(width=80, file=plain).print(made())
    assert printed(made(), 80) == plain.getvalue()


def test_the_tables_of_a_run_fit_eighty_columns(undisturbed: FinishedRun) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    for table in (selection_table(ledger), outcome_table(ledger)):
        lines = printed(table, 80).splitlines()
        assert max(map(len, lines)) <= 80
        assert not any("…" in line for line in lines)
