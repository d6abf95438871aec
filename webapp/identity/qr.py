"""A QR code as the path of an SVG: dark runs of one module's height, in the units of the code."""

from __future__ import annotations

from itertools import groupby

import segno

from webapp.keyring import Secret

_BORDER = 4  # modules of quiet around the code, as the standard asks


class QrCode:
    """side: width and height in modules, with the border; path: what an SVG path's ``d`` draws."""

    def __init__(self, text: Secret) -> None:
        rows = list(segno.make(text.reveal(), error="m", micro=False).matrix)
        self.side = len(rows) + 2 * _BORDER
        self._path = "".join(_runs(row, number) for number, row in enumerate(rows, _BORDER))

    def reveal(self) -> str:
        """The path. It holds the text, which may be a secret."""
        return self._path

    def __repr__(self) -> str:
        return "***"


def _runs(row: bytearray, y: int) -> str:
    drawn, x = [], _BORDER
    for dark, modules in groupby(row):
        width = len(list(modules))
        if dark:
            drawn.append(f"M{x} {y}h{width}v1h-{width}z")
        x += width
    return "".join(drawn)
