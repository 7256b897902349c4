"""A VLAN interface for kernels without CONFIG_VLAN_8021Q:  vlan_interface.py TRUNK NAME ID  makes NAME, whose frames go over TRUNK tagged."""

import fcntl
import os
import select
import socket
import struct
import sys

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 1 << 4
ALL, SO_RCVBUFFORCE = 0x0003, 33


def tag_of(controls):
    """The tag that the kernel took off a received packet; None: it had none."""
    for level, kind, data in controls:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tag, _ = struct.unpack("IIIHHHH", data[:20])
            return tag & 0xFFF if status & TP_STATUS_VLAN_VALID else None
    return None


def main():
    trunk_name, name, vlan = sys.argv[1], sys.argv[2], int(sys.argv[3])
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    trunk = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    trunk.bind((trunk_name, ALL))
    trunk.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    trunk.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    while True:
        for ready in select.select([tap, trunk], [], [])[0]:
            if ready == tap:
                frame = os.read(tap, 65536)
                trunk.send(frame[:12] + struct.pack("!HH", 0x8100, vlan) + frame[12:])
                continue
            frame, controls, _, sender = trunk.recvmsg(65536, 256)
            if sender[2] != socket.PACKET_OUTGOING and tag_of(controls) == vlan:
                try:
                    os.write(tap, frame)
                except OSError:  # Not up yet.
                    continue


if __name__ == "__main__":
    main()
