"""Text from files as a terminal may show it."""

from typing import Any


def printable(text: Any, keep: Any = "\n") -> str:
    r"""Text with everything escaped that is not printed: what would move the cursor, colour, or turn the direction.

    Args:
        text: anything that has a text.
        keep: characters that stay.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() else _escaped(c) for c in text)


def _escaped(character):
    return character.encode("unicode_escape", "surrogatepass").decode()
