"""What an error says that has come through Keras, which puts a frame around it."""

import re


def unframed(error: BaseException) -> str:
    """The text of an error, less what Keras says of where it was and what the layer was called with or made of."""
    return _AROUND.split(_STYLE.sub("", str(error)))[-1].partition("\n\nArguments received by")[0].strip()


_STYLE = re.compile(r"\x1b\[[01]m")  # bold and its end; names may hold others, which are theirs
_AROUND = re.compile(r"Exception encountered when calling [^\n]*\n\n|(?:Error|Exception) encountered:\s+(?:'')?")
