"""What is told of an error that somebody else's code raised: its class and words, without the keys in them."""

import os
import re

SHORTEST = 8
"""Characters of what counts as a key: shorter values of the environment stand in words."""
_HOLDS_A_KEY = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
_USER_OF_A_URL = re.compile(r"(?<=://)[^\s/@]{1,200}(?=@)")


def told(error: BaseException, most: int | None = None) -> str:
    """Class and message of an error, that cut to `most` characters; a server may have quoted the key it was sent."""
    return f"{type(error).__name__}: {without_keys(str(error))[:most]}"


def without_keys(text: str) -> str:
    """The text with [secret] in place of keys of this process's environment, and of user and password in a URL."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and _HOLDS_A_KEY.search(name):
            text = text.replace(value, "[secret]")
    return _USER_OF_A_URL.sub("[secret]", text)
