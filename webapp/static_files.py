"""Style sheet and scripts, compressed: the same bytes for everybody, with nothing of anybody in them.

Pages are not compressed. They hold a form's token beside what was typed into a search, and the length of such an
answer would tell the token to whoever can make requests and watch the line (BREACH, CVE-2013-3587).
"""

from __future__ import annotations

import gzip
import os
from functools import cache
from pathlib import Path
from typing import Final

from flask import Flask, Response, request

_COMPRESSIBLE: Final = frozenset({".css", ".js", ".svg"})


def compress(app: Flask) -> None:
    """Answer with the compressed form of a static file whoever can take it."""
    folder = Path(app.static_folder or "")

    def answer(response: Response) -> Response:
        if request.endpoint != "static" or Path(request.path).suffix not in _COMPRESSIBLE:
            return response
        response.vary.add("Accept-Encoding")
        if response.status_code == 200 and request.accept_encodings["gzip"]:
            file = Path(os.path.normpath(folder / (request.view_args or {})["filename"]))
            response.close()
            response.direct_passthrough = False
            response.set_data(_packed(file, file.stat().st_mtime_ns))
            response.headers["Content-Encoding"] = "gzip"
            etag, _weak = response.get_etag()
            response.set_etag(f"{etag}-gzip")
            response.make_conditional(request)
        return response

    app.after_request(answer)


@cache
def _packed(file: Path, _changed_at: int) -> bytes:
    return gzip.compress(file.read_bytes(), 9, mtime=0)
