"""Where does one character end for a reader, and the next begin?

HCL counts what a person would count: a letter with its accents, a flag, a family of emoji joined to one
picture. These are Unicode's grapheme clusters (annex 29) without its rules for Hangul and Indic scripts,
whose composed letters already are one code point after normalization.
"""

import unicodedata

_JOINER = "\u200d"
_TONES = range(0x1F3FB, 0x1F400)  # skin colours
_TAGS = range(0xE0020, 0xE0080)  # what follows the black flag of England, Scotland and Wales
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)


def clusters(text: str) -> list[str]:
    """The text's characters as a reader counts them; joined they are the text again."""
    if text.isascii() and "\r\n" not in text:
        return list(text)
    found: list[str] = []
    flag_letters = 0  # how many in a row: two make one flag
    for character in text:
        number = ord(character)
        is_flag_letter = number in _FLAG_LETTERS
        if found and _belongs(found[-1][-1], character, number, flag_letters):
            found[-1] += character
        else:
            found.append(character)
        flag_letters = flag_letters + 1 if is_flag_letter else 0
    return found


def _belongs(before: str, character: str, number: int, flag_letters: int) -> bool:
    """Whether a character goes on with the one before it."""
    if before == "\r":
        return character == "\n"
    if before == "\n":
        return False
    if character == _JOINER or number in _TONES or number in _TAGS:
        return True
    if before == _JOINER:
        return unicodedata.category(character) == "So"
    if number in _FLAG_LETTERS:
        return flag_letters % 2 == 1
    return unicodedata.category(character) in ("Mn", "Me", "Mc")
