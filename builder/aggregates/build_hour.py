"""Build hours: the `YYYYMMDDHH` that every form of build id is reduced to."""

from datetime import UTC, datetime, timedelta

HOUR_FORMAT = "%Y%m%d%H"
FENIX_FIRST_YEAR = 2018
FENIX_EPOCH = datetime(2014, 12, 28, tzinfo=UTC)
FENIX_HOUR_SHIFT, FENIX_HOUR_MASK = 3, (1 << 17) - 1


def build_hour_to_datetime(build_hour: str) -> datetime:
    """The start of the build hour in UTC. Raises ValueError for a text that is no build hour."""
    return _parse(build_hour, HOUR_FORMAT, digits=10)


def build_seconds_to_hour(build_id: str) -> str:
    """The build hour of a desktop build id of 14 digits. Raises ValueError where it is no date."""
    return _parse(build_id, "%Y%m%d%H%M%S", digits=14).strftime(HOUR_FORMAT)


def fenix_build_to_build_hour(build_id: str) -> str:
    """The build hour of an Android build id of 8 or 10 digits. Raises ValueError for anything else."""
    if not (build_id.isascii() and build_id.isdigit()):
        raise ValueError(f"not a build id: {build_id!r}")
    if len(build_id) == 8:
        year = FENIX_FIRST_YEAR + int(build_id[0])
        built = _parse(f"{year}{build_id[1:]}", "%Y%j%H%M", digits=11)
        if built.year != year:  # strptime takes day 366 of every year
            raise ValueError(f"no day of the year matches: {build_id!r}")
        return built.strftime(HOUR_FORMAT)
    if len(build_id) == 10:
        hours = (int(build_id) >> FENIX_HOUR_SHIFT) & FENIX_HOUR_MASK
        return (FENIX_EPOCH + timedelta(hours=hours)).strftime(HOUR_FORMAT)
    raise ValueError(f"neither 8 nor 10 digits: {build_id!r}")


def _parse(text: str, layout: str, *, digits: int) -> datetime:
    # strptime alone would take fewer digits than the layout has places.
    if not (text.isascii() and text.isdigit() and len(text) == digits):
        raise ValueError(f"not {digits} digits: {text!r}")
    return datetime.strptime(text, layout).replace(tzinfo=UTC)
