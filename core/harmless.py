"""Text of strangers made harmless to look at: nothing in it steers a terminal or turns the order of letters."""

import re

# C0 and C1 controls but tab and new line, what turns the direction of writing, what nobody sees (tags, word joiners,
# line separators), and halves of characters that no encoding writes.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def harmless(text: str) -> str:
    r"""The text with every control character written out: an escape becomes `\x1b`, a turn of direction `\u202e`."""
    return _UNSEEN.sub(lambda found: _written(found[0]), text.replace("\r\n", "\n"))


def one_line(text: str, longest: int = 160) -> str:
    """The text as one harmless line, cut with dots where it is longer."""
    line = harmless(" ".join(text[: 8 * longest].split()))
    return line if len(line) <= longest else f"{line[: longest - 3].rstrip()}..."


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
