"""Every kind of port with a live PostgreSQL: frames lost, doubled and late at 1, 5 and 10 %, under load; and a link that is away for 10 s.

    port_matrix.py [--rounds N] [--seconds N] [KIND...]        KIND: memif, af_packet, af_xdp, kernel_udp, "af_packet to kernel_udp",
                                                           or two NICs of this host, bound to vfio-pci and joined by a cable: "0000:01:00.0 to 0000:02:00.0"

The suite has these for a few seconds each (any_loss_over_*, a_link_comes_back); here they are longer, on every kind, with new seeds.
"""

import argparse
import random
import sys
import time

from cluster import Failure
from namespaces import cluster_over, is_nics
from scenarios_network import link_comes_back, loses_nothing_at_any_loss

KINDS = ("memif", "af_packet", "af_xdp", "kernel_udp", "af_packet to kernel_udp")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=10, help="of load at each rate of loss")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("kinds", nargs="*", metavar="KIND", default=KINDS)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    cells = {
        "loss": lambda cluster, kind: loses_nothing_at_any_loss(cluster, seconds=arguments.seconds),
        "link": lambda cluster, kind: link_comes_back(cluster),
    }
    failed = []
    for number in range(1, arguments.rounds + 1):
        for kind in arguments.kinds:
            for cell, run in cells.items():
                if cell == "link" and is_nics(kind):
                    continue  # Somebody would have to pull the cable.
                print(f"==> round {number}, {kind}, {cell} (seed {arguments.seed})", flush=True)
                began = time.monotonic()
                try:
                    with cluster_over(kind) as cluster:
                        run(cluster, kind)
                except Failure as failure:
                    print(f"FAILED: {failure}", flush=True)
                    failed.append(f"{kind} {cell}")
                print(f"    {time.monotonic() - began:.0f} s", flush=True)
    print(f"{len(failed)} cells failed{': ' + ', '.join(failed) if failed else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
