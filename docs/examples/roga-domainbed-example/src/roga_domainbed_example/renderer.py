"""A renderer: result tables in, text out."""


def render_averages(tables, *, compat=None):
    """One line for each row: its average."""
    return "".join(
        f"{table.dataset}: {row.name} {'X' if row.average is None else format(row.average, '.1f')}\n"
        for table in tables.tables
        if table.dataset is not None
        for row in table.rows
    )
