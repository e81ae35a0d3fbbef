"""Which photos a micro batch has, all of one bucket: a function of the seed and of its number alone. Pure.

A round has as many micro batches as there are draws, and each bucket has a micro batch of it for each of
its draws; within a bucket the draws are shuffled on their own. After a round all draws were taken equally
often: as often as a micro batch has photos.
"""

from collections.abc import Sequence

from darkroom_trainer.training.streams import Stream, shuffled, shuffled_index


def draws_of_micro_batch(
    seed: int, draws: Sequence[int], number: int, size: int
) -> tuple[int, list[int]]:
    """The bucket of a micro batch of `size` photos, and which of the bucket's draws it has.

    Micro batches are numbered over all steps and ranks; `draws` are how many draws each bucket has. With
    one bucket these are all its draws in a new order, again and again, whatever the size.
    """
    buckets = [bucket for bucket, count in enumerate(draws) for _ in range(count)]
    turn, place = divmod(number, len(buckets))
    order = shuffled(seed, Stream.BUCKET_ORDER, turn, len(buckets))
    until_now = [buckets[draw] for draw in order[: place + 1]]
    bucket = until_now[-1]
    first = (turn * draws[bucket] + until_now.count(bucket) - 1) * size
    return bucket, [
        shuffled_index(seed, Stream.INSTANCE_ORDER, position, draws[bucket], lane=bucket)
        for position in range(first, first + size)
    ]
