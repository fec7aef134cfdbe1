"""HTTP to a service that takes logs, traces or metrics: one client, deadlines, answers of bounded size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from dms.observe.errors import DeliveryDenied, NotDelivered

if TYPE_CHECKING:
    import httpx2

TIMEOUT_S = 3.0
CONNECT_TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 4 << 20


class Poster:
    """Speaks to one service.

    :param headers: sent with each request; they hold the credentials.
    :param verify: whether its certificate is checked.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], *, verify: bool = True, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = dict(headers)
        self._verify = verify
        self._client: httpx2.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"Poster({urlsplit(self.url).hostname})"

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, bytes]:
        """One exchange; status and body.

        :raises NotDelivered: no answer in time, or none that is HTTP.
        """
        import httpx2

        if self._client is None:
            timeout = httpx2.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s))
            self._client = httpx2.AsyncClient(verify=self._verify, timeout=timeout, headers=self._headers)
        headers = {"Content-Type": kind} if body else {}
        try:
            with trio.fail_after(self._timeout_s):
                async with self._client.stream(method, self.url + path, content=body, headers=headers) as response:
                    return response.status_code, await _read(response)
        except trio.TooSlowError:
            raise NotDelivered(f"{self.url} does not answer within {self._timeout_s:g} s") from None
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError, ValueError) as exc:
            raise NotDelivered(f"{self.url}: {str(exc) or type(exc).__name__}") from None

    async def post(self, path: str, body: bytes, kind: str = "application/json") -> bytes:
        """Send ``body``; what was answered.

        :raises DeliveryDenied: 401 or 403.
        :raises NotDelivered: no answer, or one that it was not taken.
        """
        status, answer = await self.ask("POST", path, body, kind)
        check_status(self.url, status, answer)
        return answer

    async def aclose(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def check_status(url: str, status: int, answer: bytes) -> None:
    """Nothing, where the service is content.

    :raises DeliveryDenied: 401 or 403.
    :raises NotDelivered: any other that is not 2xx.
    """
    if status == 401:
        raise DeliveryDenied
    if status == 403:
        raise DeliveryDenied(f"{url} forbids it (403)")
    if not 200 <= status < 300:
        text = answer[:200].decode("utf-8", "replace").strip()
        raise NotDelivered(f"{url} answers {status}" + (f": {text}" if text else ""))


async def _read(response: httpx2.Response) -> bytes:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise NotDelivered("the answer is too long")
        chunks.append(chunk)
    return b"".join(chunks)
