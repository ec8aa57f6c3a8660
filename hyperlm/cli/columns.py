"""Options that name the columns of a table."""

__all__ = ["listed"]


def listed(columns: str | None) -> tuple[str, ...] | None:
    """Names with commas between them; None for an option that was not given."""
    if columns is None:
        return None
    return tuple(name.strip() for name in columns.split(",") if name.strip())
