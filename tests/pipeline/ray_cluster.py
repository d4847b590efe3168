"""A Ray cluster of two nodes of one CPU on this machine: prints its address, then does what each line of input says.

python -m tests.pipeline.ray_cluster        lines: "kill node", "kill head"; ends with its input
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line == "kill node\n":
            cluster.remove_node(node, allow_graceful=False)
        else:
            cluster.head_node.kill_gcs_server()
    cluster.shutdown()


if __name__ == "__main__":
    main()
