"""What rows, and several rows of one problem, are called in a line for people."""

from __future__ import annotations


def row_name(problem_id: str, attempt: int) -> str:
    """The name for people of one of a problem's rationales, examples or rows of the dataset."""
    return f"{problem_id}, attempt {attempt}" if attempt else problem_id


def rows_in_words(rows: int, problems: int | None) -> str:
    """The number of rows, and of their problems where it is known to be another one."""
    return f"{rows} rows" + (f" of {problems} problems" if problems not in (None, rows) else "")
