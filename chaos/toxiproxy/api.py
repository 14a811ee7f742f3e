"""The Toxiproxy HTTP API: routes, and the shape of every answer.

It decides nothing about proxies: it reads the request, calls the collection and shows the result.
"""

from __future__ import annotations

import posixpath
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from chaos.toxiproxy import bodies, gojson, metrics
from chaos.toxiproxy.collection import Collection
from chaos.toxiproxy.errors import ApiError
from chaos.toxiproxy.http1 import PLAIN, Request, Response
from chaos.toxiproxy.proxy import Proxy
from chaos.toxiproxy.toxics import KINDS

VERSION = "2.12.0"  # of the API that this server speaks
JSON = "application/json"
_ID_LETTERS = "0123456789abcdefghijklmnopqrstuv"
_ID_LENGTH = 20
_NOSNIFF = {"X-Content-Type-Options": "nosniff"}
_NOT_FOUND = Response(404, "404 page not found\n", PLAIN, _NOSNIFF)
_NOT_ALLOWED = Response(405)
_PATH_SIGNS = "/:@!$&'()*+,;=~-._"
_BROWSER = "Mozilla/"

Call = Callable[[list[str], bytes], Response]


class Api:
    """Answers requests for one collection of proxies."""

    def __init__(
        self, collection: Collection, *, proxy_metrics: bool, runtime_metrics: bool
    ) -> None:
        self._collection = collection
        self._proxy_metrics = proxy_metrics
        self._runtime_metrics = runtime_metrics
        self._ids = random.Random()
        change_proxy, change_toxic = self._change_proxy, self._change_toxic
        self._routes: list[tuple[list[str], dict[str, Call]]] = [
            (["version"], {"GET": self._version}),
            (["proxies"], {"GET": self._list_proxies, "POST": self._create_proxy}),
            (["populate"], {"POST": self._populate}),
            (["kinds"], {"GET": self._kinds}),
            (["proxies", "*", "records"], {"GET": self._records}),
            (["reset"], {"POST": self._reset}),
            (
                ["proxies", "*"],
                {
                    "GET": self._show_proxy,
                    "POST": change_proxy,
                    "PATCH": change_proxy,
                    "DELETE": self._delete_proxy,
                },
            ),
            (
                ["proxies", "*", "toxics"],
                {"GET": self._list_toxics, "POST": self._create_toxic},
            ),
            (
                ["proxies", "*", "toxics", "*"],
                {
                    "GET": self._show_toxic,
                    "POST": change_toxic,
                    "PATCH": change_toxic,
                    "DELETE": self._delete_toxic,
                },
            ),
        ]
        if proxy_metrics or runtime_metrics:
            self._routes.append((["metrics"], {"GET": self._metrics}))

    def answer(self, request: Request) -> Response:
        """The answer to one request; raises Pending when a name must be looked up first."""
        path = _path(request.target)
        if path is None:
            return Response(400, "400 Bad Request", PLAIN)
        clean = _clean(path)
        if clean != path:
            query = request.target.partition("?")[2]
            location = quote(clean, safe=_PATH_SIGNS) + (f"?{query}" if query else "")
            return Response(301, headers={"Location": location})
        call, names = self._find(request.method, path)
        if isinstance(call, Response):
            return call
        return self._identified(self._called(call, names, request))

    def _find(self, method: str, path: str) -> tuple[Call | Response, list[str]]:
        words = path.split("/")[1:]
        for pattern, calls in self._routes:
            if len(pattern) != len(words):
                continue
            pairs = list(zip(pattern, words, strict=True))
            if all(word == part or (part == "*" and word) for part, word in pairs):
                call = calls.get(method)
                names = [word for part, word in pairs if part == "*"]
                return (call, names) if call is not None else (_NOT_ALLOWED, [])
        return _NOT_FOUND, []

    def _called(self, call: Call, names: list[str], request: Request) -> Response:
        if request.headers.get("user-agent", "").startswith(_BROWSER):
            return Response(403, "User agent not allowed\n", PLAIN, _NOSNIFF)
        try:
            return call(names, request.body)
        except ApiError as error:
            body = gojson.write({"error": error.text, "status": error.status})
            return Response(error.status, body + "\n", PLAIN, _NOSNIFF)

    def _identified(self, response: Response) -> Response:
        request_id = "".join(self._ids.choices(_ID_LETTERS, k=_ID_LENGTH))
        headers = {**response.headers, "X-Toxiproxy-Request-Id": request_id}
        return Response(response.status, response.body, response.content_type, headers)

    # ------------------------------------------------------------------ calls

    def _version(self, names: list[str], body: bytes) -> Response:
        del names, body
        return Response(200, f'{{"version": "{VERSION}"}}\n', "application/json;charset=utf-8")

    def _kinds(self, names: list[str], body: bytes) -> Response:
        """Ours alone: the types of toxic that this server knows."""
        del names, body
        return _shown(200, sorted(KINDS))

    def _records(self, names: list[str], body: bytes) -> Response:
        """Ours alone: what the toxics that speak protocols did, the latest gone ones included."""
        del body
        return _shown(200, self._collection.find(names[0]).records())

    def _metrics(self, names: list[str], body: bytes) -> Response:
        del names, body
        text = metrics.page(
            self._collection.proxies.values() if self._proxy_metrics else None,
            runtime=self._runtime_metrics,
        )
        return Response(200, text, "text/plain; version=0.0.4; charset=utf-8")

    def _list_proxies(self, names: list[str], body: bytes) -> Response:
        del names, body
        proxies = self._collection.proxies
        return _shown(200, {name: proxies[name].shown() for name in sorted(proxies)})

    def _create_proxy(self, names: list[str], body: bytes) -> Response:
        del names
        return _shown(201, self._collection.create(bodies.proxy_body(body)).shown())

    def _populate(self, names: list[str], body: bytes) -> Response:
        del names
        done: list[Proxy] = []
        answer: dict[str, Any] = {}
        status = 201
        try:
            self._collection.populate(bodies.proxy_bodies(body), done)
        except ApiError as error:
            status = error.status
            answer = {"error": error.text, "status": error.status}
        return _shown(status, {**answer, "proxies": [proxy.shown() for proxy in done] or None})

    def _reset(self, names: list[str], body: bytes) -> Response:
        del names, body
        self._collection.reset()
        return Response(204)

    def _show_proxy(self, names: list[str], body: bytes) -> Response:
        del body
        return _shown(200, self._collection.find(names[0]).shown())

    def _change_proxy(self, names: list[str], body: bytes) -> Response:
        self._collection.find(names[0])
        return _shown(200, self._collection.update(names[0], bodies.proxy_body(body)).shown())

    def _delete_proxy(self, names: list[str], body: bytes) -> Response:
        del body
        self._collection.delete(names[0])
        return Response(204)

    def _list_toxics(self, names: list[str], body: bytes) -> Response:
        del body
        return _shown(200, self._collection.find(names[0]).shown()["toxics"])

    def _create_toxic(self, names: list[str], body: bytes) -> Response:
        proxy = self._collection.find(names[0])
        return _shown(200, self._collection.create_toxic(proxy, bodies.toxic_body(body)).shown())

    def _show_toxic(self, names: list[str], body: bytes) -> Response:
        del body
        return _shown(200, self._collection.find_toxic(*names)[1].shown())

    def _change_toxic(self, names: list[str], body: bytes) -> Response:
        proxy, toxic = self._collection.find_toxic(*names)
        self._collection.change_toxic(proxy, toxic, bodies.toxic_change(body))
        return _shown(200, toxic.shown())

    def _delete_toxic(self, names: list[str], body: bytes) -> Response:
        del body
        proxy, toxic = self._collection.find_toxic(*names)
        proxy.drop(toxic)
        return Response(204)


def _shown(status: int, value: Any) -> Response:
    return Response(status, gojson.write(value), JSON)


def _path(target: str) -> str | None:
    """The decoded path of a request target; None if it cannot be decoded."""
    if target.startswith(("http://", "https://")):
        target = "/" + target.split("//", 1)[1].partition("/")[2]
    raw = target.partition("?")[0]
    escapes = raw.split("%")[1:]
    if any(len(part) < 2 or not _is_hex(part[:2]) for part in escapes):
        return None
    return unquote_to_bytes(raw).decode("utf-8", "replace")


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdefABCDEF" for letter in text)


def _clean(path: str) -> str:
    """The path without `//`, `.` and `..`; a trailing slash stays."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean
