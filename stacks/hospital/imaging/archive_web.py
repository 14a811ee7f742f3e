"""The archive's DICOMweb face: QIDO-RS finds, WADO-RS gives images as multipart/related.

It refuses what it does not keep with 404, and queries it does not understand with a reason.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping

from starlette.responses import StreamingResponse

from stacks.hospital.imaging.archive_attributes import (
    KEYS,
    as_json,
    keyword,
    shown_at,
)
from stacks.hospital.imaging.archive_index import FIND_MAX, Index, Stored
from stacks.hospital.imaging.instances import decode, part10
from stacks.hospital.log import describe
from stacks.hospital.pages import number
from stacks.hospital.store import StoreError
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer

DICOM_JSON = "application/dicom+json"
PAGE_IMAGES = 50
_PATH = {"study": "STUDY", "series": "SERIES", "image": "IMAGE"}
_OWN = frozenset({"limit", "offset", "includefield", "fuzzymatching"})


class Web:
    """Answers HTTP from one index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def routes(self) -> list[Route]:
        """All routes of this face."""
        study, image = "/dicom-web/studies/{study}", "/instances/{image}"
        series = study + "/series/{series}"
        return [
            Route("/dicom-web/studies", self.studies),
            Route("/dicom-web/series", self.series),
            Route("/dicom-web/instances", self.instances),
            Route(f"{study}/series", self.series),
            Route(f"{study}/instances", self.instances),
            Route(f"{series}/instances", self.instances),
            Route(study, self.retrieve),
            Route(series, self.retrieve),
            Route(series + image, self.retrieve),
            Route(series + image + "/frames/1", self.frame),
            Route("/size", self.size),
        ]

    # -- QIDO-RS --------------------------------------------------------------------------------

    async def studies(self, request: Request) -> Response:
        """Studies that match the query's attributes."""
        return self._found(request, "STUDY")

    async def series(self, request: Request) -> Response:
        """Series of a study, or of all."""
        return self._found(request, "SERIES")

    async def instances(self, request: Request) -> Response:
        """Images of a study, of a series, or of all."""
        return self._found(request, "IMAGE")

    def _found(self, request: Request, level: str) -> Response:
        wanted = _path(request)
        for name, text in request.query_params.multi_items():
            if name in _OWN:
                continue
            known = keyword(name)
            if known not in shown_at(level):
                raise Refusal(400, "value", f"{name[:40]!r} is no attribute of a {level} query")
            wanted[known] = text.replace(",", "\\") if known.endswith("InstanceUID") else text
        limit, offset = number(request, "limit", FIND_MAX), number(request, "offset", 0)
        try:
            found = self._index.find(level, wanted, limit, offset)
        except StoreError as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
        headers = {}
        if len(found) == FIND_MAX:
            headers["Warning"] = f'299 - "at most {FIND_MAX} answers; ask on with offset"'
        return answer([as_json(one) for one in found], 200, headers, DICOM_JSON)

    # -- WADO-RS --------------------------------------------------------------------------------

    async def retrieve(self, request: Request) -> Response:
        """A study, a series or one image as DICOM files."""
        wanted = _path(request)
        first = self._page(wanted, 0)
        if not first:
            raise Refusal(404, "not-found", "no such image here")
        boundary = uuid.uuid4().hex

        async def body() -> AsyncIterator[bytes]:
            page = first
            while page:
                for image in page:
                    yield _part(
                        boundary,
                        f"application/dicom; transfer-syntax={image.encoded.transfer_syntax}",
                        part10(image.encoded),
                        image.stored_at,
                    )
                await asyncio.sleep(0)
                page = self._page(wanted, page[-1].row) if len(page) == PAGE_IMAGES else []
            yield f"--{boundary}--\r\n".encode()

        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        return StreamingResponse(body(), headers={"Content-Type": kind})

    async def frame(self, request: Request) -> Response:
        """The pixels of an image's first frame."""
        found = self._page(_path(request), 0)
        if not found:
            raise Refusal(404, "not-found", "no such image here")
        try:
            pixels = _first_frame(found[0])
        except Exception as error:
            raise Refusal(406, "not-supported", f"no frame in it: {describe(error)}") from None
        boundary = uuid.uuid4().hex
        kind = f'multipart/related; type="application/octet-stream"; boundary={boundary}'
        content = _part(boundary, "application/octet-stream", pixels)
        return Response(content + f"--{boundary}--\r\n".encode(), headers={"Content-Type": kind})

    def _page(self, wanted: Mapping[str, str], after: int) -> list[Stored]:
        try:
            return self._index.images(wanted, after, PAGE_IMAGES)
        except StoreError as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None

    async def size(self, _: Request) -> Response:
        """How much is kept."""
        studies, images = self._index.size()
        return answer({"studies": studies, "instances": images}, media_type=JSON)


def _path(request: Request) -> dict[str, str]:
    found = {KEYS[_PATH[name]]: text for name, text in request.path_params.items() if name in _PATH}
    if any("\\" in text for text in found.values()):
        raise Refusal(400, "value", "one UID per part of the path")
    return found


def _part(boundary: str, kind: str, content: bytes, stored_at: float = 0.0) -> bytes:
    head = f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
    stored = f"X-Stored-At: {stored_at:.6f}\r\n" if stored_at else ""
    return b"".join((head.encode(), stored.encode(), b"\r\n", content, b"\r\n"))


def _first_frame(image: Stored) -> bytes:
    dataset = decode(image.encoded)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    return bytes(dataset.PixelData[: len(dataset.PixelData) // frames])
