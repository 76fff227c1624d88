"""Pictures a few frames at a time, on the CPU in several threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

BATCH = {"cpu": 2, "cuda": 16}  # frames drawn at a time


def batches(frames: Sequence[int], device: torch.device) -> list[Tensor]:
    """Numbers of frames, in tensors of a few."""
    return list(torch.tensor(list(frames)).split(BATCH[device.type]))


def in_threads(draw: Callable, batches: Iterable, device: torch.device) -> Iterator:
    """map(draw, batches), on the CPU in as many threads as torch has, each at a batch of its own.

    That scales better than all threads at each of the thousands of small operations that a batch consists of, and what
    is drawn does not depend on the number of threads.
    """
    threads = torch.get_num_threads()
    workers = threads if device.type == "cpu" else 1
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers) as pool:
            coming = deque()
            for batch in batches:
                coming.append(pool.submit(draw, batch))
                if len(coming) > workers:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
    finally:
        torch.set_num_threads(threads)
