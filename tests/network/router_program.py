"""A home router that speaks NAT-PMP, for tests in namespaces: forwards ports with nftables, and really does.

Arguments: the outer address. Answers on port 5351 of its inner address.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from ipaddress import IPv4Address


def main(outside: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("192.168.1.1", 5351))
        print("ready", flush=True)
        while True:
            question, sender = sock.recvfrom(64)
            if question[1] == 0:
                sock.sendto(struct.pack(">BBHI", 0, 128, 0, 1) + IPv4Address(outside).packed, sender)
                continue
            internal, external, lease_s = struct.unpack(">HHI", question[4:12])
            forward(sender[0], internal, external if lease_s else 0)
            sock.sendto(struct.pack(">BBHIHHI", 0, 130, 0, 1, internal, external, lease_s), sender)


def forward(inside: str, internal: int, external: int) -> None:
    rules = "table ip forwarding {}\ndelete table ip forwarding\n"
    if external:
        rules += f"""
table ip forwarding {{
  chain arriving {{
    type nat hook prerouting priority -100
    iifname "eth0" tcp dport {external} dnat to {inside}:{internal}
  }}
}}
"""
    subprocess.run(["nft", "-f", "-"], check=True, input=rules, text=True)
    if external:
        print(f"forwarded {external}", flush=True)
    else:
        print("forgotten", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
