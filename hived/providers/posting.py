"""Ask with a body, within the bounds of the one HTTP client. For questions that change nothing."""

from __future__ import annotations

import anyio
import httpx
import msgspec

from hived.providers.http import _HEADERS, Answer, Http, Unusable, _read, _unusable


async def post(http: Http, url: str, document: object, *, limit: int, timeout: float) -> Answer:
    """Send a document as JSON. Raises ``Unusable`` for anything but a whole answer within the bounds."""
    http.requests += 1
    headers = _HEADERS | {"Accept": "application/json", "Content-Type": "application/json"}
    content = msgspec.json.encode(document)
    body = bytearray()

    def take(chunk: bytes) -> bool:
        body.extend(chunk)
        return len(body) <= limit

    try:
        with anyio.fail_after(timeout):
            client = http._client_for(url)
            async with client.stream("POST", url, headers=headers, content=content) as response:
                if 300 <= response.status_code < 400:
                    raise Unusable("redirect", f"status {response.status_code}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise Unusable("broken", "its answer is compressed although that was not asked for")
                if not await _read(response, take):
                    raise Unusable("broken", f"its answer is longer than {limit} bytes")
                return Answer(status=response.status_code, headers=response.headers, body=bytes(body))
    except TimeoutError as error:
        raise Unusable("silent", f"no whole answer within {timeout:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        raise _unusable(error) from error
