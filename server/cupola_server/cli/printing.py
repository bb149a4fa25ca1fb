"""What a model writes, made fit for a terminal."""


def printable(text: str) -> str:
    """Return text without the control characters that a terminal would obey."""
    return "".join(char for char in text if char in "\n\t" or char.isprintable() or ord(char) > 0x9F)
