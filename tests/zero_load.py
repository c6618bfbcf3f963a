"""One rank that loads a model in shards, and tells how much memory that took; see tests/test_strategies.py.

Called with the folders of a small model and of the model that is measured; RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT come from the environment.
"""

import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from persllm.language_model import load_base
from persllm.training import distributed
from persllm.training.strategy import load_in_shards
from persllm.training.zero import zero_config


def anonymous():
    """Return this process's memory that no file backs: what of a file is read can be dropped again."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def main(small, folder):
    import deepspeed

    distributed.init(torch.device("cpu"))
    deepspeed.init_distributed("gloo")
    with load_in_shards(zero_config("zero3", 64, "float32", 1, 1.0)):
        # What a first model costs whatever its size: imports, and the buffers of gloo.
        load_base(small, "float32")
    before, most, going = anonymous(), 0, True

    def watch():
        nonlocal most
        while going:
            most = max(most, anonymous())
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    with load_in_shards(zero_config("zero3", 1024, "float32", 1, 1.0)):
        model = load_base(folder, "float32")
    going = False
    thread.join()
    whole = sum(p.ds_numel for p in model.parameters()) * 4
    own = sum(p.ds_tensor.nbytes for p in model.parameters())
    largest = max(p.ds_numel for p in model.parameters()) * 4
    told = {"whole": whole, "own": own, "largest": largest, "most": most - before}
    for rank in range(distributed.world()):
        distributed.barrier()
        if rank == distributed.rank():
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
