"""Times as Kubernetes writes them, in UTC: in whole seconds, or as a MicroTime."""

from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """The time on this machine's clock."""
    return datetime.now(UTC)


def parse_time(text: str) -> datetime:
    """A time out of an object's metadata or status."""
    return datetime.fromisoformat(text)


def format_time(time: datetime) -> str:
    """A time for a status, cut to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(time: datetime) -> str:
    """A time for what Kubernetes keeps to the microsecond: a Lease, an event."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_between(start: str, end: datetime) -> int:
    """Whole seconds since a time in a status; never negative, whatever the clocks say."""
    return max(0, int((end - parse_time(start)) / timedelta(seconds=1)))
