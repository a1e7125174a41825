from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.outbound.addresses import AllowedHosts, is_public, literal_address


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_every_way_to_embed_an_ipv4_address_is_judged_like_it(address: IPv4Address) -> None:
    number = int(address)
    mapped = IPv6Address((0xFFFF << 32) | number)
    nat64 = IPv6Address((0x64FF9B << 96) | number)
    six_to_four = IPv6Address((0x2002 << 112) | (number << 80) | 1)
    assert {is_public(one) for one in (mapped, nat64, six_to_four)} == {is_public(address)}


PRIVATE = ["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]


@given(st.sampled_from(PRIVATE).flatmap(lambda network: st.ip_addresses(network=network)))
def test_no_private_address_is_public(address: IPv4Address) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=6).filter(lambda address: address not in ip_network("2000::/3")))
def test_outside_global_unicast_only_translations_of_public_addresses_are_public(address: IPv6Address) -> None:
    assert not is_public(address) or address.ipv4_mapped or address in ip_network("64:ff9b::/96")


@given(st.ip_addresses(v=4))
def test_whatever_python_knows_to_be_private_is_not_public(address: IPv4Address) -> None:
    assert not (is_public(address) and not address.is_global)


@pytest.mark.parametrize("host", ["example.com", "a_b", "1.example", "example.com.", "0x7f.example", "cafe", "ff.fade"])
def test_names_are_no_addresses(host: str) -> None:
    assert literal_address(host) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1.", "::1", "::ffff:7f00:1"])
def test_canonical_addresses_are_read(host: str) -> None:
    address = literal_address(host)
    assert address is not None
    assert not is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0x0.0.0x1",
        "1.2.3.4.5",
        "example.1",
        "fe80::1%eth0",
        "fe80::1%25eth0",
        "127%2e0.0.1",
        ":::",
    ],
)
def test_odd_spellings_are_errors(host: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        literal_address(host)


def test_allowed_hosts() -> None:
    allowed = AllowedHosts(["Media.internal", "minio:9000", "[::1]:8080", "fd00::5", "10.0.0.7:81"])
    assert allowed.allows("media.internal", 80)
    assert allowed.allows("MEDIA.internal.", 1234)
    assert allowed.allows("minio", 9000)
    assert not allowed.allows("minio", 9001)
    assert not allowed.allows("evil-minio", 9000)
    assert allowed.allows("::1", 8080)
    assert not allowed.allows("::1", 80)
    assert allowed.allows("fd00::5", 443)
    assert allowed.allows("10.0.0.7", 81)
    assert not allowed.allows("10.0.0.7", 80)
