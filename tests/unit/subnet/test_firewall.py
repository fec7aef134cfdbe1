from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from dms.subnet.firewall import Rules, chains_of, removal_text, restore_text
from dms.subnet.ports import PortMapping

WEB = PortMapping("tcp", 18080, IPv4Address("10.1.2.3"), 80)
RULES = Rules("peer", "ensemble", "dms-1234", IPv4Address("10.1.2.1"), (WEB,))


def saved(text: str, *, foreign: str = "") -> str:
    """What ``iptables-save`` would say after a restore, other rules included."""
    out = []
    for block in text.split("COMMIT\n"):
        lines = [line for line in block.splitlines() if line]
        if not lines:
            continue
        out += ["# Generated", lines[0], ":INPUT ACCEPT [0:0]", ":OTHER-CHAIN - [0:0]"]
        out += [line for line in lines[1:] if line.startswith(":")]
        out += [
            f"-A {line.split(' ', 1)[1].replace(' 1 ', ' ', 1)}" if line.startswith("-I") else line
            for line in lines[1:]
        ]
        out += [foreign, "COMMIT"]
    return "\n".join(line for line in out if line and not (line.startswith(":NUNET") and out.count(line) > 2)) + "\n"


def test_a_public_port_leads_in_from_outside_and_from_the_machine_itself() -> None:
    text = restore_text(RULES, "iptables", "")
    lead = "-p tcp --dport 18080 -j DNAT --to-destination 10.1.2.3:80"
    chains = RULES.chains
    assert f"-A {chains}DST {lead}\n" in text
    assert f"-A {chains}OUT {lead}\n" in text
    assert f"-A {chains}FWD -d 10.1.2.3 -o dms-1234 -p tcp --dport 80 -m conntrack --ctstate DNAT -j ACCEPT\n" in text
    assert f"-A {chains}SRC -m conntrack --ctstate DNAT -j SNAT --to-source 10.1.2.1\n" in text
    assert "MASQUERADE" not in text, "nothing but what comes in by these ports changes its source"


def test_a_port_of_one_address_of_the_machine_is_led_for_that_address_only() -> None:
    rules = replace(RULES, mappings=(replace(WEB, source=IPv4Address("192.0.2.7")),))
    assert "DST -p tcp -d 192.0.2.7 --dport 18080 -j DNAT" in restore_text(rules, "iptables", "")


def test_the_host_is_closed_to_the_device_for_both_families() -> None:
    for tool in ("iptables", "ip6tables"):
        lines = restore_text(RULES, tool, "").splitlines()
        own = [line for line in lines if line.startswith(f"-A {RULES.chains}IN ")]
        assert [line.split(" -j ")[1] for line in own] == ["ACCEPT", "DROP"]
        assert f"-I INPUT 1 -i dms-1234 -j {RULES.chains}IN" in lines
    assert "10.1.2.3" not in restore_text(RULES, "ip6tables", "")
    assert "*nat" not in restore_text(RULES, "ip6tables", "")


def test_tcp_of_the_machine_to_members_that_only_streams_reach_is_led_to_a_socket() -> None:
    rules = replace(RULES, by_stream=(IPv4Address("10.1.2.4"), IPv4Address("10.1.2.5")), streams_port=4711)
    lines = restore_text(rules, "iptables", "").splitlines()
    assert f"-I OUTPUT 1 -o dms-1234 -p tcp -j {RULES.chains}STR" in lines
    assert [line for line in lines if line.startswith(f"-A {RULES.chains}STR ")] == [
        f"-A {RULES.chains}STR -d 10.1.2.{host}/32 -p tcp -j REDIRECT --to-ports 4711" for host in (4, 5)
    ]
    assert f"-D OUTPUT -o dms-1234 -p tcp -j {RULES.chains}STR" in removal_text(saved("\n".join(lines)), "NUNET-")


def test_doing_it_twice_adds_no_second_jump() -> None:
    first = restore_text(RULES, "iptables", "")
    again = restore_text(RULES, "iptables", saved(first))
    assert "-I " in first
    assert "-I " not in again


def test_names_of_chains_fit_and_tell_owners_and_networks_apart() -> None:
    names = {chains_of(owner, subnet) for owner in ("a", "b") for subnet in ("x", "y")}
    assert len(names) == 4
    assert all(
        len(name) + 3 <= 28 and name.startswith(chains_of("a"))
        for name in names
        if name in (chains_of("a", "x"), chains_of("a", "y"))
    )
    assert not chains_of("b", "x").startswith(chains_of("a"))


def test_removing_takes_the_jumps_and_the_chains_and_nothing_else() -> None:
    foreign = "-A INPUT -p tcp --dport 22 -j OTHER-CHAIN"
    now = saved(restore_text(RULES, "iptables", ""), foreign=foreign)
    text = removal_text(now, chains_of("peer"))
    assert "OTHER-CHAIN" not in text
    for table in ("*filter", "*nat"):
        assert table in text
    for end, hook in (("IN", "INPUT"), ("DST", "PREROUTING"), ("OUT", "OUTPUT"), ("SRC", "POSTROUTING")):
        assert f"-D {hook} " in text
        assert f"-F {RULES.chains}{end}\n" in text
        assert f"-X {RULES.chains}{end}\n" in text
    assert text.count("-D FORWARD ") == 2
    assert removal_text(now, chains_of("somebody else")) == ""
    assert removal_text(now, chains_of("peer", "other network")) == ""
    assert removal_text("", chains_of("peer")) == ""


@given(st.text(max_size=300))
def test_whatever_the_tool_says_is_read(text: str) -> None:
    removal_text(text, chains_of("peer"))
    removal_text(f"*filter\n:{RULES.chains}IN - [0:0]\n{text}\nCOMMIT\n", chains_of("peer"))
