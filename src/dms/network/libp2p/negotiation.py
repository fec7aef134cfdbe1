"""Agreeing on the protocol of a new stream in one round trip instead of two (multistream-select 1.0).

The handshake line and the protocol are sent together, as Go and Rust do when they know what they want; whoever serves
reads them one after the other and notices nothing. Every message of ours opens a stream, so this is one round trip less
for each.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio
from libp2p.abc import IMultiselectCommunicator
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import IOException
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectCommunicatorError
from libp2p.protocol_muxer.multiselect_client import MULTISELECT_PROTOCOL_ID, MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.utils import encode_delim


class EagerClient(MultiselectClient):
    """Asks for one protocol; a choice between several is left to the library."""

    async def select_one_of(
        self, protocols: Sequence[TProtocol], communicator: IMultiselectCommunicator, negotiate_timeout: int = 10
    ) -> TProtocol:
        """The protocol, once the peer agreed to it.

        :raises MultiselectClientError: it does not speak it, or not multistream-select, or not in time.
        """
        if len(protocols) != 1 or not isinstance(communicator, MultiselectCommunicator):
            return await super().select_one_of(protocols, communicator, negotiate_timeout)
        (protocol,) = protocols
        lines = encode_delim(MULTISELECT_PROTOCOL_ID.encode()) + encode_delim(protocol.encode())
        try:
            with trio.fail_after(negotiate_timeout):
                await communicator.read_writer.write(lines)
                greeting, answer = await communicator.read(), await communicator.read()
        except (MultiselectCommunicatorError, IOException) as error:
            raise MultiselectClientError(f"the stream ended while {protocol} was negotiated: {error}") from error
        except trio.TooSlowError:
            raise MultiselectClientError(f"no answer to {protocol} within {negotiate_timeout} s") from None
        if greeting != MULTISELECT_PROTOCOL_ID:
            raise MultiselectClientError(f"the peer does not speak {MULTISELECT_PROTOCOL_ID}: {greeting[:64]!r}")
        if answer != protocol:
            raise MultiselectClientError(f"the peer does not speak {protocol}: {answer[:64]!r}")
        return protocol
